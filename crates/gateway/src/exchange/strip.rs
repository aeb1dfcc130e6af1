//! Removes the credentials that the agent sends itself, and trailers that would act as headers.

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bot_bottle_core::{
    decision::{DecidedBy, Decision, Reason},
    policy::{
        Route, RouteAuth, credential_parameter, is_credential_header, is_override, parameter_holds,
        same_field, same_parameter,
    },
    secret::PLACEHOLDER,
};
use http::{HeaderMap, HeaderName, header, request::Parts};

use super::{
    hop_by_hop::{HOP_BY_HOP, drop_fields, is_one_of},
    query,
    refuse::Refusal,
    removed::Removed,
};

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

/// Takes the agent's own credentials out of a request, unless the route keeps them: headers for credentials, and what
/// the gateway puts its own into. Of parameters for credentials those go that hold the placeholder, which nobody but
/// the gateway can make something of; others may be honest ones of the same name.
///
/// A host that may be reached and has no credential of the gateway's gets no placeholder as one: the request is refused,
/// because the agent takes it for authenticated.
pub(super) fn credentials(parts: &mut Parts, route: Option<&Route>) -> Result<Removed, Refusal> {
    let mut removed = Removed::default();
    if let Some(route) = route.filter(|route| route.credential().is_none())
        && sends_placeholder(parts)
    {
        return Err(Refusal::from(Decision {
            route: Some(route.host.clone()),
            ..Decision::refuse(Reason::PlaceholderSent, DecidedBy::Policy)
        }));
    }
    if route.is_some_and(|route| route.auth == Some(RouteAuth::Keep)) {
        return Ok(removed);
    }
    let shape = route.and_then(Route::credential).map(|credential| &credential.shape);
    let header = shape.and_then(|shape| shape.header_name());
    let is_replaced = |name: &str| header.is_some_and(|header| same_field(header, name));
    let names: Vec<HeaderName> = parts
        .headers
        .keys()
        .filter(|name| is_credential_header(name.as_str()) || is_replaced(name.as_str()))
        .cloned()
        .collect();
    for name in names {
        parts.headers.remove(&name);
        removed.header(&name, is_replaced(name.as_str()));
    }
    let parameter = shape.and_then(|shape| shape.parameter());
    let without = query::without(parts.uri.query().unwrap_or_default(), |name, value| {
        if let Some(parameter) = parameter.filter(|parameter| same_parameter(parameter, name)) {
            removed.parameter(parameter, true);
            return true;
        }
        let known = credential_parameter(name).filter(|_| parameter_holds(value, PLACEHOLDER));
        known.inspect(|known| removed.parameter(known, false)).is_some()
    });
    if let Some(without) = without {
        query::set(&mut parts.uri, &without)?;
    }
    Ok(removed)
}

/// Whether a placeholder stands where a credential belongs: in a header for one, in a cookie, or in a parameter for one.
/// Anywhere else it is text.
fn sends_placeholder(parts: &Parts) -> bool {
    let in_headers = parts.headers.iter().any(|(name, value)| {
        (is_credential_header(name.as_str()) || *name == header::COOKIE)
            && holds_placeholder(value.as_bytes())
    });
    let is_parameter =
        |name: &str, value: &str| credential_parameter(name).is_some() && parameter_holds(value, PLACEHOLDER);
    in_headers || query::without(parts.uri.query().unwrap_or_default(), is_parameter).is_some()
}

/// Whether a credential is made of the placeholder: as it is, or in the user and password of Basic (RFC 7617).
fn holds_placeholder(credential: &[u8]) -> bool {
    let holds = |text: &[u8]| text.windows(PLACEHOLDER.len()).any(|part| part == PLACEHOLDER.as_bytes());
    let basic = credential.split_at_checked(6).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"basic "));
    let decoded = basic.and_then(|(_, pair)| ANY_BASE64.decode(pair.trim_ascii()).ok());
    holds(credential) || decoded.is_some_and(|pair| holds(&pair))
}

/// With or without padding.
const ANY_BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Removes from a request's trailers every field that a header may not be, that RFC 9110 forbids there, or
/// whose name is that of a header the decision was made on.
pub(super) fn trailers(trailers: &mut HeaderMap, decided_on: &[String]) {
    drop_fields(trailers, |name| {
        let plain = name.replace('_', "-");
        is_credential_header(name)
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

    fn request(target: &str, lines: &[(&str, &str)]) -> Parts {
        let (mut parts, ()) = http::Request::builder().uri(target).body(()).expect("a request").into_parts();
        parts.headers = headers(lines);
        parts
    }

    fn route(auth: serde_json::Value) -> Route {
        let mut route = serde_json::json!({"host": "api.test", "ports": [443], "owner": "manifest"});
        if !auth.is_null() {
            route["auth"] = auth;
        }
        serde_json::from_value(route).expect("a route")
    }

    const AGENTS: [(&str, &str); 8] = [
        ("authorization", "Bearer a"),
        ("authorization", "Bearer b"),
        ("x-api-key", "c"),
        ("x_api_key", "e"),
        ("X-Goog_Api-Key", "f"),
        ("proxy-authorization", "Basic g"),
        ("x-mine", "i"),
        ("session_id", "h"),
    ];

    #[test]
    fn the_agents_own_credentials_are_dropped_however_they_are_spelled() {
        let target = "https://api.test/x?a=1&key=egress-placeholder&key=2";
        for (auth, kept, query, told) in [
            (
                serde_json::json!({"header": "x-mine", "token_ref": "T"}),
                &[("session_id", "h")][..],
                "a=1&key=2",
                "authorization, x-api-key, x_api_key, x-goog_api-key, proxy-authorization, ?key",
            ),
            (
                serde_json::json!({"query": "KEY", "token_ref": "T"}),
                &[("x-mine", "i"), ("session_id", "h")],
                "a=1",
                "authorization, x-api-key, x_api_key, x-goog_api-key, proxy-authorization",
            ),
            (
                serde_json::json!({"scheme": "Bearer", "token_ref": "T"}),
                &[("x-mine", "i"), ("session_id", "h")],
                "a=1&key=2",
                "x-api-key, x_api_key, x-goog_api-key, proxy-authorization, ?key",
            ),
        ] {
            let mut asked = request(target, &AGENTS);
            let removed = credentials(&mut asked, Some(&route(auth.clone()))).expect("a request");
            assert_eq!(asked.headers, headers(kept), "{auth}");
            assert_eq!(asked.uri.to_string(), format!("https://api.test/x?{query}"), "{auth}");
            assert_eq!(removed.told().unwrap_or_default(), told, "{auth}");
        }
    }

    #[test]
    fn without_a_credential_of_the_gateways_the_agents_own_go_or_stay_and_no_placeholder_does() {
        let target = "https://api.test/x?a=1&key=1&q=egress-placeholder";
        let dropped = "authorization, x-api-key, x_api_key, x-goog_api-key, proxy-authorization";
        for (auth, kept, told) in [
            (serde_json::Value::Null, &[("x-mine", "i"), ("session_id", "h")][..], dropped),
            (serde_json::json!("keep"), &AGENTS, ""),
        ] {
            let mut asked = request(target, &AGENTS);
            let removed = credentials(&mut asked, Some(&route(auth.clone()))).expect("a request");
            assert_eq!(asked.headers, headers(kept), "{auth}");
            assert_eq!(asked.uri.to_string(), target, "{auth}");
            assert_eq!(removed.told().unwrap_or_default(), told, "{auth}");

            for (name, value) in [
                ("authorization", "Bearer egress-placeholder"),
                ("authorization", "basic  ZWdyZXNzLXBsYWNlaG9sZGVyOg"),
                ("Proxy_Authorization", "Basic eC1hY2Nlc3MtdG9rZW46ZWdyZXNzLXBsYWNlaG9sZGVy"),
                ("x-api-key", "egress-placeholder"),
                ("cookie", "a=b; session=egress-placeholder"),
            ] {
                let mut asked = request("https://api.test/", &[(name, value)]);
                let refusal = credentials(&mut asked, Some(&route(auth.clone()))).expect_err(value);
                assert_eq!(refusal.decision.reason, Reason::PlaceholderSent, "{auth} {value}");
                // Nothing is said of hosts that are no one's.
                credentials(&mut asked, None).expect("it is refused for another reason");
            }
            let mut asked = request("https://api.test/?Access_Token=egress%2Dplaceholder", &[]);
            credentials(&mut asked, Some(&route(auth))).expect_err("a parameter");
            let mut asked =
                request("https://api.test/?text=egress-placeholder", &[("x-mine", "egress-placeholder")]);
            credentials(&mut asked, Some(&route(serde_json::Value::Null))).expect("text");
        }
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
