//! What may not pass is told so, in words that a program and a person can read.

use std::time::Duration;

use bot_bottle_gateway::limits::{LINGER_IDLE_TIMEOUT, LINGER_TIMEOUT};
use bytes::Bytes;
use http::Request;
use serde_json::json;
use tokio::{io::AsyncWriteExt, sync::mpsc, time::Instant};

use crate::support::{
    client::{
        connect, exchange, http1_on, http2_on, https1, https2, raw_refusal, read_head, refusal, request,
        request2, text, tls, tunnel,
    },
    gateway::{SECRET, Setup},
    upstream::{ChannelBody, HTTP1, TestUpstream},
};

const HINT_NO_ROUTE: &str = "only the hosts of this bottle's egress.routes can be reached; ask the operator to add a route for this host";

#[tokio::test(flavor = "multi_thread")]
async fn an_unlisted_host_is_refused_inside_tls_with_one_json_object() {
    let gateway = Setup::new().start().await;
    let expected = |path: &str| {
        json!({
            "reason": "no_route", "host": "evil.test", "method": "POST", "path": path, "hint": HINT_NO_ROUTE,
        })
    };
    let mut one = https1(&gateway, "evil.test").await;
    let response =
        one.send_request(request("POST", "evil.test", "/v1/x?q=1", "body")).await.expect("a response");
    assert_eq!(response.status(), 403);
    assert_eq!(refusal(response).await, expected("/v1/x"));
    let mut two = https2(&gateway, "evil.test").await;
    let response =
        two.send_request(request2("POST", "evil.test", "/v1/y?q=1", "")).await.expect("a response");
    assert_eq!(response.status(), 403);
    assert_eq!(refusal(response).await, expected("/v1/y"));

    let receipts = gateway.receipts();
    assert_eq!(receipts.len(), 2);
    for (receipt, path) in receipts.iter().zip(["/v1/x", "/v1/y"]) {
        for (key, value) in [
            ("verdict", json!("refuse")),
            ("reason", json!("no_route")),
            ("source", json!("policy")),
            ("host", json!("evil.test")),
            ("port", json!(443)),
            ("method", json!("POST")),
            ("path", json!(path)),
            ("status", json!(403)),
        ] {
            assert_eq!(receipt[key], value, "{key}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_rule_of_the_policy_has_its_reason() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = Setup::for_upstream(&upstream)
        .fixed("narrow.test", upstream.address)
        .route(json!({"host": "narrow.test", "ports": [443], "owner": "manifest", "matches": [
            {"paths": [{"type": "prefix", "value": "/v1"}], "methods": ["GET"],
             "headers": [{"name": "x-kind", "type": "exact", "value": "a"}]},
        ]}))
        .start()
        .await;
    let mut client = https1(&gateway, "narrow.test").await;
    for (method, path, kind, status) in [
        ("GET", "/v1/a", "a", 502),
        ("POST", "/v1/a", "a", 403),
        ("GET", "/v2", "a", 403),
        ("GET", "/v1/a", "b", 403),
    ] {
        let mut asked = request(method, "narrow.test", path, "");
        asked.headers_mut().insert("x-kind", kind.parse().expect("a value"));
        let response = client.send_request(asked).await.expect("a response");
        // Where the policy allows it, it ends at the certificate, which is not for this name.
        assert_eq!(response.status(), status, "{method} {path} {kind}");
        let expected = if status == 502 { "upstream_tls" } else { "no_match" };
        assert_eq!(refusal(response).await["reason"], expected);
    }
    let mut client = https1(&gateway, "narrow.test").await;
    let mut asked = request("GET", "narrow.test", "/v1/../b", "");
    asked.headers_mut().insert("x-kind", "a".parse().expect("a value"));
    let response = client.send_request(asked).await.expect("a response");
    assert_eq!(refusal(response).await["reason"], "path_not_canonical");
    let mut client = https1(&gateway, "open.test").await;
    for (path, reason) in [
        ("/a/../b.git;/git-receive-pack;x", "git_push"),
        ("/me/app.git/git-receive-pack", "git_push"),
        ("/me/app.git/info/refs?service=git-upload-pack", "git_fetch"),
    ] {
        let response = client.send_request(request("GET", "open.test", path, "")).await.expect("a response");
        assert_eq!(response.status(), 403);
        assert_eq!(refusal(response).await["reason"], reason, "{path}");
    }
    let mut client = http1_on(tls(&gateway, "api.test:8443", "api.test", &[]).await).await;
    let response = client.send_request(request("GET", "api.test:8443", "/", "")).await.expect("a response");
    assert_eq!(refusal(response).await["reason"], "port_not_allowed");
    assert!(upstream.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_is_never_sent_in_the_clear() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = Setup::new()
        .fixed("api.test", upstream.address)
        .route(json!({"host": "api.test", "ports": [80], "owner": "manifest",
                      "auth": {"scheme": "Bearer", "token_ref": "TOKEN"}}))
        .start()
        .await;
    let mut client = http1_on(tunnel(&gateway, "api.test:80").await).await;
    let response = client.send_request(request("GET", "api.test", "/", "")).await.expect("a response");
    assert_eq!(refusal(response).await["reason"], "cleartext_credential");
    let mut stream = connect(&gateway).await;
    let answer = exchange(
        &mut stream,
        b"GET http://api.test/ HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert_eq!(raw_refusal(&answer)["reason"], "cleartext_credential");
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_head_request_has_no_body() {
    let gateway = Setup::new().start().await;
    let mut stream = tls(&gateway, "evil.test:443", "evil.test", &[]).await;
    let answer =
        exchange(&mut stream, b"HEAD / HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 403") && answer.ends_with("\r\n\r\n"), "{answer}");
    let mut two = https2(&gateway, "evil.test").await;
    let response = two.send_request(request2("HEAD", "evil.test", "/", "")).await.expect("a response");
    assert_eq!(response.status(), 403);
    assert_eq!(text(response).await, "");
}

/// Clients send the body right behind the head. If the gateway closed on the unread rest, the kernel's reset
/// would destroy the answer on its way.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_arrives_although_the_body_was_not_read() {
    let gateway = Setup::new().start().await;
    let body = vec![b'x'; 8 << 20];
    for length in [300_000; 20].into_iter().chain([body.len()]) {
        let mut stream = tls(&gateway, "evil.test:443", "evil.test", &[]).await;
        let head = format!("POST /v1 HTTP/1.1\r\nHost: evil.test\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("written");
        // Many clients read nothing before they have sent everything, and give up where they cannot.
        stream.write_all(&body[..length]).await.expect("written");
        stream.flush().await.expect("flushed");
        let answer = read_head(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer:?}");
    }
    let mut two = http2_on(tls(&gateway, "evil.test:443", "evil.test", &[b"h2"]).await).await;
    let (asked, upload) = endless();
    let response = two.send_request(asked).await.expect("a response");
    assert_eq!(response.status(), 403);
    assert_eq!(refusal(response).await["reason"], "no_route");
    let mut sent = 0;
    while sent < body.len() {
        upload.send(Bytes::from_static(CHUNK)).await.expect("read on after the refusal");
        sent += CHUNK.len();
    }
}

const CHUNK: &[u8] = &[b'x'; 16 * 1024];

/// An upload for HTTP/2 to a host that no route is for, and what it is made of.
fn endless() -> (Request<ChannelBody>, mpsc::Sender<Bytes>) {
    let (upload, body) = mpsc::channel(1);
    (Request::post("https://evil.test/v1").body(ChannelBody(body)).expect("a request"), upload)
}

/// Lets time pass on a clock that is paused, and some on the wall: the clock goes on as soon as nothing is ready,
/// and the kernel of a loaded machine takes a moment to deliver what was sent.
async fn pass(time: Duration) {
    std::thread::sleep(Duration::from_millis(50));
    tokio::time::sleep(time).await;
}

/// The clock goes on when nothing else does: a chunk every second, which is never too slow.
#[tokio::test(start_paused = true)]
async fn the_rest_of_a_refused_body_is_read_for_so_long_and_no_longer() {
    let gateway = Setup::new().start().await;
    // The clock is not the kernel's: on a busy machine it goes on while bytes are under way.
    let is_in_time = |waited: Duration| waited >= LINGER_TIMEOUT && waited < 2 * LINGER_TIMEOUT;
    let mut one = tls(&gateway, "evil.test:443", "evil.test", &[]).await;
    let head = "POST /v1 HTTP/1.1\r\nHost: evil.test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n";
    one.write_all(head.as_bytes()).await.expect("written");
    assert!(read_head(&mut one).await.starts_with("HTTP/1.1 403"));
    let began = Instant::now();
    while one.write_all(b"1\r\nx\r\n").await.is_ok() && one.flush().await.is_ok() {
        pass(Duration::from_secs(1)).await;
    }
    assert!(is_in_time(began.elapsed()), "{:?}", began.elapsed());

    let mut two = http2_on(tls(&gateway, "evil.test:443", "evil.test", &[b"h2"]).await).await;
    let (asked, upload) = endless();
    let response = two.send_request(asked).await.expect("a response");
    assert_eq!(refusal(response).await["reason"], "no_route");
    let began = Instant::now();
    while upload.send(Bytes::from_static(b"x")).await.is_ok() {
        pass(Duration::from_secs(1)).await;
    }
    assert!(is_in_time(began.elapsed()), "{:?}", began.elapsed());
    // The stream has ended, and not the connection.
    let (asked, _upload) = endless();
    let response = two.send_request(asked).await.expect("a response");
    assert_eq!(refusal(response).await["reason"], "no_route");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stops_in_a_refused_body_is_not_waited_for() {
    let gateway = Setup::new().start().await;
    let mut one = tls(&gateway, "evil.test:443", "evil.test", &[]).await;
    let head = "POST /v1 HTTP/1.1\r\nHost: evil.test\r\nContent-Length: 10\r\n\r\nx";
    one.write_all(head.as_bytes()).await.expect("written");
    assert!(read_head(&mut one).await.starts_with("HTTP/1.1 403"));
    tokio::time::sleep(LINGER_IDLE_TIMEOUT + Duration::from_secs(1)).await;
    // The first write is answered with a reset, and the second fails.
    let mut written = Ok(());
    for _ in 0..3 {
        written = one.write_all(b"x").await.and(one.flush().await);
        pass(Duration::from_millis(100)).await;
    }
    assert!(written.is_err(), "it is closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_receipts_nothing_is_allowed() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = Setup::for_upstream(&upstream).receipts("/dev/full").start().await;
    let mut client = https1(&gateway, "open.test").await;
    for _ in 0..2 {
        let response = client.send_request(request("GET", "open.test", "/", "")).await.expect("a response");
        assert_eq!(response.status(), 500);
        assert_eq!(refusal(response).await["reason"], "internal");
    }
    assert!(upstream.seen().is_empty(), "nothing of the request reached the upstream");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_is_in_no_receipt_and_no_debug_output() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = Setup::for_upstream(&upstream).start().await;
    let mut client = https1(&gateway, "api.test").await;
    for path in ["/", "/../x", "/long?token=agent-query-value"] {
        let mut asked = request("GET", "api.test", path, "");
        asked.headers_mut().insert("authorization", "Bearer agent-header-value".parse().expect("a value"));
        let _ = client.send_request(asked).await.expect("a response");
    }
    assert_eq!(upstream.seen()[0].headers["authorization"], format!("Bearer {SECRET}"));
    let receipts = std::fs::read_to_string(&gateway.receipts).expect("receipts");
    let debug = format!("{:?}", gateway.state());
    for text in [receipts, debug] {
        for secret in [SECRET, "agent-header-value", "agent-query-value"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_methods_and_hosts_in_answers_and_receipts_are_bounded() {
    let gateway = Setup::new().start().await;
    let mut stream = connect(&gateway).await;
    let path = "p".repeat(20_000);
    let method = "M".repeat(2_000);
    let asked =
        format!("{method} http://evil.test/{path} HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n");
    let answer = exchange(&mut stream, asked.as_bytes()).await;
    let told = raw_refusal(&answer);
    assert_eq!(told["reason"], "no_route");
    assert_eq!(told["path"].as_str().map(str::len), Some(2048));
    assert_eq!(told["method"].as_str().map(str::len), Some(64));
    assert_eq!(gateway.receipts()[0]["path"].as_str().map(str::len), Some(2048));
}

/// Programs that print no body of an error print something else.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_has_the_form_that_its_client_shows() {
    let gateway = Setup::new().start().await;
    let mut stream = tls(&gateway, "evil.test:443", "evil.test", &[]).await;
    let asked = b"GET /x HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n";
    let answer = exchange(&mut stream, asked).await;
    assert!(answer.starts_with("HTTP/1.1 403 Refused by bot-bottle: no_route\r\n"), "{answer}");

    let mut one = https1(&gateway, "evil.test").await;
    let mut asked = request("GET", "evil.test", "/a.git/info/refs", "");
    asked.headers_mut().insert("user-agent", "git/2.47.3".parse().expect("a value"));
    let response = one.send_request(asked).await.expect("a response");
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (403, &"text/plain".parse().expect("a value"))
    );
    assert_eq!(text(response).await, format!("bot-bottle refused this, no_route: {HINT_NO_ROUTE}\n"));

    let mut two = https2(&gateway, "evil.test").await;
    let mut asked = request2("POST", "evil.test", "/a.Service/Method", "");
    asked.headers_mut().insert("content-type", "application/grpc+proto".parse().expect("a value"));
    let response = two.send_request(asked).await.expect("a response");
    assert_eq!(
        (response.status().as_u16(), &response.headers()["grpc-status"]),
        (200, &"7".parse().expect("a value"))
    );
    let message = response.headers()["grpc-message"].to_str().expect("text").to_owned();
    assert_eq!(message, format!("bot-bottle refused this, no_route: {HINT_NO_ROUTE}"));
    assert_eq!(text(response).await, "");
    let last = gateway.receipts().pop().expect("a receipt");
    assert_eq!((&last["verdict"], &last["status"]), (&json!("refuse"), &json!(403)));
}
