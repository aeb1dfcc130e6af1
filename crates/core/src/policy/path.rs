//! Paths that mean one thing only, and what git asks for in them.

use std::borrow::Cow;

/// What a git client asks of a server over HTTP (git's `gitprotocol-http`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GitService {
    /// A fetch.
    UploadPack,
    /// A push.
    ReceivePack,
}

/// The path with its escaped unreserved characters decoded (RFC 3986 section 6.2.2.2), or `None` where a
/// server could read it differently from us: dot segments, encoded or doubled separators that could hide
/// one, backslashes, control characters, broken escapes.
pub(crate) fn canonical(path: &str) -> Option<Cow<'_, str>> {
    if path.bytes().any(|byte| byte <= b' ' || byte == 0x7f || byte == b'\\') {
        return None;
    }
    let decoded = if path.contains('%') { Cow::Owned(decode_unreserved(path)?) } else { Cow::Borrowed(path) };
    // Some servers take `;` and what follows as a parameter of the segment: `/..;/admin`.
    let is_dot_segment = |segment: &str| matches!(segment.split(';').next(), Some("." | ".."));
    if decoded.split('/').any(is_dot_segment) {
        return None;
    }
    Some(decoded)
}

fn decode_unreserved(path: &str) -> Option<String> {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        decoded.push_str(&rest[..at]);
        let digits = rest.get(at + 1..at + 3)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        let byte = u8::from_str_radix(digits, 16).ok()?;
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                decoded.push(char::from(byte))
            }
            // An encoded separator is one segment to us and two to a server that decodes first; an encoded
            // percent sign is decoded twice by some.
            b'/' | b'\\' | 0..=0x1f | 0x7f => return None,
            b'%' if rest.get(at + 3..).is_some_and(starts_with_two_hex_digits) => return None,
            _ => {
                decoded.push('%');
                decoded.push_str(&digits.to_ascii_uppercase());
            }
        }
        rest = &rest[at + 3..];
    }
    decoded.push_str(rest);
    Some(decoded)
}

fn starts_with_two_hex_digits(rest: &str) -> bool {
    rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit())
}

/// What git asks for, if the request looks like git's smart HTTP. Judged by its shape alone, in any case, so
/// that a route for a forge's API does not become a way to push.
pub(super) fn git_service(canonical_path: &str, query: Option<&str>) -> Option<GitService> {
    let path = canonical_path.trim_end_matches('/').to_ascii_lowercase();
    let service = |name: &str| match name {
        "git-receive-pack" => Some(GitService::ReceivePack),
        "git-upload-pack" => Some(GitService::UploadPack),
        _ => None,
    };
    if let Some(found) = path.rsplit('/').next().and_then(service) {
        return Some(found);
    }
    if !path.ends_with("/info/refs") {
        return None;
    }
    // Any parameter that a server could take for `service`, however it is escaped; a push anywhere wins.
    let services: Vec<_> = query
        .unwrap_or_default()
        .split(['&', ';'])
        .filter_map(|pair| {
            let pair = percent_decode(pair).to_ascii_lowercase();
            pair.strip_prefix("service=").and_then(service)
        })
        .collect();
    services.iter().copied().find(|found| *found == GitService::ReceivePack).or(services.first().copied())
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = after
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (first, escaped) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
