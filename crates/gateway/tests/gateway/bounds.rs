//! What a client that does not read can make the gateway hold.

use std::time::Duration;

use bot_bottle_gateway::limits::{MAX_CLIENT_STREAMS, MAX_REQUESTS, MAX_UPSTREAM_CONNECTIONS};
use futures_util::StreamExt;
use http::Response;
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http2};
use tokio::time::timeout;
use tokio_tungstenite::client_async;

use crate::support::{
    client::{PATIENCE, https1, https2, refusal, request, request2, text, tls},
    descriptors::has_descriptors,
    gateway::{Setup, TestGateway},
    upstream::{HTTP1, HTTP2, TestUpstream},
};

/// Asks for so many responses on one connection, and returns them with it. None of them ends by itself.
pub(crate) async fn streams(
    gateway: &TestGateway,
    count: usize,
    path: &str,
) -> (http2::SendRequest<Full<bytes::Bytes>>, Vec<Response<Incoming>>) {
    let mut client = https2(gateway, "open.test").await;
    let mut asked = Vec::new();
    for _ in 0..count {
        client.ready().await.expect("ready");
        asked.push(client.send_request(request2("GET", "open.test", path, "")));
    }
    let responses = futures_util::future::join_all(asked).await;
    (client, responses.into_iter().map(|response| response.expect("a response")).collect())
}

/// The status that a client gets who comes now. A refusal is one for a limit.
async fn status(gateway: &TestGateway) -> u16 {
    let mut client = https1(gateway, "open.test").await;
    let asked = client.send_request(request("GET", "open.test", "/", ""));
    let response = timeout(PATIENCE, asked).await.expect("in time").expect("a response");
    let status = response.status().as_u16();
    if status == 200 {
        assert_eq!(text(response).await, "GET / 0");
    } else {
        assert_eq!(refusal(response).await["reason"], "limit_reached");
    }
    status
}

async fn wait_for_room(gateway: &TestGateway) {
    for _ in 0..1000 {
        if status(gateway).await == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("what has ended makes no room");
}

/// A request has its place until its response has ended, not until it has begun, and a WebSocket until it is
/// closed.
#[tokio::test(flavor = "multi_thread")]
async fn there_are_so_many_requests_in_progress_and_not_one_more() {
    let upstream = TestUpstream::start(HTTP2).await;
    let gateway = Setup::for_upstream(&upstream).start().await;
    let stream = tls(&gateway, "open.test:443", "open.test", &[]).await;
    let (mut socket, _) = client_async("wss://open.test/ws", stream).await.expect("a WebSocket");
    let on_each = usize::try_from(MAX_CLIENT_STREAMS).expect("a number");
    let mut held = Vec::new();
    for at in 0..MAX_REQUESTS / on_each {
        // The first of them has a place less, which the WebSocket has.
        let (client, responses) = streams(&gateway, on_each - usize::from(at == 0), "/sse").await;
        assert!(responses.iter().all(|response| response.status() == 200));
        held.push((client, responses));
    }
    assert_eq!(status(&gateway).await, 429);
    socket.close(None).await.expect("closed");
    while let Some(Ok(_)) = socket.next().await {}
    drop(socket);
    wait_for_room(&gateway).await;
    held.push(streams(&gateway, 1, "/sse").await);
    assert_eq!(status(&gateway).await, 429);
    // One that ends makes room for one.
    let (_, responses) = held.first_mut().expect("a connection");
    let mut ending = responses.pop().expect("a response");
    ending.body_mut().frame().await.expect("a frame").expect("data");
    drop(ending);
    wait_for_room(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_so_many_connections_to_upstreams_and_not_one_more() {
    // Both ends of each are here.
    if !has_descriptors(MAX_UPSTREAM_CONNECTIONS * 2 + 200) {
        return;
    }
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = Setup::for_upstream(&upstream).start().await;
    let on_each = usize::try_from(MAX_CLIENT_STREAMS).expect("a number");
    let mut held = Vec::new();
    for _ in 0..MAX_UPSTREAM_CONNECTIONS / on_each {
        let (client, responses) = streams(&gateway, on_each, "/sse").await;
        assert!(responses.iter().all(|response| response.status() == 200));
        held.push((client, responses));
    }
    assert_eq!(upstream.open_connections(), MAX_UPSTREAM_CONNECTIONS);
    assert_eq!(status(&gateway).await, 429);
    let (_, responses) = held.last_mut().expect("a connection");
    drop(responses.pop().expect("a response"));
    wait_for_room(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_read_make_no_other_wait() {
    const LARGE: usize = 100 << 20;
    let upstream = TestUpstream::start(HTTP2).await;
    let gateway = Setup::for_upstream(&upstream).start().await;
    let mut held = Vec::new();
    for _ in 0..6 {
        held.push(streams(&gateway, 1, &format!("/large?{LARGE}")).await);
    }
    let mut produced = usize::MAX;
    // Until all stand still.
    while produced != upstream.produced() {
        produced = upstream.produced();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(produced < 6 * LARGE, "nobody reads them");
    assert_eq!(status(&gateway).await, 200);
    // And they come whole to those who read them after all.
    let (_client, mut responses) = held.pop().expect("a connection");
    let mut body = responses.pop().expect("a response").into_body();
    let mut received = 0;
    while let Some(frame) = timeout(PATIENCE, body.frame()).await.expect("in time") {
        received += frame.expect("a frame").data_ref().map_or(0, bytes::Bytes::len);
    }
    assert_eq!(received, LARGE);
}
