//! What a path may mean to a server.

use std::{borrow::Cow, collections::BTreeSet};

use super::overrides::DECODINGS;

/// What servers take for the border between two segments.
const SEPARATORS: [&[&str]; 4] = [&["/"], &["/", "%2F"], &["/", "\\", "%5C"], &["/", "%2F", "\\", "%5C"]];

/// The path in the spelling that routes are written in: its escaped unreserved characters are decoded (RFC
/// 3986 section 6.2.2.2). `None` where a server could read it differently: dot segments, encoded separators,
/// backslashes, control characters, broken escapes.
pub(crate) fn canonical(path: &str) -> Option<Cow<'_, str>> {
    let decoded = decode_unreserved(path)?;
    let readings = readings(path)?;
    (readings.len() == 1).then_some(decoded)
}

/// Every reading of a path by some server, each in the spelling that routes are written in: escapes decoded
/// once or again, an encoded slash or a backslash as a character or as a separator, parameters (`;x`) kept or
/// dropped, repeated slashes kept or merged, dot segments kept or resolved. `None` where a reading cannot be
/// told: control characters, which end a path for some, and broken escapes.
pub(super) fn readings(path: &str) -> Option<BTreeSet<String>> {
    let mut decoded = decode_unreserved(path)?.into_owned();
    let mut readings = BTreeSet::from([decoded.clone()]);
    // Most paths have one reading.
    if !has_choices(&decoded) {
        return Some(readings);
    }
    for _ in 0..DECODINGS {
        for separators in SEPARATORS {
            let separated = separators.iter().fold(decoded.clone(), |path, other| path.replace(other, "/"));
            for path in [without_parameters(&separated), separated] {
                readings.insert(resolved(&path, false));
                readings.insert(resolved(&path, true));
                readings.insert(path);
            }
        }
        let again = decode_again(&decoded)?;
        if again == decoded {
            break;
        }
        decoded = again;
    }
    Some(readings)
}

fn has_choices(path: &str) -> bool {
    path.contains(['\\', ';'])
        || ["%25", "%2F", "%5C", "%3B", "//"].iter().any(|choice| path.contains(choice))
        || path.split('/').any(|segment| matches!(segment, "." | ".."))
}

/// Decodes escaped unreserved characters, writes other escapes in upper case, and refuses what a server could
/// stop at.
fn decode_unreserved(path: &str) -> Option<Cow<'_, str>> {
    if path.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return None;
    }
    if !path.contains('%') {
        return Some(Cow::Borrowed(path));
    }
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        decoded.push_str(&rest[..at]);
        let digits = rest.get(at + 1..at + 3)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        match u8::from_str_radix(digits, 16).ok()? {
            byte @ (b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~') => {
                decoded.push(char::from(byte));
            }
            0..=0x1f | 0x7f => return None,
            _ => {
                decoded.push('%');
                decoded.push_str(&digits.to_ascii_uppercase());
            }
        }
        rest = &rest[at + 3..];
    }
    decoded.push_str(rest);
    Some(Cow::Owned(decoded))
}

/// The same path for who decodes once more.
fn decode_again(path: &str) -> Option<String> {
    let mut again = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find("%25") {
        let (before, after) = (&rest[..at], &rest[at + 3..]);
        let is_escape =
            after.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        again.push_str(before);
        // A percent sign that is none of an escape stays what it is.
        again.push_str(if is_escape { "%" } else { "%25" });
        rest = after;
    }
    again.push_str(rest);
    decode_unreserved(&again).map(Cow::into_owned)
}

/// Without what follows `;` in each segment, as servers of Java read it (`/..;/admin`).
fn without_parameters(path: &str) -> String {
    let plain = path.replace("%3B", ";");
    plain
        .split('/')
        .map(|segment| segment.split(';').next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("/")
}

/// Without dot segments (RFC 3986 section 5.2.4), and with repeated slashes `merged` into one before.
fn resolved(path: &str, merged: bool) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<_> = path.split('/').skip(1).collect();
    let last = segments.len().saturating_sub(1);
    for (at, segment) in segments.into_iter().enumerate() {
        match segment {
            "" if merged && at != last => {}
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if at == last {
                    kept.push("");
                }
            }
            _ => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_path_has_one_reading() {
        for path in ["/", "/a/b", "/a/b/", "/a.b/..c/%C3%A9", "/%61", "/@types", "/a%20b", "/a=b&c"] {
            assert_eq!(readings(path).map(|readings| readings.len()), Some(1), "{path}");
            assert!(canonical(path).is_some(), "{path}");
        }
        assert_eq!(canonical("/%61%2a"), Some("/a%2A".into()));
    }

    #[test]
    fn every_reading_of_a_path_is_found() {
        for (path, expected) in [
            ("/a%2fb", &["/a%2Fb", "/a/b"][..]),
            ("/a/../b", &["/a/../b", "/b"]),
            ("/a/%2e%2E/b", &["/a/../b", "/b"]),
            ("/a/..;x/b", &["/a/..;x/b", "/a/../b", "/b"]),
            ("/a/..%3bx/b", &["/b"]),
            ("/a/..%2fb", &["/a/..%2Fb", "/b"]),
            ("/a/..%5cb", &["/a/..%5Cb", "/b"]),
            ("/a/..\\b", &["/a/..\\b", "/b"]),
            ("/a/%252e%252e/b", &["/a/%252e%252e/b", "/b"]),
            ("/a/%25252e%25252e%25252fb", &["/b"]),
            ("/a//../b", &["/a//../b", "/a/b", "/b"]),
            ("//a", &["//a", "/a"]),
            ("/a/.", &["/a/.", "/a/"]),
            ("/../../a", &["/a"]),
            ("/100%25", &["/100%25"]),
        ] {
            let found = readings(path).expect(path);
            for reading in expected {
                assert!(found.contains(*reading), "{path}: {reading} is not in {found:?}");
            }
        }
    }

    #[test]
    fn what_some_servers_stop_at_has_no_readings() {
        for path in ["/a%00b", "/a%0d%0ab", "/a%2500b", "/%", "/%g1", "/%4", "/a\u{7f}", "/a b", "/%7f"] {
            assert_eq!(readings(path), None, "{path}");
        }
    }
}
