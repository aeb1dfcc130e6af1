//! A working day in a minute: requests of every kind, clients that go away and upstreams that misbehave.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::{client_async, tungstenite::Message};

use crate::support::{
    client::{Http1, http1_on, https1, https2, tls, tunnel},
    gateway::{Setup, TestGateway},
    upstream::{HTTP1, HTTP2, TestUpstream},
};

/// How many requests; 20,000 if it is not set.
const REQUESTS_VARIABLE: &str = "BOT_BOTTLE_SOAK_REQUESTS";

const CONNECTIONS: u64 = 64;

/// Bytes of an upload and of a download.
const BODY: usize = 64 * 1024;

fn requests() -> u64 {
    std::env::var(REQUESTS_VARIABLE).map_or(20_000, |number| number.parse().expect("a number of requests"))
}

/// What the requests are, in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Get1,
    Get2,
    Upload1,
    Upload2,
    Download1,
    Download2,
    Events,
    WebSocket,
    /// A client that goes away in the middle of a response.
    Cancelled1,
    Cancelled2,
    /// A host that no route is for.
    Refused,
    /// Bytes that are no request.
    Nonsense,
    /// An upstream that resets the connection, closes it, half-closes it, or answers what is no response.
    BadUpstream,
}

impl Kind {
    fn of(number: u64) -> Self {
        match number % 40 {
            0..10 => Self::Get1,
            10..20 => Self::Get2,
            20..22 => Self::Upload1,
            22..24 => Self::Upload2,
            24..26 => Self::Download1,
            26..28 => Self::Download2,
            28 | 29 => Self::Events,
            30 => Self::WebSocket,
            31 => Self::Cancelled1,
            32 => Self::Cancelled2,
            33..36 => Self::Refused,
            36 => Self::Nonsense,
            _ => Self::BadUpstream,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_soak_ends_as_small_as_it_began_with_every_request_in_a_receipt() {
    let requests = requests();
    let (one, two) = (TestUpstream::start(HTTP1).await, TestUpstream::start(HTTP2).await);
    let gateway = Arc::new(setup(&one, &two).await.start_process());

    // Everything that is kept is there after half of them: certificates, buffers, connections, also those of
    // clients that have gone, which are kept as long as for a client that has closed its side alone.
    let first = requests / 2;
    soak(&gateway, 0..first).await;
    let before = gateway.resident_bytes();
    soak(&gateway, first..requests).await;
    let after = gateway.resident_bytes();
    // Room for what differs with the load of the machine; 100,000 requests that each leave 1 KiB are beyond it.
    assert!(after <= before * 3 / 2 + (8 << 20), "{before} bytes became {after}");

    let lines = wait_for_lines(&gateway, requests).await;
    let refused = lines.iter().filter(|line| line["verdict"] == "refuse").count() as u64;
    let again: u64 = lines.iter().filter_map(|line| line["again"].as_u64()).sum();
    let allowed = lines.iter().filter(|line| line["verdict"] == "allow").count() as u64;
    assert_eq!(allowed + refused + again, requests, "each is in a receipt, once");
    let expected = (0..requests).filter(|number| !is_refused(Kind::of(*number))).count() as u64;
    assert_eq!(allowed, expected);
    let mut endings: HashMap<&str, u64> = HashMap::new();
    for line in lines.iter().filter_map(|line| line["end"].as_str()) {
        *endings.entry(line).or_default() += 1;
    }
    let of =
        |kinds: &[Kind]| (0..requests).filter(|number| kinds.contains(&Kind::of(*number))).count() as u64;
    assert_eq!(endings["cancelled"], of(&[Kind::Cancelled1, Kind::Cancelled2]), "{endings:?}");
    assert!(endings["failed"] > of(&[Kind::BadUpstream]) / 2, "{endings:?}");
    assert_eq!(endings.values().sum::<u64>(), allowed, "each that was let out has an end");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_under_load_it_leaves_no_way_out_and_whole_receipts() {
    let (one, two) = (TestUpstream::start(HTTP1).await, TestUpstream::start(HTTP2).await);
    let gateway = Arc::new(setup(&one, &two).await.start_process());
    let load = tokio::spawn({
        let gateway = Arc::clone(&gateway);
        async move {
            let mut client = https1(&gateway, "open.test").await;
            while client.send_request(get("open.test", "/x")).await.is_ok_and(|answer| answer.status() == 200)
            {
            }
        }
    });
    while one.seen().len() < 200 {
        assert!(!load.is_finished(), "{:?}", gateway.lines());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let process = rustix::process::Pid::from_raw(gateway.process_id().cast_signed()).expect("a process");
    rustix::process::kill_process(process, rustix::process::Signal::KILL).expect("killed");
    load.await.expect("its requests fail");
    for _ in 0..1000 {
        if TcpStream::connect(gateway.address).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(TcpStream::connect(gateway.address).await.is_err(), "nobody listens any more");
    let text = std::fs::read_to_string(&gateway.receipts).expect("receipts");
    assert!(text.ends_with('\n'), "whole lines");
    let allowed = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line"));
    let allowed = allowed.filter(|line| line["verdict"] == "allow").count();
    assert!(allowed >= one.seen().len(), "what the upstream has seen is in a receipt");
}

async fn setup(one: &TestUpstream, two: &TestUpstream) -> Setup {
    let route = |host: &str, port: u16| json!({"host": host, "ports": [port], "owner": "manifest"});
    Setup::new()
        .trusting(one)
        .trusting(two)
        .fixed("open.test", one.address)
        .fixed("other.test", two.address)
        .fixed("bad.test", bad_upstream().await)
        .route(route("open.test", 443))
        .route(route("other.test", 443))
        .route(route("bad.test", 80))
}

fn is_refused(kind: Kind) -> bool {
    matches!(kind, Kind::Refused | Kind::Nonsense)
}

/// Makes the requests of these numbers over as many connections at one time as there may be.
async fn soak(gateway: &Arc<TestGateway>, numbers: std::ops::Range<u64>) {
    let next = Arc::new(AtomicU64::new(numbers.start));
    let clients = (0..CONNECTIONS).map(|_| {
        let (gateway, next) = (Arc::clone(gateway), Arc::clone(&next));
        tokio::spawn(async move {
            let mut client = Client { gateway, one: None, two: None };
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= numbers.end {
                    return;
                }
                let kind = Kind::of(number);
                let made = tokio::time::timeout(Duration::from_secs(60), client.make(kind, number)).await;
                made.unwrap_or_else(|_| panic!("{kind:?}, number {number}, has no end"));
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.expect("no client fails");
    }
}

/// One of the clients, with the connections that it keeps.
struct Client {
    gateway: Arc<TestGateway>,
    one: Option<Http1>,
    two: Option<http2::SendRequest<Full<Bytes>>>,
}

impl Client {
    async fn make(&mut self, kind: Kind, number: u64) {
        // Every client comes anew now and then.
        if number.is_multiple_of(97) {
            (self.one, self.two) = (None, None);
        }
        match kind {
            Kind::Get1 => self.one(get("open.test", "/x"), "GET /x 0".len()).await,
            Kind::Get2 => self.two(get2("/x", Bytes::new()), "GET /x 0".len()).await,
            Kind::Upload1 => {
                let upload = Request::post("/up").header("host", "open.test");
                self.one(upload.body(body()).expect("a request"), "POST /up 65536".len()).await;
            }
            Kind::Upload2 => {
                let upload = Request::post("https://other.test/up").body(body()).expect("a request");
                self.two(upload, "POST /up 65536".len()).await;
            }
            Kind::Download1 => self.one(get("open.test", &format!("/large?{BODY}")), BODY).await,
            Kind::Download2 => self.two(get2(&format!("/large?{BODY}"), Bytes::new()), BODY).await,
            Kind::Events => self.one(get("open.test", "/events"), 35).await,
            Kind::WebSocket => self.web_socket().await,
            Kind::Cancelled1 => {
                let mut client = https1(&self.gateway, "open.test").await;
                let answer = client.send_request(get("open.test", "/sse")).await.expect("answered");
                let event = answer.into_body().frame().await.expect("an event").expect("received");
                assert!(event.is_data());
            }
            Kind::Cancelled2 => {
                let mut client = https2(&self.gateway, "other.test").await;
                let answer = client.send_request(get2("/sse", Bytes::new())).await.expect("answered");
                let event = answer.into_body().frame().await.expect("an event").expect("received");
                assert!(event.is_data());
            }
            Kind::Refused => {
                let request = format!("GET http://x.evil/{number} HTTP/1.1\r\nHost: x.evil\r\n\r\n");
                let answer = self.raw(request.as_bytes(), "\"hint\"").await;
                assert!(answer.starts_with("HTTP/1.1 403") || answer.starts_with("HTTP/1.1 429"), "{answer}");
            }
            Kind::Nonsense => {
                let answer = self.raw(b"GET /x HTTP/1.1\r\nno header\r\n\r\n", "\"hint\"").await;
                assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
            }
            Kind::BadUpstream => {
                let mut client = http1_on(tunnel(&self.gateway, "bad.test:80").await).await;
                // A post is not sent again, so that each has one end.
                let request = Request::post(format!("/{number}")).header("host", "bad.test");
                let answer = client.send_request(request.body(Full::default()).expect("a request")).await;
                if let Ok(answer) = answer {
                    let _ = answer.into_body().collect().await;
                }
            }
        }
    }

    /// A request on the kept connection of HTTP/1.1.
    async fn one(&mut self, request: Request<Full<Bytes>>, length: usize) {
        if self.one.is_none() {
            self.one = Some(https1(&self.gateway, "open.test").await);
        }
        let client = self.one.as_mut().expect("a connection");
        let answer = client.send_request(request).await.expect("answered");
        assert_eq!(answer.status(), 200);
        let body = answer.into_body().collect().await.expect("a body").to_bytes();
        assert_eq!(body.len(), length);
    }

    /// A request on the kept connection of HTTP/2.
    async fn two(&mut self, request: Request<Full<Bytes>>, length: usize) {
        if self.two.is_none() {
            self.two = Some(https2(&self.gateway, "other.test").await);
        }
        let client = self.two.as_mut().expect("a connection");
        let answer = client.send_request(request).await.expect("answered");
        assert_eq!(answer.status(), 200);
        let body = answer.into_body().collect().await.expect("a body").to_bytes();
        assert_eq!(body.len(), length);
    }

    async fn web_socket(&self) {
        let stream = tls(&self.gateway, "open.test:443", "open.test", &[]).await;
        let (mut socket, _) = client_async("wss://open.test/ws", stream).await.expect("a WebSocket");
        let message = Message::binary(vec![7; 10_000]);
        socket.send(message.clone()).await.expect("sent");
        assert_eq!(socket.next().await.expect("a message").expect("received"), message);
        socket.close(None).await.expect("closed");
        while let Some(Ok(_)) = socket.next().await {}
    }

    /// Sends bytes to the proxy's port, and returns what comes up to this text.
    async fn raw(&self, bytes: &[u8], until: &str) -> String {
        let mut stream = TcpStream::connect(self.gateway.address).await.expect("connected");
        stream.write_all(bytes).await.expect("sent");
        let mut answer = Vec::new();
        while !String::from_utf8_lossy(&answer).contains(until) {
            assert_ne!(stream.read_buf(&mut answer).await.expect("read"), 0, "closed before {until}");
        }
        String::from_utf8(answer).expect("text")
    }
}

fn get(host: &str, path: &str) -> Request<Full<Bytes>> {
    Request::get(path).header("host", host).body(Full::default()).expect("a request")
}

fn get2(path: &str, body: Bytes) -> Request<Full<Bytes>> {
    Request::get(format!("https://other.test{path}")).body(Full::new(body)).expect("a request")
}

fn body() -> Full<Bytes> {
    static ZEROS: [u8; BODY] = [b'x'; BODY];
    Full::new(Bytes::from_static(&ZEROS))
}

/// A server that answers each connection in another wrong way.
async fn bad_upstream() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        for number in 0_u64.. {
            let (stream, _) = listener.accept().await.expect("a connection");
            tokio::spawn(misbehave(stream, number));
        }
    });
    address
}

async fn misbehave(mut stream: TcpStream, number: u64) -> std::io::Result<()> {
    let mut request = [0; 4096];
    let _ = stream.read(&mut request).await?;
    let answer: &[u8] = match number % 6 {
        // With unread bytes or a zero linger the kernel sends a reset, socket(7).
        0 => {
            return rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))
                .map_err(Into::into);
        }
        1 => b"",
        2 => b"SSH-2.0-nothing\r\n",
        3 => b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
        4 => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        _ => b"HTTP/1.1 200 OK\r\n\r\nup to the end",
    };
    stream.write_all(answer).await?;
    stream.shutdown().await?;
    // The other half stays open until the gateway has enough of it.
    let _ = stream.read(&mut request).await?;
    Ok(())
}

/// Waits until every exchange that was let out has an end and what repeats is counted, and returns all lines.
async fn wait_for_lines(gateway: &TestGateway, requests: u64) -> Vec<Value> {
    for _ in 0..120 {
        let lines = gateway.lines();
        let count = |key: &str, value: &str| lines.iter().filter(|line| line[key] == value).count() as u64;
        let again: u64 = lines.iter().filter_map(|line| line["again"].as_u64()).sum();
        let ended = lines.iter().filter(|line| !line["end"].is_null()).count() as u64;
        let allowed = count("verdict", "allow");
        if ended == allowed && allowed + count("verdict", "refuse") + again >= requests {
            return lines;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("not each of {requests} requests is in a receipt and has an end");
}
