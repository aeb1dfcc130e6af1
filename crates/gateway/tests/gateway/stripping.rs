//! What is decided on is what is sent: headers for one hop, methods that send a request back, trailers.

use serde_json::json;

use crate::support::{
    client::{exchange, https2, raw_refusal, refusal, request2, tls, tunnel},
    gateway::{SECRET, Setup, TestGateway},
    upstream::{HTTP1, HTTP2, TestUpstream},
};

/// Sends one request of HTTP/1.1 to `api.test`, through TLS.
async fn ask(gateway: &TestGateway, head: &str, rest: &str) -> String {
    let mut stream = tls(gateway, "api.test:443", "api.test", &[]).await;
    exchange(&mut stream, format!("{head}\r\n\r\n{rest}").as_bytes()).await
}

/// A server that knows TRACE answers with the request as it arrived (RFC 9110 section 9.3.8), the injected
/// credential in it.
#[tokio::test(flavor = "multi_thread")]
async fn methods_that_send_the_request_back_are_refused_everywhere() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = Setup::for_upstream(&upstream).start().await;
    for (method, header) in [
        ("TRACE", ""),
        ("trace", ""),
        ("TrAcE", ""),
        ("TRACK", ""),
        ("track", ""),
        ("TRACE", "Max-Forwards: 0\r\n"),
        ("OPTIONS", "Max-Forwards: 0\r\n"),
        ("OPTIONS", "max-forwards: 7\r\n"),
        ("options", "Max_Forwards: 1\r\n"),
    ] {
        let head = format!("{method} /x HTTP/1.1\r\nHost: api.test\r\n{header}Connection: close");
        let answer = ask(&gateway, &head, "").await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{method} {header}: {answer}");
        assert_eq!(raw_refusal(&answer)["reason"], "method_reflects", "{method} {header}");
        assert_eq!(gateway.last_decision(), ("refuse".into(), "method_reflects".into()));

        let mut two = https2(&gateway, "open.test").await;
        let mut asked = request2(method, "open.test", "/x", "");
        if let Some((name, value)) = header.trim_end().split_once(": ") {
            let name: http::HeaderName = name.parse().expect("a name");
            asked.headers_mut().insert(name, value.parse().expect("a value"));
        }
        let response = two.send_request(asked).await.expect("a response");
        assert_eq!(refusal(response).await["reason"], "method_reflects", "{method} {header}");
    }
    // In the clear as well, where no credential is.
    let mut stream = tunnel(&gateway, "open.test:80").await;
    let answer =
        exchange(&mut stream, b"TRACE / HTTP/1.1\r\nHost: open.test\r\nConnection: close\r\n\r\n").await;
    assert_eq!(raw_refusal(&answer)["reason"], "method_reflects");
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
    for (method, header) in
        [("OPTIONS", ""), ("GET", "Max-Forwards: 3\r\n"), ("TRACEROUTE", ""), ("PROPFIND", "")]
    {
        let head = format!("{method} /x HTTP/1.1\r\nHost: api.test\r\n{header}Connection: close");
        let answer = ask(&gateway, &head, "").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{method} {header}: {answer}");
    }
}

/// A route that asks for a header is not satisfied by one that ends at the gateway.
#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_does_not_go_on_is_not_decided_on() {
    let wanted = |name: &str, value: &str| {
        json!({"host": "api.test", "ports": [443], "owner": "manifest", "matches": [
            {"headers": [{"name": name, "type": "exact", "value": value}]}]})
    };
    for (name, value, headers, passes) in [
        ("x-mode", "read-only", "X-Mode: read-only\r\nConnection: close", true),
        ("x-mode", "read-only", "X-Mode: read-only\r\nConnection: close, X-Mode", false),
        ("x-mode", "read-only", "X-Mode: read-only\r\nConnection: x-MODE\r\nConnection: close", false),
        ("keep-alive", "a", "Keep-Alive: a\r\nConnection: close", false),
        ("proxy-connection", "a", "Proxy-Connection: a\r\nConnection: close", false),
        ("http2-settings", "a", "HTTP2-Settings: a\r\nConnection: close", false),
        ("upgrade", "a", "Upgrade: a\r\nConnection: close", false),
        ("te", "gzip", "TE: gzip\r\nConnection: close", false),
        ("connection", "close", "Connection: close", false),
        ("authorization", "Bearer mine", "Authorization: Bearer mine\r\nConnection: close", false),
        ("x-api-key", "mine", "X-Api-Key: mine\r\nConnection: close", false),
        // Many servers hand both spellings to an application under one name (RFC 3875 section 4.1.18).
        ("x-mode", "read-only", "X-Mode: read-only\r\nX_Mode: write\r\nConnection: close", false),
    ] {
        let upstream = TestUpstream::start(HTTP1).await;
        let gateway = Setup::new()
            .trusting(&upstream)
            .fixed("api.test", upstream.address)
            .route(wanted(name, value))
            .start()
            .await;
        let answer = ask(&gateway, &format!("GET / HTTP/1.1\r\nHost: api.test\r\n{headers}"), "").await;
        let expected = if passes { "HTTP/1.1 200" } else { "HTTP/1.1 403" };
        assert!(answer.starts_with(expected), "{headers}: {answer}");
        assert_eq!(upstream.seen().len(), usize::from(passes), "{headers}");
        if !passes {
            assert_eq!(raw_refusal(&answer)["reason"], "no_match", "{headers}");
        }
    }
}

/// Some servers merge trailers into the headers, so that a trailer may not be what a header may not be.
#[tokio::test(flavor = "multi_thread")]
async fn trailers_are_stripped_like_headers() {
    for alpn in [HTTP1, HTTP2] {
        let upstream = TestUpstream::start(alpn).await;
        let gateway = Setup::new()
            .trusting(&upstream)
            .fixed("api.test", upstream.address)
            .route(json!({"host": "api.test", "ports": [443], "owner": "manifest",
                "auth": {"scheme": "Bearer", "token_ref": "TOKEN"}, "matches": [
                {"headers": [{"name": "x-mode", "type": "exact", "value": "read-only"}]}]}))
            .start()
            .await;
        for name in [
            "x-api-key",
            "authorization",
            "X_Api_Key",
            "proxy-authorization",
            "connection",
            "te",
            "cookie",
            "content-type",
            "if-match",
            "expect",
            "range",
            "max-forwards",
            "x-mode",
            "x-http-method-override",
        ] {
            let head = format!(
                "POST /received-trailers HTTP/1.1\r\nHost: api.test\r\nX-Mode: read-only\r\n\
                 Transfer-Encoding: chunked\r\nTrailer: {name}, x-sum\r\nConnection: close"
            );
            let rest = format!("3\r\nabc\r\n0\r\n{name}: forbidden\r\nx-sum: 42\r\n\r\n");
            let answer = ask(&gateway, &head, &rest).await;
            assert!(answer.contains("\"x-sum\": \"42\""), "{name}: {answer}");
            assert!(!answer.contains("forbidden"), "{name}: {answer}");
        }
        assert!(upstream.seen().iter().all(|seen| {
            seen.headers["authorization"] == format!("Bearer {SECRET}")
                && seen.headers["x-mode"] == "read-only"
        }));
    }
}
