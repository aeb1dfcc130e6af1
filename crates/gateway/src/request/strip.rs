//! What is taken out of a message: what is for one hop alone, and what the agent may not say for itself. It comes
//! before the decision, which is made on what will be sent.

use bot_bottle_core::policy::{is_override, same_field};
use http::{HeaderMap, HeaderName, HeaderValue, header};

/// What the agent may not say for itself.
const CREDENTIALS: [&str; 3] = ["authorization", "x-api-key", "proxy-authorization"];

/// What is for one hop only (RFC 9110 section 7.6.1), besides what `Connection` names.
const ONE_HOP: [&str; 9] = [
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

/// What no trailer may be (RFC 9110 section 6.5.1): a server that merges trailers into the headers would frame,
/// route, authenticate or process the request by what nobody decided on.
const NOT_IN_TRAILERS: [&str; 16] = [
    "host",
    "trailer",
    "cache-control",
    "expect",
    "max-forwards",
    "pragma",
    "range",
    "cookie",
    "set-cookie",
    "www-authenticate",
    "forwarded",
    "via",
    "date",
    "location",
    "accept",
    "origin",
];

/// Starts of names that no trailer may have, for the same reason.
const NOT_IN_TRAILERS_FROM: [&str; 8] =
    ["content-", "if-", "accept-", "sec-", "x-forwarded-", "x-http-method-", "x-method-", "x-original-"];

/// Whether `Upgrade` belongs to the message or to the hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upgrade {
    /// The message asks for, or grants, a WebSocket.
    WebSocket,
    /// Whatever it says about upgrading is dropped.
    None,
}

/// Leaves of a request's headers what goes on.
pub(crate) fn request(headers: &mut HeaderMap, upgrade: Upgrade) {
    // Servers send trailers, which gRPC needs, only to who accepts them.
    let accepts_trailers = headers.get_all(header::TE).iter().any(|value| {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .any(|part| part.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    });
    drop_one_hop(headers, upgrade);
    if accepts_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    drop_fields(headers, |name| is_one_of(&CREDENTIALS, name));
}

/// Leaves of a response's headers what goes back.
pub(crate) fn response(headers: &mut HeaderMap, upgrade: Upgrade) {
    drop_one_hop(headers, upgrade);
}

/// Leaves of a request's trailers what goes on: nothing that a header may not be, and nothing of the name of a
/// header that the decision was made on.
pub(crate) fn trailers(trailers: &mut HeaderMap, decided_on: &[String]) {
    drop_fields(trailers, |name| {
        let plain = name.replace('_', "-");
        is_one_of(&CREDENTIALS, name)
            || is_one_of(&ONE_HOP, name)
            || is_one_of(&NOT_IN_TRAILERS, name)
            || is_override(name)
            || NOT_IN_TRAILERS_FROM.iter().any(|start| plain.starts_with(start))
            || decided_on.iter().any(|decided| same_field(decided, name))
    });
}

fn is_one_of(list: &[&str], name: &str) -> bool {
    list.iter().any(|listed| same_field(listed, name))
}

/// Removes every value of the fields whose name, in lower case, is told to go.
fn drop_fields(headers: &mut HeaderMap, goes: impl Fn(&str) -> bool) {
    let going: Vec<HeaderName> = headers.keys().filter(|name| goes(name.as_str())).cloned().collect();
    for name in going {
        headers.remove(name);
    }
}

fn drop_one_hop(headers: &mut HeaderMap, upgrade: Upgrade) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok())
        // Nobody may use `Connection` to take away the framing or the destination.
        .filter(|name| *name != header::HOST && *name != header::CONTENT_LENGTH)
        .collect();
    let kept = match upgrade {
        Upgrade::WebSocket => headers.remove(header::UPGRADE),
        Upgrade::None => None,
    };
    for name in named {
        headers.remove(name);
    }
    drop_fields(headers, |name| is_one_of(&ONE_HOP, name));
    if let Some(kept) = kept {
        headers.insert(header::UPGRADE, kept);
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| {
                let name: HeaderName = name.parse().expect("a name");
                (name, HeaderValue::from_str(value).expect("a value"))
            })
            .collect()
    }

    #[test]
    fn what_is_for_one_hop_ends_here() {
        let mut asked = headers(&[
            ("connection", "close, X-Mine, host, content-length, authorization"),
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
    fn the_agents_own_credentials_are_dropped_however_they_are_spelled() {
        let mut asked = headers(&[
            ("authorization", "Bearer a"),
            ("authorization", "Bearer b"),
            ("x-api-key", "c"),
            ("x-api-key", "d"),
            ("x_api_key", "e"),
            ("X-Api_Key", "f"),
            ("proxy-authorization", "Basic g"),
            ("session_id", "h"),
        ]);
        request(&mut asked, Upgrade::None);
        assert_eq!(asked, headers(&[("session_id", "h")]));
    }

    #[test]
    fn trailers_carry_nothing_that_a_header_decides() {
        for name in [
            "authorization",
            "x-api-key",
            "x_api_key",
            "proxy-authorization",
            "connection",
            "te",
            "upgrade",
            "keep-alive",
            "host",
            "content-length",
            "content-type",
            "content_encoding",
            "content-range",
            "trailer",
            "transfer-encoding",
            "expect",
            "max-forwards",
            "range",
            "if-match",
            "cookie",
            "x-http-method-override",
            "x-method-override",
            "x-original-url",
            "x-rewrite-url",
            "x_envoy_original_path",
            "x-http-method",
            "destination",
            "x-forwarded-host",
            "x-mode",
            "x_mode",
        ] {
            let mut sent = headers(&[(name, "1"), ("x-checksum", "2"), ("grpc-status", "0")]);
            trailers(&mut sent, &["x-mode".to_owned()]);
            assert_eq!(sent, headers(&[("x-checksum", "2"), ("grpc-status", "0")]), "{name}");
        }
    }

    #[test]
    fn a_websocket_keeps_its_upgrade() {
        let mut asked = headers(&[("connection", "Upgrade"), ("upgrade", "websocket")]);
        request(&mut asked, Upgrade::WebSocket);
        assert_eq!(asked, headers(&[("connection", "upgrade"), ("upgrade", "websocket")]));
    }
}
