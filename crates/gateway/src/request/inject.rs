//! What is taken out of a request before it goes on, and what is put in. The last step before the relay, so that
//! nothing that looks at a request sees what we added.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// What the agent may not say for itself.
const CREDENTIALS: [HeaderName; 3] =
    [header::AUTHORIZATION, HeaderName::from_static("x-api-key"), header::PROXY_AUTHORIZATION];

/// What is for one hop only (RFC 9110 section 7.6.1), besides what `Connection` names.
const ONE_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Whether `Upgrade` belongs to the message or to the hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upgrade {
    /// The message asks for, or grants, a WebSocket.
    WebSocket,
    /// Whatever it says about upgrading is dropped.
    None,
}

/// Makes a request's headers ready for the upstream.
pub(crate) fn prepare_request(headers: &mut HeaderMap, credential: Option<&HeaderValue>, upgrade: Upgrade) {
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
    match credential {
        Some(credential) => {
            // In its old place, if it had one.
            headers.insert(header::AUTHORIZATION, credential.clone());
            CREDENTIALS[1..].iter().for_each(|name| while headers.remove(name).is_some() {});
        }
        None => CREDENTIALS.iter().for_each(|name| while headers.remove(name).is_some() {}),
    }
}

/// Makes a response's headers ready for the client.
pub(crate) fn prepare_response(headers: &mut HeaderMap, upgrade: Upgrade) {
    drop_one_hop(headers, upgrade);
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
    for name in named.iter().chain(&ONE_HOP) {
        headers.remove(name);
    }
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
        let mut request = headers(&[
            ("connection", "close, X-Mine, host, content-length, authorization"),
            ("x-mine", "1"),
            ("host", "a"),
            ("content-length", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("te", "gzip, Trailers"),
            ("upgrade", "h2c"),
            ("accept", "*/*"),
        ]);
        prepare_request(&mut request, Some(&HeaderValue::from_static("Bearer real")), Upgrade::None);
        let expected = headers(&[
            ("host", "a"),
            ("content-length", "1"),
            ("te", "trailers"),
            ("accept", "*/*"),
            ("authorization", "Bearer real"),
        ]);
        assert_eq!(request, expected);
    }

    #[test]
    fn the_agents_own_credentials_are_dropped_with_and_without_one_of_ours() {
        let own = [
            ("authorization", "Bearer a"),
            ("authorization", "Bearer b"),
            ("x-api-key", "c"),
            ("x-api-key", "d"),
            ("proxy-authorization", "Basic e"),
        ];
        let mut request = headers(&own);
        prepare_request(&mut request, None, Upgrade::None);
        assert_eq!(request, HeaderMap::new());
        let mut request = headers(&own);
        prepare_request(&mut request, Some(&HeaderValue::from_static("Bearer real")), Upgrade::None);
        assert_eq!(request, headers(&[("authorization", "Bearer real")]));
    }

    #[test]
    fn a_websocket_keeps_its_upgrade() {
        let mut request = headers(&[("connection", "Upgrade"), ("upgrade", "websocket")]);
        prepare_request(&mut request, None, Upgrade::WebSocket);
        assert_eq!(request, headers(&[("connection", "upgrade"), ("upgrade", "websocket")]));
    }
}
