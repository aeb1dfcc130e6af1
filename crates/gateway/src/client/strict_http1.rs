//! Where each message of a client's HTTP/1.1 connection begins and ends, read so strictly that nobody can
//! read it in another way (RFC 9112; CWE-444).
//!
//! An HTTP library is lenient where the standard lets it be: it drops a `Content-Length` beside a
//! `Transfer-Encoding`, takes a bare LF for the end of a line, folds lines. Each of these is a place where
//! two servers see two different requests in the same bytes. Here such bytes end the connection before the
//! library sees them. What passes is not changed.

use crate::limits::MAX_HEAD_BYTES;

mod head;
mod stream;

pub(super) use stream::StrictStream;

/// What comes next on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Framing {
    /// A message's head, of which nothing has passed.
    Head(head::Scan),
    /// So many bytes of a body.
    Body(u64),
    /// A chunked body.
    Chunked(Chunk),
    /// It depends on the answer: the client asked to go on with another protocol.
    Undecided,
}

/// Where in a chunked body (RFC 9112 section 7.1).
#[derive(Debug, Clone, PartialEq, Eq)]
enum Chunk {
    /// Before a chunk's size.
    Size,
    /// So many bytes of data, and CR and LF after them.
    Data(u64),
    /// Before the CR and LF that end a chunk.
    DataEnd,
    /// In the lines after the last chunk, of whose bytes so many have passed.
    Trailers(usize),
}

/// Why the bytes of a client are not read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// They can be read in more than one way, or in none.
    Ambiguous,
    /// A head is longer, or has more fields, than any that is accepted.
    TooLarge,
}

/// Bytes of the line that begins a chunk: its size, and extensions that nobody uses.
const MAX_CHUNK_LINE: usize = 256;

/// Bytes of one line after a chunked body.
const MAX_TRAILER_LINE: usize = 8 * 1024;

impl Framing {
    /// Before a message.
    fn message() -> Self {
        Self::Head(head::Scan::default())
    }

    /// How many of the bytes at the front may pass now, and what follows them. None may pass before there are
    /// more.
    fn advance(&mut self, bytes: &[u8]) -> Result<usize, Unreadable> {
        match self {
            Self::Head(scan) => {
                let end = scan.end(bytes)?;
                if end.unwrap_or(bytes.len()) > MAX_HEAD_BYTES {
                    return Err(Unreadable::TooLarge);
                }
                let Some(length) = end else { return Ok(0) };
                *self = head::body(&bytes[..length])?;
                Ok(length)
            }
            Self::Body(remaining) => {
                let passing = usize::try_from(*remaining).unwrap_or(usize::MAX).min(bytes.len());
                *remaining -= passing as u64;
                if *remaining == 0 {
                    *self = Self::message();
                }
                Ok(passing)
            }
            Self::Chunked(chunk) => match chunk.advance(bytes)? {
                Some(passing) => Ok(passing),
                None => {
                    *self = Self::message();
                    Ok(2)
                }
            },
            Self::Undecided => Ok(0),
        }
    }
}

impl Chunk {
    /// As [`Framing::advance`]; `None` where the next two bytes end the body.
    fn advance(&mut self, bytes: &[u8]) -> Result<Option<usize>, Unreadable> {
        match self {
            Self::Size => {
                let Some(line) = head::line(bytes, MAX_CHUNK_LINE)? else { return Ok(Some(0)) };
                *self = match chunk_size(line)? {
                    0 => Self::Trailers(0),
                    size => Self::Data(size),
                };
                Ok(Some(line.len() + 2))
            }
            Self::Data(remaining) => {
                let passing = usize::try_from(*remaining).unwrap_or(usize::MAX).min(bytes.len());
                *remaining -= passing as u64;
                if *remaining == 0 {
                    *self = Self::DataEnd;
                }
                Ok(Some(passing))
            }
            Self::DataEnd => match bytes {
                [b'\r', b'\n', ..] => {
                    *self = Self::Size;
                    Ok(Some(2))
                }
                [] | [b'\r'] => Ok(Some(0)),
                _ => Err(Unreadable::Ambiguous),
            },
            Self::Trailers(passed) => {
                let Some(line) = head::line(bytes, MAX_TRAILER_LINE)? else { return Ok(Some(0)) };
                if line.is_empty() {
                    return Ok(None);
                }
                let (name, _) = head::field(line)?;
                // A trailer that frames the message would do so after the fact (RFC 9110 section 6.5.1).
                if head::frames_the_message(name) {
                    return Err(Unreadable::Ambiguous);
                }
                *passed += line.len() + 2;
                if *passed > MAX_HEAD_BYTES {
                    return Err(Unreadable::Ambiguous);
                }
                Ok(Some(line.len() + 2))
            }
        }
    }
}

/// Hexadecimal digits alone, before extensions if there are any.
fn chunk_size(line: &[u8]) -> Result<u64, Unreadable> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    if digits.is_empty() || digits.len() > 15 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(Unreadable::Ambiguous);
    }
    std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .ok_or(Unreadable::Ambiguous)
}

#[cfg(test)]
mod tests;
