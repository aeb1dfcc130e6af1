//! The shapes of credentials: each stands where a client expects it, at the route's host alone, and nowhere else.

use http::{HeaderMap, HeaderName, HeaderValue, Request};
use serde_json::{Value, json};

use crate::support::{
    client::{
        exchange, http1_on, https1, https2, raw_refusal, refusal, request, request2, text, tls, tunnel,
    },
    gateway::{ODD_SECRET, SECRET, Setup, TestGateway},
    upstream::{HTTP1, HTTP2, Seen, TestUpstream},
};

/// Base64 of `x-access-token:` and the secret, and of the odd one after `me:`.
const BASIC: &str = "Basic eC1hY2Nlc3MtdG9rZW46cmVhbC1jcmVkZW50aWFsLTdmM2E=";
const ODD_BASIC: &str = "Basic bWU6b2RkL2NyZStkZW49dGlhbCZrZXk9JTQxIzdmM2E=";
const ODD_ENCODED: &str = "odd%2Fcre%2Bden%3Dtial%26key%3D%2541%237f3a";

/// `api.test` with this `auth`, `other.test` without any, and `open.test` with what the agent sends.
async fn gateway(upstream: &TestUpstream, auth: Value) -> TestGateway {
    Setup::new()
        .trusting(upstream)
        .fixed("api.test", upstream.address)
        .fixed("open.test", upstream.address)
        .fixed("other.test", upstream.address)
        .route(json!({"host": "api.test", "ports": [80, 443], "owner": "manifest", "auth": auth}))
        .route(json!({"host": "other.test", "ports": [80, 443], "owner": "manifest"}))
        .route(json!({"host": "open.test", "ports": [80, 443], "owner": "manifest", "auth": "keep"}))
        .start()
        .await
}

/// What an agent sends that means to be heard with a credential of its own.
const AGENTS: [(&str, &str); 10] = [
    ("authorization", "Bearer agents-own-1"),
    ("AUTHORIZATION", "Basic agents-own-2"),
    ("x-api-key", "agents-own-0"),
    ("X-API-Key", "agents-own-3"),
    ("x_api_key", "agents-own-4"),
    ("x-goog-api-key", "agents-own-5"),
    ("proxy-authorization", "Basic agents-own-6"),
    ("x-team-secret", "agents-own-7"),
    ("X_Team-Secret", "agents-own-8"),
    ("x-honest", "1"),
];

/// Sends one request with [`AGENTS`], over HTTP/1.1 and then over HTTP/2, and returns what the client got each time.
async fn ask(gateway: &TestGateway, host: &str, target: &str) -> [HeaderMap; 2] {
    let with_own = |mut request: Request<_>| {
        for (name, value) in AGENTS {
            let name: HeaderName = name.parse().expect("a name");
            request.headers_mut().append(name, HeaderValue::from_static(value));
        }
        request
    };
    let one = https1(gateway, host).await.send_request(with_own(request("GET", host, target, ""))).await;
    let two = https2(gateway, host).await.send_request(with_own(request2("GET", host, target, ""))).await;
    let mut headers = Vec::new();
    for response in [one, two] {
        let response = response.expect("a response");
        headers.push(response.headers().clone());
        let body = text(response).await;
        assert!(body.starts_with("GET /x"), "{body}");
    }
    headers.try_into().expect("two")
}

/// Every header whose value is a credential, sorted.
fn credentials(seen: &Seen) -> Vec<(String, String)> {
    let names = ["authorization", "api", "secret"];
    let of_a_credential = |name: &HeaderName| names.iter().any(|part| name.as_str().contains(part));
    let mut found: Vec<_> = seen
        .headers
        .iter()
        .filter(|(name, _)| of_a_credential(name))
        .map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned()))
        .collect();
    found.sort();
    found
}

fn path_and_query(seen: &Seen) -> &str {
    seen.uri.strip_prefix("https://api.test").unwrap_or(&seen.uri)
}

/// Nothing that the gateway leaves behind holds a value, in whatever form it was sent.
fn assert_secret(gateway: &TestGateway, told: &[HeaderMap]) {
    let receipts = std::fs::read_to_string(&gateway.receipts).expect("receipts");
    assert!(receipts.contains("api.test"), "{receipts}");
    for form in [SECRET, ODD_SECRET, ODD_ENCODED, &BASIC[6..], &ODD_BASIC[6..], "agents-own"] {
        assert!(!receipts.contains(form), "{form}: {receipts}");
        assert!(!format!("{told:?}").contains(form), "{form}: {told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_shape_takes_the_place_of_the_agents_own() {
    const QUERY: &str = "a=%41&key=agents-own&b=1;k%65y=agents-own&&KEY&c=+%20/?;key[]=agents-own&d";
    const HONEST: &str = "a=%41&b=1&&c=+%20/?&d";
    let bearer = format!("Bearer {SECRET}");
    let encoded = format!("{HONEST}&key={ODD_ENCODED}");
    let left = format!("{HONEST}&key={SECRET}");
    for (auth, header, query, told) in [
        (
            json!({"scheme": "Bearer", "token_ref": "TOKEN"}),
            Some(("authorization", bearer.as_str())),
            QUERY,
            "x-api-key, x_api_key, x-goog-api-key, proxy-authorization",
        ),
        (
            json!({"scheme": "Basic", "username": "x-access-token", "token_ref": "TOKEN"}),
            Some(("authorization", BASIC)),
            QUERY,
            "x-api-key, x_api_key, x-goog-api-key, proxy-authorization",
        ),
        (
            json!({"scheme": "Basic", "username": "me", "token_ref": "ODD_TOKEN"}),
            Some(("authorization", ODD_BASIC)),
            QUERY,
            "x-api-key, x_api_key, x-goog-api-key, proxy-authorization",
        ),
        (
            json!({"header": "x-api-key", "token_ref": "TOKEN"}),
            Some(("x-api-key", SECRET)),
            QUERY,
            "authorization, x-goog-api-key, proxy-authorization",
        ),
        (
            json!({"header": "X-Team-Secret", "token_ref": "ODD_TOKEN"}),
            Some(("x-team-secret", ODD_SECRET)),
            QUERY,
            "authorization, x-api-key, x_api_key, x-goog-api-key, proxy-authorization",
        ),
        (
            json!({"query": "key", "token_ref": "TOKEN"}),
            None,
            left.as_str(),
            "authorization, x-api-key, x_api_key, x-goog-api-key, proxy-authorization",
        ),
        (
            json!({"query": "key", "token_ref": "ODD_TOKEN"}),
            None,
            encoded.as_str(),
            "authorization, x-api-key, x_api_key, x-goog-api-key, proxy-authorization",
        ),
    ] {
        for alpn in [HTTP1, HTTP2] {
            let upstream = TestUpstream::start(alpn).await;
            let gateway = gateway(&upstream, auth.clone()).await;
            let answers = ask(&gateway, "api.test", &format!("/x?{QUERY}")).await;
            assert_eq!(upstream.seen().len(), 2);
            for seen in upstream.seen() {
                let mut expected: Vec<(String, String)> =
                    header.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
                // Nobody knows this header for a credential but the route that names it.
                if header.is_none_or(|(name, _)| name != "x-team-secret") {
                    expected.push(("x-team-secret".into(), "agents-own-7".into()));
                    expected.push(("x_team-secret".into(), "agents-own-8".into()));
                }
                expected.sort();
                assert_eq!(credentials(&seen), expected, "{auth}");
                assert_eq!(path_and_query(&seen), format!("/x?{query}"), "{auth}");
                assert_eq!(seen.headers["x-honest"], "1");
            }
            for answer in &answers {
                let removed: Vec<_> =
                    answer["bot-bottle-removed"].to_str().expect("text").split(", ").collect();
                let mut expected: Vec<_> = told.split(", ").collect();
                let mut found = removed;
                found.sort_unstable();
                expected.sort_unstable();
                assert_eq!(found, expected, "{auth}");
            }
            // The same request to a host without a credential takes none along.
            ask(&gateway, "other.test", &format!("/x?{QUERY}")).await;
            for seen in &upstream.seen()[2..] {
                assert!(seen.uri.ends_with(&format!("/x?{QUERY}")), "{}", seen.uri);
                let own = [("x-team-secret", "agents-own-7"), ("x_team-secret", "agents-own-8")];
                assert_eq!(credentials(seen), own.map(|(name, value)| (name.into(), value.into())), "{auth}");
            }
            assert_secret(&gateway, &answers);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_without_a_query_gets_one() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = gateway(&upstream, json!({"query": "key", "token_ref": "TOKEN"})).await;
    for target in ["/x", "/x?", "/x?key", "/x?key=agents-own", "/x?KEY=a;k%65y=b&%6b%65%79=c", "/x?%256bey=a"]
    {
        ask(&gateway, "api.test", target).await;
        let seen = upstream.seen();
        let seen = seen.last().expect("a request");
        assert_eq!(path_and_query(seen), format!("/x?key={SECRET}"), "{target}");
    }
    let stripped = &gateway.receipts().pop().expect("a receipt")["stripped"];
    assert!(stripped.as_array().expect("a list").contains(&json!("?key")), "{stripped}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_without_a_credential_loses_what_would_be_one_and_tells() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = gateway(&upstream, json!({"header": "x-api-key", "token_ref": "TOKEN"})).await;
    let target = "/x?q=egress-placeholder&api_key=honest";
    for answer in ask(&gateway, "other.test", target).await {
        let told = answer["bot-bottle-removed"].to_str().expect("text").to_owned();
        for name in ["authorization", "x-api-key", "x-goog-api-key", "proxy-authorization"] {
            assert!(told.split(", ").any(|part| part == name), "{name}: {told}");
        }
        assert!(!told.contains("?api_key") && !told.contains("placeholder"), "{told}");
    }
    for seen in upstream.seen() {
        assert!(seen.uri.ends_with(target), "{}", seen.uri);
    }
    let before = upstream.seen().len();
    for (target, header) in [("/", "Bearer egress-placeholder"), ("/?key=egress-placeholder", "")] {
        let mut asked = request("GET", "other.test", target, "");
        asked.headers_mut().insert("authorization", HeaderValue::from_static(header));
        let response = https1(&gateway, "other.test").await.send_request(asked).await.expect("a response");
        assert_eq!(response.status(), 403);
        assert_eq!(refusal(response).await["reason"], "placeholder_sent");
    }
    let refused = gateway.receipts().pop().expect("a receipt");
    assert_eq!(
        (refused["reason"].as_str(), refused["route"].as_str()),
        (Some("placeholder_sent"), Some("other.test"))
    );
    assert_eq!(upstream.seen().len(), before, "nothing left");
    // Whoever sends no credential is told nothing, whatever the host says.
    let mut client = https1(&gateway, "other.test").await;
    let asked = request("GET", "other.test", "/redirect", "");
    let response = client.send_request(asked).await.expect("a response");
    assert_eq!(response.status(), 302);
    assert!(!response.headers().contains_key("bot-bottle-removed"), "{:?}", response.headers());
    // A refusal tells as well: the header that was missing may be its reason.
    let mut asked = request("GET", "unknown.test", "/", "");
    asked.headers_mut().insert("x-api-key", HeaderValue::from_static("agents-own"));
    let response = https1(&gateway, "unknown.test").await.send_request(asked).await.expect("a response");
    assert_eq!(response.headers()["bot-bottle-removed"], "x-api-key");
    assert_eq!(refusal(response).await["reason"], "no_route");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_keeps_changes_nothing() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = gateway(&upstream, json!({"query": "key", "token_ref": "TOKEN"})).await;
    let target = "/x?key=agents-own&token=agents-own&q=egress-placeholder";
    for answer in ask(&gateway, "open.test", target).await {
        assert!(!answer.contains_key("bot-bottle-removed"), "{answer:?}");
    }
    for seen in upstream.seen() {
        assert!(seen.uri.ends_with(target), "{}", seen.uri);
        for (name, value) in AGENTS {
            let name: HeaderName = name.parse().expect("a name");
            assert!(
                seen.headers.get_all(&name).iter().any(|sent| sent == value),
                "{name}: {:?}",
                seen.headers
            );
        }
    }
    assert!(
        gateway.receipts().iter().all(|receipt| receipt["stripped"].is_null()),
        "{:?}",
        gateway.receipts()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_shape_travels_unencrypted() {
    for auth in [
        json!({"scheme": "Basic", "username": "x-access-token", "token_ref": "TOKEN"}),
        json!({"header": "x-api-key", "token_ref": "TOKEN"}),
        json!({"query": "key", "token_ref": "TOKEN"}),
    ] {
        let upstream = TestUpstream::start(HTTP1).await;
        let gateway = gateway(&upstream, auth.clone()).await;
        let mut stream = tunnel(&gateway, "api.test:80").await;
        let asked = b"GET /x?key=1 HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n";
        let answer = exchange(&mut stream, asked).await;
        assert_eq!(raw_refusal(&answer)["reason"], "cleartext_credential", "{auth}");
        assert!(upstream.seen().is_empty(), "{auth}: {:?}", upstream.seen());
        // What the agent has itself it may send: nothing of the gateway's is in it.
        for host in ["open.test", "other.test"] {
            let mut client = http1_on(tunnel(&gateway, &format!("{host}:80")).await).await;
            let response =
                client.send_request(request("GET", host, "/x?key=1", "")).await.expect("a response");
            assert_eq!(response.status(), 200, "{host}");
        }
        assert!(upstream.seen().iter().all(|seen| !format!("{seen:?}").contains(SECRET)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_shape_follows_to_another_host() {
    for auth in [
        json!({"scheme": "Basic", "username": "x-access-token", "token_ref": "TOKEN"}),
        json!({"header": "x-api-key", "token_ref": "TOKEN"}),
        json!({"query": "key", "token_ref": "TOKEN"}),
    ] {
        let upstream = TestUpstream::start(HTTP2).await;
        let gateway = gateway(&upstream, auth.clone()).await;
        let mut client = https2(&gateway, "api.test").await;
        let response =
            client.send_request(request2("GET", "api.test", "/redirect", "")).await.expect("a response");
        // The redirect is the client's to follow.
        assert_eq!(response.status(), 302, "{auth}");
        assert_eq!(response.headers()["location"], "https://other.test/landed");
        assert_eq!(upstream.seen().len(), 1);
        let has_credential = |seen: &Seen| {
            let text = format!("{} {:?}", seen.uri, seen.headers);
            text.contains(SECRET) || text.contains("Sensitive") || text.contains(BASIC)
        };
        assert!(upstream.seen().iter().all(has_credential), "{auth}: {:?}", upstream.seen());
        // The same client, the same upstream, the next host.
        let mut other = https2(&gateway, "other.test").await;
        let landed = request2("GET", "other.test", "/landed", "");
        assert_eq!(other.send_request(landed).await.expect("a response").status(), 200);
        assert!(!has_credential(upstream.seen().last().expect("a request")), "{auth}: {:?}", upstream.seen());
        // A connection to one host, and a request for another on it.
        let fronted = request2("GET", "api.test", "/x", "");
        let response = other.send_request(fronted).await.expect("a response");
        assert_eq!(response.status(), 421, "{auth}");
        assert_eq!(upstream.seen().len(), 2, "{auth}: {:?}", upstream.seen());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_and_trailers_are_no_place_for_one() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = gateway(&upstream, json!({"header": "x-team-secret", "token_ref": "TOKEN"})).await;
    let mut stream = tls(&gateway, "api.test:443", "api.test", &[]).await;
    let head = "POST /received-trailers HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\
                Trailer: x-team-secret, x-sum\r\nConnection: close\r\n\r\n";
    let rest = "12\r\negress-placeholder\r\n0\r\nX_Team_Secret: agents-own\r\nx-sum: 42\r\n\r\n";
    let answer = exchange(&mut stream, format!("{head}{rest}").as_bytes()).await;
    assert!(answer.contains("\"x-sum\": \"42\"") && !answer.contains("agents-own"), "{answer}");
    let seen = upstream.seen();
    assert_eq!(seen[0].body_bytes, "egress-placeholder".len());
    assert_eq!(seen[0].headers["x-team-secret"], SECRET);
}
