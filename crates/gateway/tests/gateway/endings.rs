//! Every exchange that was let out has a second line in the receipts, however it ends.

use futures_util::{SinkExt, StreamExt};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::{io::AsyncReadExt, net::TcpListener};
use tokio_tungstenite::{client_async, tungstenite::Message};

use crate::support::{
    client::{http1_on, https1, https2, refusal, request, request2, text, tls, tunnel},
    gateway::{Setup, TestGateway},
    upstream::{HTTP1, HTTP2, TestUpstream, raw_upstream},
};

async fn last_ending(gateway: &TestGateway) -> Value {
    let receipts = gateway.receipts();
    gateway.ending(receipts.last().expect("a decision")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_has_passed_is_complete() {
    for alpn in [HTTP1, HTTP2] {
        let upstream = TestUpstream::start(alpn).await;
        let gateway = Setup::for_upstream(&upstream).start().await;
        let mut one = https1(&gateway, "api.test").await;
        let response =
            one.send_request(request("POST", "api.test", "/a", "hello")).await.expect("a response");
        let received = text(response).await.len();
        let ending = last_ending(&gateway).await;
        assert_eq!(ending["end"], "complete");
        assert_eq!(ending["status"], 200);
        assert_eq!((&ending["sent"], &ending["received"]), (&json!(5), &json!(received)));
        assert_eq!(ending["reason"], Value::Null);

        let mut two = https2(&gateway, "api.test").await;
        let response = two.send_request(request2("HEAD", "api.test", "/b", "")).await.expect("a response");
        assert_eq!(text(response).await, "");
        let ending = last_ending(&gateway).await;
        assert_eq!((&ending["end"], &ending["received"]), (&json!("complete"), &json!(0)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_has_cancelled() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = Setup::for_upstream(&upstream).start().await;
    let mut client = https1(&gateway, "open.test").await;
    let response = client.send_request(request("GET", "open.test", "/sse", "")).await.expect("a response");
    let mut body = response.into_body();
    body.frame().await.expect("an event").expect("a frame");
    drop((body, client));
    let ending = last_ending(&gateway).await;
    assert_eq!((&ending["end"], &ending["status"]), (&json!("cancelled"), &json!(200)));
    assert!(ending["received"].as_u64() > Some(0), "{ending}");

    // Before there is a response.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let gateway = Setup::new()
        .fixed("open.test", silent.local_addr().expect("an address"))
        .route(json!({"host": "open.test", "ports": [80], "owner": "manifest"}))
        .start()
        .await;
    let mut client = http1_on(tunnel(&gateway, "open.test:80").await).await;
    let mut asked = Box::pin(client.send_request(request("GET", "open.test", "/", "")));
    let (mut stream, _) = tokio::select! {
        answered = &mut asked => panic!("there is no response: {answered:?}"),
        accepted = silent.accept() => accepted.expect("a connection"),
    };
    let read = tokio::select! {
        answered = &mut asked => panic!("there is no response: {answered:?}"),
        read = stream.read_u8() => read,
    };
    assert_eq!(read.expect("a byte"), b'G');
    drop(asked);
    drop(client);
    let ending = last_ending(&gateway).await;
    assert_eq!(ending["end"], "cancelled");
    assert_eq!(ending["status"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_fails_ends_the_exchange_that_was_begun() {
    let (broken, _received) = raw_upstream(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab").await;
    let route = |host: &str| json!({"host": host, "ports": [80], "owner": "manifest"});
    let gateway = Setup::new()
        .fixed("broken.test", broken)
        .route(route("broken.test"))
        .route(route("unknown.test"))
        .start()
        .await;
    let mut client = http1_on(tunnel(&gateway, "unknown.test:80").await).await;
    let response = client.send_request(request("GET", "unknown.test", "/", "")).await.expect("a response");
    assert_eq!(refusal(response).await["reason"], "name_unresolvable");
    assert_eq!(gateway.receipts().len(), 1, "the refusal is the end of the exchange, no decision of its own");
    let ending = last_ending(&gateway).await;
    assert_eq!((&ending["end"], &ending["status"]), (&json!("failed"), &json!(502)));
    assert_eq!((&ending["reason"], &ending["source"]), (&json!("name_unresolvable"), &json!("upstream")));

    let mut client = http1_on(tunnel(&gateway, "broken.test:80").await).await;
    let response = client.send_request(request("GET", "broken.test", "/", "")).await.expect("a response");
    assert!(response.into_body().collect().await.is_err());
    let ending = last_ending(&gateway).await;
    assert_eq!((&ending["end"], &ending["status"]), (&json!("failed"), &json!(200)));
    assert_eq!((&ending["reason"], &ending["received"]), (&json!("upstream_protocol"), &json!(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_ends_with_its_bytes() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = Setup::for_upstream(&upstream).start().await;
    let stream = tls(&gateway, "api.test:443", "api.test", &[]).await;
    let (mut socket, _) = client_async("wss://api.test/ws", stream).await.expect("a WebSocket");
    socket.send(Message::binary(vec![7; 300_000])).await.expect("sent");
    socket.next().await.expect("a message").expect("received");
    socket.close(None).await.expect("closed");
    drop(socket);
    let ending = last_ending(&gateway).await;
    assert_eq!(ending["status"], 101);
    for direction in ["sent", "received"] {
        assert!(ending[direction].as_u64() > Some(300_000), "{ending}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_has_one_line() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = Setup::for_upstream(&upstream).start().await;
    let mut client = https1(&gateway, "evil.test").await;
    client.send_request(request("GET", "evil.test", "/", "")).await.expect("a response");
    let [line] = &gateway.lines()[..] else { panic!("{:?}", gateway.lines()) };
    assert_eq!((&line["verdict"], &line["exchange"]), (&json!("refuse"), &line["sequence"]));
}

/// A query for a name, and a connection, tell somebody that a request was made.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_resolved_for_a_request_that_has_no_receipt() {
    for (receipts, status, resolved) in [(None, 502, 1), (Some("/dev/full"), 500, 0)] {
        let mut setup =
            Setup::new().route(json!({"host": "unknown.test", "ports": [80], "owner": "manifest"}));
        if let Some(path) = receipts {
            setup = setup.receipts(path);
        }
        let gateway = setup.start().await;
        let mut client = http1_on(tunnel(&gateway, "unknown.test:80").await).await;
        let asked = request("GET", "unknown.test", "/", "");
        let response = client.send_request(asked).await.expect("a response");
        assert_eq!(response.status(), status);
        assert_eq!(gateway.names_resolved(), resolved, "{receipts:?}");
    }
}
