//! Each bound at its edge.

use std::time::Duration;

use bot_bottle_gateway::limits::{
    CLIENT_HANDSHAKE_TIMEOUT, CLIENT_HEADER_TIMEOUT, CLIENT_IDLE_TIMEOUT, MAX_CLIENT_STREAMS,
    MAX_CONNECTIONS, MAX_HEAD_BYTES, MAX_HEADERS, POOL_IDLE_TIMEOUT, POOL_SWEEP_INTERVAL,
    UPSTREAM_HEADER_TIMEOUT,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::Instant,
};

use crate::support::{
    client::{
        connect, exchange, http1_on, https2, raw_refusal, read_head, read_to_end, refusal, request, request2,
        text, tunnel,
    },
    descriptors::has_descriptors,
    gateway::{Setup, TestGateway},
    upstream::{HTTP1, TestUpstream},
};

async fn open_gateway(upstream: &TestUpstream) -> TestGateway {
    Setup::for_upstream(upstream).start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_may_have_so_many_fields_and_not_one_more() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = open_gateway(&upstream).await;
    // `Host` and `Connection` are two of them.
    for (fields, status) in [(MAX_HEADERS - 2, "200"), (MAX_HEADERS - 1, "431")] {
        let mut stream = tunnel(&gateway, "open.test:80").await;
        let lines: String = (0..fields).map(|number| format!("X-{number}: a\r\n")).collect();
        let head = format!("GET / HTTP/1.1\r\nHost: open.test\r\nConnection: close\r\n{lines}\r\n");
        let answer = exchange(&mut stream, head.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{fields}: {answer}");
    }
    gateway.wait_for_receipt("limit_reached").await;
    let mut client = https2(&gateway, "open.test").await;
    for (fields, status) in [(MAX_HEADERS, 200), (MAX_HEADERS + 1, 431)] {
        let mut asked = request2("GET", "open.test", "/", "");
        for number in 0..fields {
            let name: http::HeaderName = format!("x-{number}").parse().expect("a name");
            asked.headers_mut().insert(name, "a".parse().expect("a value"));
        }
        let response = client.send_request(asked).await.expect("a response");
        assert_eq!(response.status(), status, "{fields}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_may_have_so_many_bytes_and_not_one_more() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = open_gateway(&upstream).await;
    let (start, end) = ("GET / HTTP/1.1\r\nHost: open.test\r\nConnection: close\r\nX-Large: ", "\r\n\r\n");
    for (bytes, status) in
        [(MAX_HEAD_BYTES, "200"), (MAX_HEAD_BYTES + 1, "431"), (MAX_HEAD_BYTES * 40, "431")]
    {
        let mut stream = tunnel(&gateway, "open.test:80").await;
        let filler = "a".repeat(bytes - start.len() - end.len());
        let head = format!("{start}{filler}{end}");
        let _ = stream.write_all(head.as_bytes()).await;
        let answer = read_to_end(&mut stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{bytes}: {answer}");
    }
    assert_eq!(upstream.seen().len(), 1);
    gateway.wait_for_receipt("limit_reached").await;
    let mut client = https2(&gateway, "open.test").await;
    let mut asked = request2("GET", "open.test", "/", "");
    asked.headers_mut().insert("x-large", "a".repeat(MAX_HEAD_BYTES).parse().expect("a value"));
    if let Ok(response) = client.send_request(asked).await {
        assert_eq!(response.status(), 431);
    }
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_so_many_connections_and_not_one_more() {
    if !has_descriptors(MAX_CONNECTIONS * 2 + 200) {
        return;
    }
    let gateway = Setup::new().start().await;
    let mut held = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        held.push(connect(&gateway).await);
    }
    // The last of them is served: it is refused for what it asks.
    let last = held.last_mut().expect("a connection");
    let answer =
        exchange(last, b"GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n")
            .await;
    assert_eq!(raw_refusal(&answer)["reason"], "no_route");
    held.pop();
    let mut place_again = connect(&gateway).await;
    let mut answer = String::new();
    // Its place may take a moment to be free again.
    for _ in 0..1000 {
        place_again = connect(&gateway).await;
        let asked = b"GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n";
        place_again.write_all(asked).await.expect("written");
        answer = read_head(&mut place_again).await;
        if answer.starts_with("HTTP/1.1 403") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");

    let mut one_more = connect(&gateway).await;
    let answer = read_to_end(&mut one_more).await;
    assert!(answer.starts_with("HTTP/1.1 429"), "{answer}");
    assert_eq!(raw_refusal(&answer)["reason"], "limit_reached");
    gateway.wait_for_receipt("limit_reached").await;
    drop(place_again);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_have_so_many_streams() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = open_gateway(&upstream).await;
    let allowed = usize::try_from(MAX_CLIENT_STREAMS).expect("a number");
    let mut client = https2(&gateway, "open.test").await;
    // The first tells the client the limit.
    let response = client.send_request(request2("GET", "open.test", "/", "")).await.expect("a response");
    assert_eq!(text(response).await, "GET / 0");
    // The handles keep the responses, which do not end by themselves.
    let asked: Vec<_> = (0..allowed + 20)
        .map(|_| tokio::spawn(client.send_request(request2("GET", "open.test", "/sse", ""))))
        .collect();
    // Each of them takes a connection of its own to an upstream of HTTP/1.1. One more would come soon after.
    for _ in 0..200 {
        if upstream.open_connections() >= allowed {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(upstream.open_connections(), allowed);
    drop(asked);
}

/// One byte of a head every second is not enough.
#[tokio::test(start_paused = true)]
async fn a_slow_head_is_not_waited_for() {
    let gateway = Setup::new().start().await;
    let stream = connect(&gateway).await;
    let began = Instant::now();
    let (mut reader, mut writer) = stream.into_split();
    let drip = tokio::spawn(async move {
        loop {
            if writer.write_all(b"G").await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let mut answer = Vec::new();
    let _ = reader.read_to_end(&mut answer).await;
    assert!(answer.is_empty(), "{}", answer.escape_ascii());
    let waited = began.elapsed();
    assert!(waited >= CLIENT_HEADER_TIMEOUT && waited < CLIENT_HEADER_TIMEOUT * 2, "{waited:?}");
    drip.abort();
    assert_eq!(gateway.receipts()[0]["reason"], "timeout");
}

#[tokio::test(start_paused = true)]
async fn a_slow_handshake_is_not_waited_for() {
    let gateway = Setup::new().start().await;
    let mut stream = tunnel(&gateway, "open.test:443").await;
    let began = Instant::now();
    stream.write_all(b"\x16\x03\x01\x02\x00").await.expect("written");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let waited = began.elapsed();
    assert!(waited >= CLIENT_HANDSHAKE_TIMEOUT && waited < CLIENT_HANDSHAKE_TIMEOUT * 2, "{waited:?}");
    assert_eq!(gateway.receipts()[0]["reason"], "timeout");
}

/// An upstream that accepts and says nothing. Returns what it accepted, kept open.
async fn silent_upstream() -> (std::net::SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    let kept = tokio::spawn(async move {
        let mut kept: Vec<TcpStream> = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            kept.push(stream);
        }
    });
    (address, kept)
}

async fn plain_gateway(address: std::net::SocketAddr) -> TestGateway {
    Setup::plain(address).start().await
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_does_not_answer_is_a_timeout() {
    let (address, _kept) = silent_upstream().await;
    let gateway = plain_gateway(address).await;
    let mut client = http1_on(tunnel(&gateway, "open.test:80").await).await;
    let began = Instant::now();
    let response = client.send_request(request("GET", "open.test", "/", "")).await.expect("a response");
    assert_eq!(response.status(), 504);
    assert!(began.elapsed() >= UPSTREAM_HEADER_TIMEOUT, "{:?}", began.elapsed());
    assert_eq!(refusal(response).await["reason"], "timeout");
    let ending = gateway.ending(&gateway.receipts()[0]).await;
    assert_eq!(ending["reason"], "timeout");
}

#[tokio::test(start_paused = true)]
async fn a_request_body_that_stalls_ends_with_the_connection() {
    let (address, _kept) = silent_upstream().await;
    let gateway = plain_gateway(address).await;
    let mut stream = tunnel(&gateway, "open.test:80").await;
    let began = Instant::now();
    stream
        .write_all(b"POST / HTTP/1.1\r\nHost: open.test\r\nContent-Length: 100\r\n\r\nabc")
        .await
        .expect("written");
    // Not with the patience of other tests: here the clock jumps.
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.starts_with(b"HTTP/1.1 504") || answer.is_empty(), "{}", answer.escape_ascii());
    assert!(began.elapsed() <= CLIENT_IDLE_TIMEOUT + Duration::from_secs(1), "{:?}", began.elapsed());
}

/// Without a sweep an idle connection would be kept until the upstream closes it.
#[tokio::test(start_paused = true)]
async fn kept_connections_do_not_stay_for_ever() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = open_gateway(&upstream).await;
    let mut client = http1_on(tunnel(&gateway, "open.test:80").await).await;
    let response = client.send_request(request("GET", "open.test", "/", "")).await.expect("a response");
    assert_eq!(text(response).await, "GET / 0");
    assert_eq!(upstream.open_connections(), 1);
    tokio::time::sleep(POOL_IDLE_TIMEOUT + POOL_SWEEP_INTERVAL * 2).await;
    assert_eq!(upstream.open_connections(), 0);
}
