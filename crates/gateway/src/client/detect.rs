//! Tells TLS, HTTP and everything else apart by the first bytes of a tunnel.

use std::io;

use bytes::Bytes;
use tokio::io::AsyncReadExt;

use crate::{bounded_stream::BoundedStream, limits::SNIFF_BYTES};

/// What the first bytes in a tunnel are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Tls,
    Http,
    Unknown,
}

/// Reads until it is clear what the client speaks, and gives back what was read. `None`: it said nothing.
pub(super) async fn detect(stream: &mut BoundedStream) -> io::Result<Option<Protocol>> {
    let mut read = Vec::with_capacity(SNIFF_BYTES);
    let protocol = loop {
        let mut buffer = [0; SNIFF_BYTES];
        let length = stream.read(&mut buffer[..SNIFF_BYTES - read.len()]).await?;
        read.extend_from_slice(&buffer[..length]);
        match recognise(&read) {
            Some(protocol) => break Some(protocol),
            None if length == 0 && read.is_empty() => break None,
            None if length == 0 || read.len() >= SNIFF_BYTES => break Some(Protocol::Unknown),
            None => {}
        }
    };
    stream.unread(Bytes::from(read));
    Ok(protocol)
}

/// A TLS record of type handshake, or a request line: a method and the start of a target. `None`: more is
/// needed.
fn recognise(start: &[u8]) -> Option<Protocol> {
    const TLS_HANDSHAKE: u8 = 0x16;
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    match start {
        [] => None,
        [TLS_HANDSHAKE, ..] => Some(Protocol::Tls),
        _ => {
            let method = start.iter().take_while(|byte| is_token(byte)).count();
            match &start[method..] {
                [] | [b' '] => None,
                // SSH's banner would pass for a method and a space, but no target starts like its comment.
                [b' ', b'/' | b'*' | b'h' | b'H', ..] if method > 0 => Some(Protocol::Http),
                _ => Some(Protocol::Unknown),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_told_by_their_first_bytes() {
        for (start, expected) in [
            (&b""[..], None),
            (b"\x16\x03\x01", Some(Protocol::Tls)),
            (b"GET", None),
            (b"GET ", None),
            (b"GET /", Some(Protocol::Http)),
            (b"OPTIONS * HTTP/1.1", Some(Protocol::Http)),
            (b"PROPFIND http://a/", Some(Protocol::Http)),
            (b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", Some(Protocol::Unknown)),
            (b"SSH-2.0-Go\r\n", Some(Protocol::Unknown)),
            (b" GET /", Some(Protocol::Unknown)),
            (b"\0\0\0", Some(Protocol::Unknown)),
            (b"EHLO there\r\n", Some(Protocol::Unknown)),
        ] {
            assert_eq!(recognise(start), expected, "{}", start.escape_ascii());
        }
    }
}
