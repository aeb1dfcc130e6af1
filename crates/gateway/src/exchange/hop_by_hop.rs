//! Removes what is for one hop alone (RFC 9110 section 7.6.1).

use bot_bottle_core::policy::same_field;
use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Fields for one hop, besides those that `Connection` names.
pub(super) const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authentication-info",
    "te",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// Whether `Upgrade` belongs to the message or to the hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upgrade {
    /// The message asks for, or grants, a WebSocket.
    WebSocket,
    /// Whatever it says about upgrading is dropped.
    None,
}

/// Removes the hop-by-hop fields of a request.
pub(super) fn request(headers: &mut HeaderMap, upgrade: Upgrade) {
    // gRPC needs `TE: trailers`; the field is hop-by-hop, so it is set again for the next hop.
    let accepts_trailers = headers.get_all(header::TE).iter().any(|value| {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .any(|part| part.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    });
    remove(headers, upgrade);
    if accepts_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// Removes the hop-by-hop fields of a response, and leaves one reading of where its body ends.
pub(super) fn response(headers: &mut HeaderMap, upgrade: Upgrade) {
    // Chunks decide where a response ends that has both (RFC 9112 section 6.3); the length would frame it
    // anew for the client.
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    // Several equal lengths are one (RFC 9110 section 8.6); hyper refuses those that differ.
    if let Some(length) = headers.get(header::CONTENT_LENGTH) {
        let first = length.as_bytes().split(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
        if let Ok(length) = HeaderValue::from_bytes(first) {
            headers.insert(header::CONTENT_LENGTH, length);
        }
    }
    remove(headers, upgrade);
}

fn remove(headers: &mut HeaderMap, upgrade: Upgrade) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok())
        // `Connection: content-length` would take away the framing, `Connection: host` the destination.
        .filter(|name| *name != header::HOST && *name != header::CONTENT_LENGTH)
        .collect();
    let kept = match upgrade {
        Upgrade::WebSocket => headers.remove(header::UPGRADE),
        Upgrade::None => None,
    };
    for name in named {
        headers.remove(name);
    }
    drop_fields(headers, |name| is_one_of(&HOP_BY_HOP, name));
    if let Some(kept) = kept {
        headers.insert(header::UPGRADE, kept);
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

/// Removes every value of the fields whose name, in lower case, matches.
pub(super) fn drop_fields(headers: &mut HeaderMap, matches: impl Fn(&str) -> bool) {
    let matching: Vec<HeaderName> = headers.keys().filter(|name| matches(name.as_str())).cloned().collect();
    for name in matching {
        headers.remove(name);
    }
}

/// Whether a field's name is in the list, as servers compare names that map `-` and `_` to one.
pub(super) fn is_one_of(list: &[&str], name: &str) -> bool {
    list.iter().any(|listed| same_field(listed, name))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::exchange) fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| {
                let name: HeaderName = name.parse().expect("a name");
                (name, HeaderValue::from_str(value).expect("a value"))
            })
            .collect()
    }

    #[test]
    fn hop_by_hop_headers_are_removed() {
        let mut asked = headers(&[
            ("connection", "close, X-Mine, host, content-length"),
            ("x-mine", "1"),
            ("host", "a"),
            ("content-length", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("te", "gzip, Trailers"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABkAAQAAP__"),
            ("accept", "*/*"),
        ]);
        request(&mut asked, Upgrade::None);
        let expected =
            headers(&[("host", "a"), ("content-length", "1"), ("te", "trailers"), ("accept", "*/*")]);
        assert_eq!(asked, expected);
    }

    #[test]
    fn a_websocket_keeps_its_upgrade() {
        let mut asked = headers(&[("connection", "Upgrade"), ("upgrade", "websocket")]);
        request(&mut asked, Upgrade::WebSocket);
        assert_eq!(asked, headers(&[("connection", "upgrade"), ("upgrade", "websocket")]));
    }
}
