//! Removes the credentials that the agent sends itself, and trailers that would act as headers.

use bot_bottle_core::policy::{is_override, same_field};
use http::{HeaderMap, HeaderName, header};

use super::hop_by_hop::{HOP_BY_HOP, drop_fields, is_one_of};

/// Credentials that the gateway alone may send.
const CREDENTIALS: [&str; 3] = ["authorization", "x-api-key", "proxy-authorization"];

/// Fields that no trailer may be (RFC 9110 section 6.5.1): a server that merges trailers into the headers
/// would frame, route, authenticate or process the request by fields that were not decided on.
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

/// Takes the agent's own credentials out of a request's headers, and returns them.
pub(super) fn credentials(headers: &mut HeaderMap) -> HeaderMap {
    let names: Vec<HeaderName> =
        headers.keys().filter(|name| is_one_of(&CREDENTIALS, name.as_str())).cloned().collect();
    let mut taken = HeaderMap::new();
    for name in names {
        if let header::Entry::Occupied(entry) = headers.entry(&name) {
            for value in entry.remove_entry_mult().1 {
                taken.append(name.clone(), value);
            }
        }
    }
    taken
}

/// Removes from a request's trailers every field that a header may not be, that RFC 9110 forbids there, or
/// whose name is that of a header the decision was made on.
pub(super) fn trailers(trailers: &mut HeaderMap, decided_on: &[String]) {
    drop_fields(trailers, |name| {
        let plain = name.replace('_', "-");
        is_one_of(&CREDENTIALS, name)
            || is_one_of(&HOP_BY_HOP, name)
            || is_one_of(&NOT_IN_TRAILERS, name)
            || is_override(name)
            || NOT_IN_TRAILERS_FROM.iter().any(|start| plain.starts_with(start))
            || decided_on.iter().any(|decided| same_field(decided, name))
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::hop_by_hop::tests::headers;

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
        credentials(&mut asked);
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
}
