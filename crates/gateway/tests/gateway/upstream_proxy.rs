//! The way out through a proxy of the operator's.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::{io::AsyncWriteExt, net::TcpListener};
use tokio_tungstenite::{client_async, tungstenite::Message};

use crate::support::{
    client::{
        exchange, http1_on, https1, https2, raw_refusal, read_head, refusal, request, request2, text, tls,
        tunnel,
    },
    gateway::{SECRET, Setup, TestGateway},
    proxy::{ConnectProxy, USER, proxy_at},
    upstream::{HTTP1, HTTP2, TestUpstream, raw_upstream},
};

/// The hosts of [`setup`].
const HOSTS: [&str; 2] = ["api.test", "open.test"];

/// `api.test` has a credential, `open.test` none. Nobody knows their addresses but a proxy.
fn setup(upstream: &TestUpstream) -> Setup {
    Setup::new()
        .trusting(upstream)
        .route(json!({"host": "api.test", "ports": [443], "owner": "manifest",
                      "auth": {"scheme": "Bearer", "token_ref": "TOKEN"}}))
        .route(json!({"host": "open.test", "ports": [80, 443], "owner": "manifest"}))
}

/// A refusal of a request without TLS: what the client read, whole.
async fn refused(gateway: &TestGateway, host: &str) -> String {
    let target = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let mut stream = tunnel(gateway, &target).await;
    let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    exchange(&mut stream, head.as_bytes()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_protocol_passes_and_the_proxy_sees_names_alone() {
    for alpn in [HTTP1, HTTP2] {
        let upstream = TestUpstream::start(alpn).await;
        let proxy = ConnectProxy::start(&HOSTS, upstream.address).await;
        let gateway = setup(&upstream).through(proxy.setting(), &[]).start().await;
        let mut one = https1(&gateway, "api.test").await;
        let response =
            one.send_request(request("POST", "api.test", "/one", "abc")).await.expect("a response");
        assert_eq!(text(response).await, "POST /one 3");
        let mut two = https2(&gateway, "open.test").await;
        let response = two.send_request(request2("POST", "open.test", "/two", "abcd")).await;
        assert_eq!(text(response.expect("a response")).await, "POST /two 4");
        let mut plain = http1_on(tunnel(&gateway, "open.test:80").await).await;
        let response = plain.send_request(request("GET", "open.test", "/plain", "")).await;
        assert_eq!(text(response.expect("a response")).await, "GET /plain 0");
        let stream = tls(&gateway, "api.test:443", "api.test", &[]).await;
        let (mut socket, _) = client_async("wss://api.test/ws", stream).await.expect("a WebSocket");
        let message = Message::binary(vec![7; 300_000]);
        socket.send(message.clone()).await.expect("sent");
        assert_eq!(socket.next().await.expect("a message").expect("received"), message);

        let versions: Vec<_> = upstream.seen().iter().map(|seen| seen.version).collect();
        assert_eq!(versions.contains(&http::Version::HTTP_2), alpn == HTTP2, "{versions:?}");
        assert_eq!(upstream.seen()[0].headers["authorization"], format!("Bearer {SECRET}"));
        assert_eq!(gateway.names_resolved(), 0, "the proxy resolves");
        let asked = proxy.asked();
        assert_eq!(asked.len(), upstream.connections(), "{asked:?}");
        for head in &asked {
            let target = head.split(' ').nth(1).expect("a target");
            assert_eq!(*head, format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"));
        }
        for target in ["api.test:443", "open.test:443", "open.test:80"] {
            assert!(asked.iter().any(|head| head.starts_with(&format!("CONNECT {target} "))), "{asked:?}");
        }
    }
}

/// On one thread, so that whoever yields lets every task that can go on do so.
#[tokio::test]
async fn tunnels_are_kept_like_other_connections() {
    for alpn in [HTTP1, HTTP2] {
        let upstream = TestUpstream::start(alpn).await;
        let proxy = ConnectProxy::start(&HOSTS, upstream.address).await;
        let gateway = setup(&upstream).through(proxy.setting(), &[]).start().await;
        for _ in 0..10 {
            let mut client = https2(&gateway, "open.test").await;
            let response = client.send_request(request2("POST", "open.test", "/", "x")).await;
            assert_eq!(text(response.expect("a response")).await, "POST / 1");
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!((proxy.asked().len(), upstream.connections()), (1, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_without_the_proxy_and_fixed_ones_are_dialled_directly() {
    let upstream = TestUpstream::start(HTTP1).await;
    let proxy = ConnectProxy::start(&["open.test", "a.lab.test", "lab.test"], upstream.address).await;
    let route = |host: &str| json!({"host": host, "ports": [80], "owner": "manifest"});
    let gateway = Setup::new()
        .through(proxy.setting(), &["*.corp.test", "exact.test"])
        .fixed("*.lab.test", upstream.address)
        .resolving("git.corp.test", &["10.0.0.1"])
        .resolving("exact.test", &["127.0.0.1"])
        .route(route("*.corp.test"))
        .route(route("exact.test"))
        .route(route("*.lab.test"))
        .route(route("lab.test"))
        .route(route("corp.test"))
        .start()
        .await;
    // Directly is by the rules for addresses.
    for host in ["git.corp.test", "exact.test"] {
        assert_eq!(raw_refusal(&refused(&gateway, host).await)["reason"], "address_not_public", "{host}");
    }
    let mut fixed = http1_on(tunnel(&gateway, "a.lab.test:80").await).await;
    let response = fixed.send_request(request("GET", "a.lab.test", "/fixed", "")).await.expect("a response");
    assert_eq!(text(response).await, "GET /fixed 0");
    assert_eq!((proxy.asked().len(), upstream.connections(), gateway.names_resolved()), (0, 1, 2));
    // What is below a name is another name.
    let mut through = http1_on(tunnel(&gateway, "lab.test:80").await).await;
    let response =
        through.send_request(request("GET", "lab.test", "/through", "")).await.expect("a response");
    assert_eq!(text(response).await, "GET /through 0");
    assert_eq!(raw_refusal(&refused(&gateway, "corp.test").await)["reason"], "proxy_refused");
    assert_eq!(proxy.asked().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_route_allows_never_reaches_the_proxy() {
    let upstream = TestUpstream::start(HTTP1).await;
    let proxy = ConnectProxy::start(&["open.test", "evil.test", "localhost"], upstream.address).await;
    let port = proxy.address.port();
    let route = |host: &str| json!({"host": host, "ports": [80, port], "owner": "manifest"});
    let named = format!("http://proxy.test:{port}").parse().expect("a URL");
    let named = bot_bottle_core::upstream_proxy::UpstreamProxy { url: named, login: None };
    let gateway = Setup::new()
        .through(named, &["direct.test"])
        .resolving("proxy.test", &["127.0.0.1"])
        .fixed("alias.test", proxy.address)
        .resolving("direct.test", &["127.0.0.1"])
        .route(route("open.test"))
        .route(route("proxy.test"))
        .route(route("alias.test"))
        .route(route("direct.test"))
        .route(route("localhost"))
        .route(route("*.localhost"))
        .start()
        .await;
    for (host, reason) in [
        ("evil.test".to_owned(), "no_route"),
        ("127.0.0.1".to_owned(), "address_literal"),
        ("10.0.0.1".to_owned(), "address_literal"),
        ("169.254.169.254".to_owned(), "address_literal"),
        // The proxy itself is no host of the bottle's: under its name, a fixed address, and another name.
        (format!("proxy.test:{port}"), "address_not_public"),
        (format!("alias.test:{port}"), "address_not_public"),
        (format!("direct.test:{port}"), "address_not_public"),
        // Nor is its machine.
        ("localhost".to_owned(), "address_not_public"),
        ("a.localhost".to_owned(), "address_not_public"),
    ] {
        assert_eq!(raw_refusal(&refused(&gateway, &host).await)["reason"], reason, "{host}");
    }
    assert_eq!(proxy.asked(), [] as [&str; 0]);
    let mut client = http1_on(tunnel(&gateway, "open.test:80").await).await;
    let response = client.send_request(request("GET", "open.test", "/", "")).await.expect("a response");
    assert_eq!(text(response).await, "GET / 0", "the proxy may be at a private address");
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_of_the_proxy_have_their_reasons() {
    let closed =
        TcpListener::bind("127.0.0.1:0").await.expect("a listener").local_addr().expect("an address");
    let mut cases = vec![("closed".to_owned(), closed, "proxy_failed")];
    let padding = format!("HTTP/1.1 200 OK\r\nX-Padding: {}\r\n\r\n", "x".repeat(20_000));
    let fields = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X-Padding: 1\r\n".repeat(100));
    let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(1000);
    for (answer, reason) in [
        ("HTTP/1.1 403 Forbidden\r\n\r\n<html>inner-words</html>", "proxy_refused"),
        ("HTTP/1.1 502 Bad Gateway\r\n\r\ninner-words", "proxy_refused"),
        ("HTTP/1.1 503 inner-words\r\n\r\n", "proxy_refused"),
        ("HTTP/1.0 302 Found\r\nLocation: http://inner-words/\r\n\r\n", "proxy_refused"),
        ("HTTP/1.1 407 inner-words\r\nProxy-Authenticate: Negotiate inner-words\r\n\r\n", "proxy_failed"),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", "proxy_failed"),
        ("SSH-2.0-OpenSSH\r\n", "proxy_failed"),
        ("HTTP/1.1 2oo inner-words\r\n\r\n", "proxy_failed"),
        ("HTTP/1.1 200 OK\r\nX-Padding: without end", "proxy_failed"),
        ("", "proxy_failed"),
        (&padding, "proxy_failed"),
        (&fields, "proxy_failed"),
        (&interim, "proxy_failed"),
    ] {
        let (address, _received) = raw_upstream(answer.to_owned().leak().as_bytes()).await;
        cases.push((answer.chars().take(50).collect(), address, reason));
    }
    for (case, address, reason) in cases {
        let gateway = Setup::new()
            .through(proxy_at(address), &[])
            .route(json!({"host": "open.test", "ports": [80], "owner": "manifest"}))
            .start()
            .await;
        let answer = refused(&gateway, "open.test").await;
        assert!(answer.starts_with("HTTP/1.1 502"), "{case}: {answer}");
        assert_eq!(raw_refusal(&answer)["reason"], reason, "{case}");
        let ending = gateway.ending(&gateway.receipts()[0]).await;
        assert_eq!((&ending["reason"], &ending["source"]), (&json!(reason), &json!("upstream")), "{case}");
        let written = std::fs::read_to_string(&gateway.receipts).expect("receipts");
        assert!(!(answer + &written).contains("inner-words"), "{case}");
    }
}

/// A head that never ends is given up at its bound.
#[tokio::test(flavor = "multi_thread")]
async fn an_endless_head_of_the_proxy_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    let flood = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        read_head(&mut stream).await;
        let mut written = stream.write_all(b"HTTP/1.1 200 OK\r\nX-Endless: ").await;
        while written.is_ok() {
            written = stream.write_all(&[b'x'; 4096]).await;
        }
    });
    let gateway = Setup::new()
        .through(proxy_at(address), &[])
        .route(json!({"host": "open.test", "ports": [80], "owner": "manifest"}))
        .start()
        .await;
    assert_eq!(raw_refusal(&refused(&gateway, "open.test").await)["reason"], "proxy_failed");
    flood.await.expect("the connection is closed");
}

/// On a clock that runs ahead while nothing happens.
#[tokio::test(start_paused = true)]
async fn a_proxy_that_never_answers_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let gateway = Setup::new()
        .through(proxy_at(listener.local_addr().expect("an address")), &[])
        .route(json!({"host": "open.test", "ports": [80], "owner": "manifest"}))
        .start()
        .await;
    let mut client = http1_on(tunnel(&gateway, "open.test:80").await).await;
    let response = client.send_request(request("GET", "open.test", "/", "")).await.expect("a response");
    assert_eq!(response.status(), 502);
    assert_eq!(refusal(response).await["reason"], "proxy_failed");
}

/// What is logged, at every level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("not poisoned")).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("not poisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// On one thread, whose log is read.
#[tokio::test]
async fn a_login_is_sent_to_the_proxy_and_shown_to_nobody() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _logging = tracing::subscriber::set_default(subscriber);

    let (right, wrong) = ("right: sésame-9d2e", "wrong-sesame-41b7");
    let upstream = TestUpstream::start(HTTP2).await;
    let login = |password: &str| format!("Basic {}", STANDARD.encode(format!("{USER}:{password}")));
    let proxy = ConnectProxy::with_login(&HOSTS, upstream.address, &login(right)).await;
    let start =
        |password: &str| setup(&upstream).through(proxy.setting_with_login(), &[]).password(password).start();
    let mut shown = String::new();

    let gateway = start(right).await;
    let mut client = https2(&gateway, "api.test").await;
    let response = client.send_request(request2("GET", "api.test", "/", "")).await.expect("a response");
    shown += &format!("{:?}", response.headers());
    shown += &text(response).await;
    let seen = format!("{:?}", upstream.seen());
    assert!(!seen.contains("proxy-authorization") && seen.contains(SECRET), "{seen}");
    shown += &seen;
    shown += &std::fs::read_to_string(&gateway.receipts).expect("receipts");
    shown += &format!("{:?}", gateway.state());

    let gateway = start(wrong).await;
    let answer = refused(&gateway, "open.test").await;
    assert_eq!(raw_refusal(&answer)["reason"], "proxy_failed");
    shown += &answer;
    shown += &std::fs::read_to_string(&gateway.receipts).expect("receipts");

    // Without a login.
    let gateway = setup(&upstream).through(proxy.setting(), &[]).start().await;
    assert_eq!(raw_refusal(&refused(&gateway, "open.test").await)["reason"], "proxy_failed");

    let sent = proxy.asked();
    assert!(sent[0].contains(&login(right)) && sent[1].contains(&login(wrong)), "{sent:?}");
    assert!(!sent[2].contains("Proxy-Authorization"), "{sent:?}");
    let logged = log.text();
    assert!(logged.contains("WARN") && logged.contains("the proxy does not accept the login"), "{logged}");
    assert!(logged.contains("it offers: Basic"), "{logged}");
    shown += &logged;
    for (what, secret) in [
        ("the password", right.to_owned()),
        ("another password", wrong.to_owned()),
        ("the login", STANDARD.encode(format!("{USER}:{right}"))),
        ("another login", STANDARD.encode(format!("{USER}:{wrong}"))),
    ] {
        assert!(!shown.contains(&secret), "{what} is shown");
        let part = &secret[secret.len() - 8..];
        assert!(!shown.contains(part), "the end of {what} is shown");
    }
}
