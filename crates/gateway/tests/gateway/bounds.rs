//! What a client that does not read can make the gateway hold.

use bot_bottle_gateway::limits::{MAX_CLIENT_STREAMS, MAX_REQUESTS};
use http::Response;
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http2};

use crate::support::{
    client::{https1, https2, refusal, request, request2, text},
    gateway::{Setup, TestGateway},
    upstream::{HTTP2, TestUpstream},
};

/// Asks for so many responses on one connection, and returns them with it. None of them ends by itself.
async fn streams(
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

/// A request has its place until its response has ended, not until it has begun.
#[tokio::test(flavor = "multi_thread")]
async fn there_are_so_many_requests_in_progress_and_not_one_more() {
    let upstream = TestUpstream::start(HTTP2).await;
    let gateway = Setup::for_upstream(&upstream).start().await;
    let on_each = usize::try_from(MAX_CLIENT_STREAMS).expect("a number");
    let mut held = Vec::new();
    for _ in 0..MAX_REQUESTS / on_each {
        let (client, responses) = streams(&gateway, on_each, "/sse").await;
        assert!(responses.iter().all(|response| response.status() == 200));
        held.push((client, responses));
    }
    let mut other = https1(&gateway, "open.test").await;
    let response = other.send_request(request("GET", "open.test", "/", "")).await.expect("a response");
    assert_eq!(response.status(), 429);
    assert_eq!(refusal(response).await["reason"], "limit_reached");
    // One that ends makes room for one.
    let (_, responses) = held.last_mut().expect("a connection");
    let mut ending = responses.pop().expect("a response");
    ending.body_mut().frame().await.expect("a frame").expect("data");
    drop(ending);
    let decisions = gateway.receipts();
    let ended = || gateway.lines().iter().any(|line| !line["end"].is_null() && line["end"] != "failed");
    while !ended() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(decisions.len(), MAX_REQUESTS + 1);
    let response = other.send_request(request("GET", "open.test", "/", "")).await.expect("a response");
    assert_eq!(text(response).await, "GET / 0");
}
