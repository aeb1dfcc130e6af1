//! The head of a request.

use http::Uri;

use super::{Chunk, Framing, Unreadable, Unreadable::Ambiguous};
use crate::limits::MAX_HEADERS;

/// The search for the end of a head. It goes on where it stopped, so that a head that comes byte by byte
/// costs no more than one that comes whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scan {
    at: usize,
    previous: u8,
    line_is_empty: bool,
    is_first_line: bool,
}

impl Default for Scan {
    fn default() -> Self {
        Self { at: 0, previous: 0, line_is_empty: true, is_first_line: true }
    }
}

impl Scan {
    /// Where the head ends, if it does. Lines that end in anything but CR and LF are found before the head is
    /// whole: a lenient reader would take them for its end.
    pub(super) fn end(&mut self, bytes: &[u8]) -> Result<Option<usize>, Unreadable> {
        while let Some(byte) = bytes.get(self.at).copied() {
            self.at += 1;
            match (self.previous, byte) {
                // One empty line before a request is ignored by everybody: old clients end their bodies with
                // one.
                (b'\r', b'\n') if self.line_is_empty && self.is_first_line => {
                    if self.at > 2 {
                        return Err(Ambiguous);
                    }
                }
                (b'\r', b'\n') if self.line_is_empty => return Ok(Some(self.at)),
                (b'\r', b'\n') => (self.line_is_empty, self.is_first_line) = (true, false),
                (b'\r', _) | (_, b'\n' | 0) => return Err(Ambiguous),
                (_, b'\r') => {}
                _ => self.line_is_empty = false,
            }
            self.previous = byte;
        }
        Ok(None)
    }
}

/// What follows a whole head.
pub(super) fn body(head: &[u8]) -> Result<Framing, Unreadable> {
    let head = head.strip_prefix(b"\r\n").unwrap_or(head);
    let head = head.strip_suffix(b"\r\n\r\n").ok_or(Ambiguous)?;
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let request = RequestLine::parse(lines.next().ok_or(Ambiguous)?)?;
    let mut length = None;
    let mut is_chunked = false;
    let mut is_upgrade = false;
    for (number, line) in lines.enumerate() {
        if number >= MAX_HEADERS {
            return Err(Unreadable::TooLarge);
        }
        let (name, value) = field(line)?;
        if name.eq_ignore_ascii_case(b"content-length") {
            if length.replace(content_length(value)?).is_some() {
                return Err(Ambiguous);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if is_chunked || !value.eq_ignore_ascii_case(b"chunked") || !request.is_1_1 {
                return Err(Ambiguous);
            }
            is_chunked = true;
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            is_upgrade |= names(value, b"websocket");
        } else if name.eq_ignore_ascii_case(b"connection") {
            // `Connection: content-length` would make the next hop drop the framing.
            if value.split(|byte| *byte == b',').any(|named| frames_the_message(named.trim_ascii())) {
                return Err(Ambiguous);
            }
        }
    }
    match (length, is_chunked, is_upgrade || request.is_connect) {
        (Some(_), true, _) => Err(Ambiguous),
        (None | Some(0), false, true) => Ok(Framing::Undecided),
        (Some(1..), _, true) | (None, true, true) => Err(Ambiguous),
        (None, true, false) => Ok(Framing::Chunked(Chunk::Size)),
        (None | Some(0), false, false) => Ok(Framing::message()),
        (Some(length), false, false) => Ok(Framing::Body(length)),
    }
}

struct RequestLine {
    is_connect: bool,
    is_1_1: bool,
}

impl RequestLine {
    /// Three words with one space between them (RFC 9112 section 3).
    fn parse(line: &[u8]) -> Result<Self, Unreadable> {
        let mut words = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Ambiguous);
        };
        // Beyond what RFC 9112 section 3.2 allows, UTF-8 passes: browsers and curl send it as it was typed.
        if !is_token(method) || Uri::try_from(target).is_err() {
            return Err(Ambiguous);
        }
        let is_1_1 = match version {
            b"HTTP/1.1" => true,
            b"HTTP/1.0" => false,
            _ => return Err(Ambiguous),
        };
        Ok(Self { is_connect: method == b"CONNECT", is_1_1 })
    }
}

/// Name and value of a header or trailer line, without the white space around the value.
pub(super) fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Unreadable> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or(Ambiguous)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    // Refuse obs-fold and white space before the colon: parsers disagree on both (RFC 9112 sections 5.1,
    // 5.2).
    let in_value = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7F);
    if !is_token(name) || !value.iter().all(in_value) {
        return Err(Ambiguous);
    }
    Ok((name, value.trim_ascii()))
}

/// The first line, without its CR and LF, if it is there already; it may have so many bytes.
pub(super) fn line(bytes: &[u8], limit: usize) -> Result<Option<&[u8]>, Unreadable> {
    let Some(end) = bytes.iter().take(limit).position(|byte| matches!(byte, b'\r' | b'\n' | 0)) else {
        return if bytes.len() >= limit { Err(Ambiguous) } else { Ok(None) };
    };
    match bytes[end..] {
        [b'\r', b'\n', ..] => Ok(Some(&bytes[..end])),
        [b'\r'] => Ok(None),
        _ => Err(Ambiguous),
    }
}

/// Whether a field of this name says where the message ends, or for whom it is.
pub(super) fn frames_the_message(name: &[u8]) -> bool {
    [&b"content-length"[..], b"transfer-encoding", b"host"]
        .iter()
        .any(|framing| name.eq_ignore_ascii_case(framing))
}

fn is_token(word: &[u8]) -> bool {
    let in_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !word.is_empty() && word.iter().all(in_token)
}

/// Digits alone: no sign, no list, no other base.
fn content_length(value: &[u8]) -> Result<u64, Unreadable> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return Err(Ambiguous);
    }
    std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok()).ok_or(Ambiguous)
}

fn names(list: &[u8], token: &[u8]) -> bool {
    list.split(|byte| *byte == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(token))
}
