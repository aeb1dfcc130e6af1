//! WebSockets: decided like any request, then relayed.

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::{
    client_async,
    tungstenite::{self, Message, client::IntoClientRequest},
};

use crate::support::{
    client::{exchange, raw_refusal, tls, tunnel},
    gateway::{SECRET, Setup},
    upstream::{HTTP1, HTTP2, TestUpstream, raw_upstream},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_is_relayed_with_the_credential_injected() {
    // Also where the upstream would rather speak HTTP/2.
    for alpn in [HTTP1, HTTP2] {
        let upstream = TestUpstream::start(alpn).await;
        let gateway = Setup::for_upstream(&upstream).start().await;
        let mut asked = "wss://api.test/ws".into_client_request().expect("a request");
        asked.headers_mut().insert("authorization", "Bearer egress-placeholder".parse().expect("a value"));
        asked.headers_mut().insert("x-api-key", "mine".parse().expect("a value"));
        let stream = tls(&gateway, "api.test:443", "api.test", &[]).await;
        let (mut socket, response) = client_async(asked, stream).await.expect("a WebSocket");
        assert_eq!(response.status(), 101);
        for message in [Message::text("hello"), Message::binary(vec![7; 300_000])] {
            socket.send(message.clone()).await.expect("sent");
            assert_eq!(socket.next().await.expect("a message").expect("received"), message);
        }
        socket.close(None).await.expect("closed");
        let seen = &upstream.seen()[0];
        assert_eq!(seen.headers["authorization"], format!("Bearer {SECRET}"));
        assert!(!seen.headers.contains_key("x-api-key"));
        assert_eq!(gateway.last_decision(), ("allow".into(), "allowed".into()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_websocket_is_told_426_with_the_same_object() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = Setup::for_upstream(&upstream)
        .fixed("narrow.test", upstream.address)
        .route(serde_json::json!({"host": "narrow.test", "ports": [443], "owner": "manifest",
            "matches": [{"paths": [{"type": "exact", "value": "/allowed"}]}]}))
        .start()
        .await;
    for (host, path, reason) in [("evil.test", "/ws", "no_route"), ("narrow.test", "/ws", "no_match")] {
        let stream = tls(&gateway, &format!("{host}:443"), host, &[]).await;
        match client_async(format!("wss://{host}{path}"), stream).await {
            Err(tungstenite::Error::Http(response)) => {
                assert_eq!(response.status(), 426);
                let body = response.body().as_deref().unwrap_or_default();
                let told: serde_json::Value = serde_json::from_slice(body).expect("JSON");
                assert_eq!(told["reason"], reason);
                assert_eq!(told["path"], path);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(gateway.receipts().last().map(|receipt| receipt["status"].clone()), Some(426.into()));
    }
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_websockets_are_upgrades() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = Setup::for_upstream(&upstream).start().await;
    for (headers, path) in [
        (
            "Connection: upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
            "/ws",
        ),
        ("Connection: upgrade\r\nUpgrade: TLS/1.3\r\n", "/ws"),
        ("Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n", "/ws"),
        ("Upgrade: websocket\r\n", "/ws"),
    ] {
        let mut stream = tunnel(&gateway, "open.test:80").await;
        let answer = exchange(
            &mut stream,
            format!("GET {path} HTTP/1.1\r\nHost: open.test\r\n{headers}\r\nGET /end HTTP/1.1\r\nHost: open.test\r\nConnection: close\r\n\r\n").as_bytes(),
        )
        .await;
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.contains("not a WebSocket"),
            "{headers}: {answer}"
        );
        let seen = upstream.seen();
        let seen = &seen[seen.len() - 2];
        assert!(
            !seen.headers.contains_key("upgrade") && !seen.headers.contains_key("http2-settings"),
            "{headers}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_may_not_switch_protocols_unasked() {
    let (address, _received) = raw_upstream(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: raw\r\nConnection: upgrade\r\n\r\nsurprise",
    )
    .await;
    let gateway = Setup::new()
        .fixed("open.test", address)
        .route(serde_json::json!({"host": "open.test", "ports": [80], "owner": "manifest"}))
        .start()
        .await;
    let mut stream = tunnel(&gateway, "open.test:80").await;
    let answer =
        exchange(&mut stream, b"GET / HTTP/1.1\r\nHost: open.test\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert_eq!(raw_refusal(&answer)["reason"], "upstream_protocol");
}
