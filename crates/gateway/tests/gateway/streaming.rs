//! Bodies pass as they come, in both directions, at constant memory.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::support::{
    client::{PATIENCE, exchange, http1_on, https1, https2, read_head, request, request2, text, tls, tunnel},
    gateway::Setup,
    upstream::{HTTP1, HTTP2, TestUpstream, raw_upstream},
};

const LARGE: usize = 100 * 1024 * 1024;

/// What the gateway may grow by while 100 MB pass.
const GROWTH: u64 = 40 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn an_event_arrives_before_the_next_is_sent() {
    for alpn in [HTTP1, HTTP2] {
        let upstream = TestUpstream::start(alpn).await;
        let gateway = Setup::for_upstream(&upstream).start().await;
        let mut one = https1(&gateway, "open.test").await;
        let mut two = https2(&gateway, "open.test").await;
        let response = one.send_request(request("GET", "open.test", "/sse", "")).await.expect("a response");
        expect_events(&upstream, response).await;
        // Not before: the upstream would let whichever of the two waits first go on.
        let response = two.send_request(request2("GET", "open.test", "/sse", "")).await.expect("a response");
        expect_events(&upstream, response).await;
    }
}

async fn expect_events(upstream: &TestUpstream, response: Response<Incoming>) {
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    let mut event = async || loop {
        let frame = timeout(PATIENCE, body.frame()).await.expect("in time")?;
        // HTTP/2 may end a stream with a frame that has nothing in it.
        match frame.expect("a frame").into_data().ok() {
            Some(data) if data.is_empty() => {}
            data => break data,
        }
    };
    assert_eq!(event().await.as_deref(), Some(&b"data: one\n\n"[..]));
    upstream.go_on();
    assert_eq!(event().await.as_deref(), Some(&b"data: two\n\n"[..]));
    assert_eq!(event().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_megabytes_pass_at_constant_memory() {
    for alpn in [HTTP1, HTTP2] {
        let upstream = TestUpstream::start(alpn).await;
        let gateway = Setup::for_upstream(&upstream).start_process();
        let mut one = https1(&gateway, "open.test").await;
        let mut two = https2(&gateway, "open.test").await;
        // Once without measuring, for what is allocated only once.
        let warm =
            one.send_request(request("GET", "open.test", "/large?1000000", "")).await.expect("a response");
        assert_eq!(text(warm).await.len(), 1_000_000);
        let before = gateway.resident_bytes();
        let path = format!("/large?{LARGE}");
        let responses = [
            one.send_request(request("GET", "open.test", &path, "")).await.expect("a response"),
            two.send_request(request2("GET", "open.test", &path, "")).await.expect("a response"),
        ];
        for response in responses {
            let (mut body, mut received, mut highest) = (response.into_body(), 0, before);
            while let Some(frame) = timeout(PATIENCE, body.frame()).await.expect("in time") {
                received += frame.expect("a frame").data_ref().map_or(0, Bytes::len);
                highest = highest.max(gateway.resident_bytes());
            }
            assert_eq!(received, LARGE);
            assert!(highest < before + GROWTH, "{} MB more", (highest - before) >> 20);
        }
        // Up: one shared chunk over and over, so that what grows is not the client.
        let mut stream = tls(&gateway, "open.test:443", "open.test", &[]).await;
        let head = format!("POST /up HTTP/1.1\r\nHost: open.test\r\nContent-Length: {LARGE}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("written");
        let chunk = [b'y'; 64 * 1024];
        for _ in 0..LARGE / chunk.len() {
            stream.write_all(&chunk).await.expect("written");
        }
        // What TLS still holds when the socket is full is sent only with the next write.
        stream.flush().await.expect("flushed");
        let answer = read_head(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(upstream.seen().last().map(|seen| seen.body_bytes), Some(LARGE));
        assert!(
            gateway.resident_bytes() < before + GROWTH,
            "{} MB more",
            (gateway.resident_bytes() - before) >> 20
        );
    }
}

/// A client that does not read stops the upstream, instead of filling the gateway's memory.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_slows_the_upstream_down() {
    for alpn in [HTTP1, HTTP2] {
        let upstream = TestUpstream::start(alpn).await;
        let gateway = Setup::for_upstream(&upstream).start().await;
        let mut stream = tls(&gateway, "open.test:443", "open.test", &[]).await;
        let head = format!("GET /large?{} HTTP/1.1\r\nHost: open.test\r\n\r\n", LARGE * 10);
        stream.write_all(head.as_bytes()).await.expect("written");
        read_head(&mut stream).await;
        let mut last = usize::MAX;
        // Until it stands still.
        while last != upstream.produced() {
            last = upstream.produced();
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        assert!(last < 32 * 1024 * 1024, "{} MB are on their way to nobody", last >> 20);
        drop(stream);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_pass_in_both_directions() {
    for alpn in [HTTP1, HTTP2] {
        let upstream = TestUpstream::start(alpn).await;
        let gateway = Setup::for_upstream(&upstream).start().await;
        let mut two = https2(&gateway, "open.test").await;
        let mut asked = request2("GET", "open.test", "/trailers", "");
        asked.headers_mut().insert("te", "trailers".parse().expect("a value"));
        let response = two.send_request(asked).await.expect("a response");
        let collected = response.into_body().collect().await.expect("a body");
        assert_eq!(
            collected.trailers().map(|trailers| trailers["grpc-status"].clone()),
            Some("0".parse().expect("a value"))
        );

        let mut stream = tls(&gateway, "open.test:443", "open.test", &[]).await;
        let answer = exchange(
            &mut stream,
            b"GET /trailers HTTP/1.1\r\nHost: open.test\r\nTE: trailers\r\nConnection: TE, close\r\n\r\n",
        )
        .await;
        assert!(answer.ends_with("0\r\ngrpc-status: 0\r\n\r\n"), "{answer:?}");

        let mut stream = tls(&gateway, "open.test:443", "open.test", &[]).await;
        let answer = exchange(
            &mut stream,
            b"POST /received-trailers HTTP/1.1\r\nHost: open.test\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\
              Connection: close\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 42\r\n\r\n",
        )
        .await;
        assert!(answer.contains("\"x-sum\": \"42\""), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_for_100_gets_it_and_a_refused_one_does_not() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = Setup::for_upstream(&upstream).start().await;
    let mut stream = tls(&gateway, "open.test:443", "open.test", &[]).await;
    let head =
        "POST /expect HTTP/1.1\r\nHost: open.test\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("written");
    assert_eq!(read_head(&mut stream).await, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"abc").await.expect("written");
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200"));
    let mut body = [0; 14];
    stream.read_exact(&mut body).await.expect("a body");
    assert_eq!(&body, b"POST /expect 3");

    let mut stream = tls(&gateway, "evil.test:443", "evil.test", &[]).await;
    stream.write_all(head.replace("open.test", "evil.test").as_bytes()).await.expect("written");
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 403"));
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_without_body_have_none() {
    for alpn in [HTTP1, HTTP2] {
        let upstream = TestUpstream::start(alpn).await;
        let gateway = Setup::for_upstream(&upstream).start().await;
        let mut stream = tls(&gateway, "open.test:443", "open.test", &[]).await;
        let answer = exchange(
            &mut stream,
            b"HEAD /large?5000 HTTP/1.1\r\nHost: open.test\r\n\r\n\
              GET /nothing HTTP/1.1\r\nHost: open.test\r\n\r\n\
              GET /after HTTP/1.1\r\nHost: open.test\r\nConnection: close\r\n\r\n",
        )
        .await;
        assert!(answer.contains("HTTP/1.1 204") && answer.ends_with("GET /after 0"), "{answer}");
        assert!(!answer.contains("xxxx"));
        let mut two = https2(&gateway, "open.test").await;
        let response =
            two.send_request(request2("HEAD", "open.test", "/large?5000", "")).await.expect("a response");
        assert_eq!((response.status().as_u16(), text(response).await.as_str()), (200, ""));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_response_keeps_the_length_that_it_tells() {
    let (address, _received) =
        raw_upstream(b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nConnection: close\r\n\r\n").await;
    let gateway = plain(address).await;
    let mut stream = tunnel(&gateway, "open.test:80").await;
    let answer =
        exchange(&mut stream, b"HEAD / HTTP/1.1\r\nHost: open.test\r\nConnection: close\r\n\r\n").await;
    assert!(
        answer.to_ascii_lowercase().contains("content-length: 1234") && answer.ends_with("\r\n\r\n"),
        "{answer}"
    );
}

/// Nothing but what is for one hop is changed: names keep their case, duplicates stay, encodings are not
/// undone.
#[tokio::test(flavor = "multi_thread")]
async fn heads_pass_as_they_were() {
    let (address, mut received) = raw_upstream(
        b"HTTP/1.1 203 Sure\r\nX-MixedCase: 1\r\nset-cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Encoding: br\r\n\
          Keep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nContent-Length: 3\r\n\r\nabc",
    )
    .await;
    let gateway = plain(address).await;
    let mut stream = tunnel(&gateway, "open.test:80").await;
    let answer = exchange(
        &mut stream,
        b"GET /as?it=was HTTP/1.1\r\nHost: open.test\r\nX-MixedCase: 1\r\nACCEPT-Encoding: br\r\ncookie: a\r\nCookie: b\r\n\
          Proxy-Connection: keep-alive\r\nConnection: close, x-hop\r\nX-Hop: 1\r\n\r\n",
    )
    .await;
    let sent = received.recv().await.expect("a request");
    let sent = String::from_utf8_lossy(&sent);
    assert_eq!(
        sent,
        "GET /as?it=was HTTP/1.1\r\nHost: open.test\r\nX-MixedCase: 1\r\nACCEPT-Encoding: br\r\ncookie: a\r\nCookie: b\r\n\r\n"
    );
    assert!(answer.starts_with("HTTP/1.1 203 "), "{answer}");
    for line in
        ["X-MixedCase: 1\r\n", "set-cookie: a=1\r\n", "Set-Cookie: b=2\r\n", "Content-Encoding: br\r\n"]
    {
        assert!(answer.contains(line), "{line} {answer}");
    }
    for name in ["keep-alive", "proxy-authenticate", "x-hop", "date"] {
        assert!(!answer.to_ascii_lowercase().contains(&format!("{name}:")), "{name} {answer}");
    }
    assert!(answer.ends_with("\r\n\r\nabc"), "{answer}");
}

async fn plain(address: std::net::SocketAddr) -> crate::support::gateway::TestGateway {
    Setup::new()
        .fixed("open.test", address)
        .route(serde_json::json!({"host": "open.test", "ports": [80], "owner": "manifest"}))
        .start()
        .await
}

/// The response stays open throughout: a whole one would let the gateway keep its connection to the upstream.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_takes_its_request_to_the_upstream_with_it() {
    for alpn in [HTTP1, HTTP2] {
        let upstream = TestUpstream::start(alpn).await;
        let gateway = Setup::for_upstream(&upstream).start().await;
        let mut one = https1(&gateway, "open.test").await;
        let response = one.send_request(request("GET", "open.test", "/sse", "")).await.expect("a response");
        drop((response, one));
        timeout(PATIENCE, upstream.abandoned()).await.expect("the upstream is told that the client is gone");

        let mut two = https2(&gateway, "open.test").await;
        let response = two.send_request(request2("GET", "open.test", "/sse", "")).await.expect("a response");
        drop((response, two));
        timeout(PATIENCE, upstream.abandoned()).await.expect("the upstream is told that the stream is reset");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_breaks_off_is_not_passed_off_as_whole() {
    let (address, _received) = raw_upstream(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this").await;
    let gateway = plain(address).await;
    let mut client = http1_on(tunnel(&gateway, "open.test:80").await).await;
    let response = client.send_request(request("GET", "open.test", "/", "")).await.expect("a head");
    assert!(response.into_body().collect().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_body_over_http2_reaches_http1_whole() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = Setup::for_upstream(&upstream).start().await;
    let mut two = https2(&gateway, "open.test").await;
    let body = Full::new(Bytes::from(vec![b'z'; 3_000_000]));
    let mut asked: Request<Full<Bytes>> =
        Request::post("https://open.test/many").body(body).expect("a request");
    *asked.headers_mut() = HeaderMap::new();
    let response = two.send_request(asked).await.expect("a response");
    assert_eq!(text(response).await, "POST /many 3000000");
}
