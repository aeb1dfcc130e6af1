//! What clients that do not read can make the gateway hold, measured in a process of its own.

use std::time::Duration;

use bot_bottle_gateway::limits::{MAX_CLIENT_STREAMS, MAX_IDLE_CONNECTIONS, MAX_UPSTREAM_CONNECTIONS};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_rustls::client::TlsStream;

use crate::{
    bounds::streams,
    support::{
        client::tls,
        descriptors::has_descriptors,
        gateway::{Setup, TestGateway},
        upstream::{HTTP1, HTTP2, TestUpstream},
    },
};

/// Asks for endless responses on many streams of one connection, with the largest windows that there are,
/// and never reads: the frames of RFC 9113 sections 3.4, 6.2, 6.5 and 6.9, and literals of RFC 7541.
async fn ask_and_never_read(gateway: &TestGateway, streams: u32, path: &str) -> TlsStream<TcpStream> {
    let mut stream = tls(gateway, "open.test:443", "open.test", &[b"h2"]).await;
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // SETTINGS_INITIAL_WINDOW_SIZE, and the window of the connection.
    bytes.extend([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff]);
    bytes.extend([0, 0, 4, 8, 0, 0, 0, 0, 0, 0x7f, 0, 0, 0]);
    let literal = |name: u8, value: &str| {
        let length = u8::try_from(value.len()).expect("short");
        [&[name, length], value.as_bytes()].concat()
    };
    let head = [&[0x82, 0x87][..], &literal(4, path), &literal(1, "open.test")].concat();
    for number in 0..streams {
        bytes.extend([0, 0, u8::try_from(head.len()).expect("short"), 1, 5]);
        bytes.extend((number * 2 + 1).to_be_bytes());
        bytes.extend(&head);
    }
    stream.write_all(&bytes).await.expect("written");
    stream.flush().await.expect("flushed");
    stream
}

/// The most that is resident until the upstream is asked for nothing more.
async fn peak(gateway: &TestGateway, upstream: &TestUpstream) -> u64 {
    let (mut peak, mut quiet, mut produced) = (0, 0, 0);
    while quiet < 20 {
        peak = peak.max(gateway.resident_bytes());
        let now = upstream.produced();
        quiet = if now == produced && now > 0 { quiet + 1 } else { 0 };
        produced = now;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    peak
}

/// What the attack takes besides a gateway that does nothing: the windows and buffers of its bounds, and some
/// kilobytes for each request and connection. Without bounds it takes more than a gigabyte.
const GROWTH: u64 = 180 << 20;

/// A thousand idle streams and the gateway itself.
const IDLE_STREAMS: u64 = 100 << 20;

/// Twice, because the allocator keeps what was freed: what leaks makes the second time take more.
async fn attack(alpn: &[&[u8]]) {
    if !has_descriptors(MAX_UPSTREAM_CONNECTIONS + 300) {
        return;
    }
    let upstream = TestUpstream::start(alpn).await;
    let gateway = Setup::for_upstream(&upstream).start_process();
    let idle = gateway.resident_bytes();
    for round in 0..2 {
        let mut held = Vec::new();
        for _ in 0..48 {
            held.push(ask_and_never_read(&gateway, MAX_CLIENT_STREAMS, "/large?1000000000000000").await);
        }
        let peak = peak(&gateway, &upstream).await;
        assert!(peak < idle + GROWTH, "round {round}: {} MiB became {}", idle >> 20, peak >> 20);
        drop(held);
        for _ in 0..1000 {
            if upstream.open_connections() <= MAX_IDLE_CONNECTIONS {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(upstream.open_connections() <= MAX_IDLE_CONNECTIONS, "{}", upstream.open_connections());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_responses_over_http2_that_nobody_reads_take_little() {
    attack(HTTP2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_responses_over_http1_that_nobody_reads_take_little() {
    attack(HTTP1).await;
}

/// Streams of events that stay open, as those of models and file watchers do.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_idle_streams_take_little() {
    if !has_descriptors(1300) {
        return;
    }
    for alpn in [HTTP1, HTTP2] {
        let upstream = TestUpstream::start(alpn).await;
        let gateway = Setup::for_upstream(&upstream).start_process();
        let mut held = Vec::new();
        for _ in 0..8 {
            held.push(streams(&gateway, 125, "/sse").await);
        }
        assert!(held.iter().flat_map(|(_, responses)| responses).all(|response| response.status() == 200));
        let resident = gateway.resident_bytes();
        assert!(resident < IDLE_STREAMS, "{} MiB", resident >> 20);
    }
}
