//! What honest clients do and naive proxies break.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bot_bottle_testkit::{find_program, require};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::support::{
    client::{exchange, http1_on, https1, raw_refusal, read_to_end, refusal, request, text, tls, tunnel},
    gateway::{Setup, TestGateway},
    upstream::{HTTP1, TestUpstream, certified},
};

async fn open_gateway(address: std::net::SocketAddr) -> TestGateway {
    Setup::plain(address).start().await
}

/// Bytes that are not read as a request are refused in the words of all refusals, and recorded with their own
/// status.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_cannot_be_read_is_told_why() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = Setup::for_upstream(&upstream).start().await;
    let many: String = (0..200).map(|at| format!("X-{at}: 1\r\n")).collect();
    let long = format!("X-Long: {}\r\n", "x".repeat(70_000));
    for (request, status, reason) in [
        ("GET /x?a=<b> HTTP/1.1\r\nHost: open.test\r\n".to_owned(), 400, "malformed_request"),
        ("GET /`x` HTTP/1.1\r\nHost: open.test\r\n".to_owned(), 400, "malformed_request"),
        ("GET /x HTTP/1.1\r\nHost: open.test\r\nA : b\r\n".to_owned(), 400, "malformed_request"),
        ("GET /\u{0}x HTTP/1.1\r\nHost: open.test\r\n".to_owned(), 400, "malformed_request"),
        (format!("GET /x HTTP/1.1\r\nHost: open.test\r\n{many}"), 431, "limit_reached"),
        (format!("GET /x HTTP/1.1\r\nHost: open.test\r\n{long}"), 431, "limit_reached"),
    ] {
        // One gateway each: the same refusal again is only counted.
        let gateway = Setup::for_upstream(&upstream).start().await;
        let mut stream = tls(&gateway, "open.test:443", "open.test", &[]).await;
        let answer = exchange(&mut stream, format!("{request}\r\n").as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request:.60}: {answer}");
        assert_eq!(raw_refusal(&answer)["reason"], reason, "{request:.60}");
        let receipts = gateway.receipts();
        let [receipt] = &receipts[..] else { panic!("{receipts:?}") };
        assert_eq!((&receipt["reason"], &receipt["status"]), (&json!(reason), &json!(status)));
        assert_eq!((&receipt["host"], &receipt["port"]), (&json!("open.test"), &json!(443)));
    }
    assert!(upstream.seen().is_empty());
    // What was answered before it stays answered.
    let mut stream = tls(&gateway, "open.test:443", "open.test", &[]).await;
    let two = b"GET /one HTTP/1.1\r\nHost: open.test\r\n\r\nGET /two HTTP/1.1\r\nHost : open.test\r\n\r\n";
    let answer = exchange(&mut stream, two).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("GET /one 0"), "{answer}");
    assert!(answer.contains("HTTP/1.1 400") && answer.contains("malformed_request"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_that_are_not_ascii_pass_as_they_were_written() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = Setup::for_upstream(&upstream).start().await;
    let mut stream = tls(&gateway, "open.test:443", "open.test", &[]).await;
    let request = "GET /süß?q=ü HTTP/1.1\r\nHost: open.test\r\nConnection: close\r\n\r\n";
    let answer = exchange(&mut stream, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(upstream.seen()[0].uri, "/süß?q=ü");
}

/// As `nc -N` and many scripts do: ask, and close the side that has nothing more to say.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_closes_its_side_alone_is_answered() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = Setup::for_upstream(&upstream).start().await;
    let mut stream = tunnel(&gateway, "open.test:80").await;
    stream.write_all(b"GET /slow HTTP/1.1\r\nHost: open.test\r\n\r\n").await.expect("written");
    stream.shutdown().await.expect("shut down");
    gateway.wait_for_receipts(1).await;
    upstream.go_on();
    let answer = read_to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("at last"), "{answer}");
    assert_eq!(gateway.ending(&gateway.receipts()[0]).await["end"], "complete");
}

/// A stream that is reset as its response ends is an error for curl, which then shows nothing of the refusal.
#[tokio::test(flavor = "multi_thread")]
async fn curl_shows_the_refusal_of_a_request_with_a_body() {
    let Some(curl) = find_program("curl") else {
        assert!(!require("curl", false));
        return;
    };
    let gateway = Setup::new().start().await;
    let ca = gateway.folder.path().join("bottle-ca.pem");
    std::fs::write(&ca, &gateway.ca_pem).expect("written");
    let body = gateway.folder.path().join("body");
    std::fs::write(&body, "x".repeat(300_000)).expect("written");
    for version in ["--http1.1", "--http2"] {
        for data in ["{\"a\":1}".to_owned(), format!("@{}", body.display())] {
            let mut command = std::process::Command::new(&curl);
            command.env_clear().args([
                "-sS",
                version,
                "--proxy",
                &format!("http://{}", gateway.address),
                "--cacert",
            ]);
            command.arg(&ca).args(["-H", "Expect:", "-d", &data, "https://evil.test/v1"]);
            let output =
                tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("curl");
            assert!(output.status.success(), "{version}: {output:?}");
            let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
            assert_eq!(told["reason"], "no_route", "{version}");
        }
    }
}

/// An upstream that answers the first request of a connection and closes the connection at the second, as a
/// server does whose keep-alive time ends while the request is on its way.
async fn closing_upstream() -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let counted = Arc::clone(&counted);
            tokio::spawn(async move {
                for number in 0..2 {
                    let mut read = [0; 4096];
                    if stream.read(&mut read).await.unwrap_or(0) == 0 {
                        return;
                    }
                    counted.fetch_add(1, Ordering::SeqCst);
                    if number == 0 {
                        stream
                            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                            .await
                            .expect("written");
                    }
                }
            });
        }
    });
    (address, requests)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_may_be_repeated_survives_a_kept_connection_that_closes() {
    let (address, requests) = closing_upstream().await;
    let gateway = open_gateway(address).await;
    let mut client = http1_on(tunnel(&gateway, "open.test:80").await).await;
    for expected in [1, 3] {
        let response = client.send_request(request("GET", "open.test", "/", "")).await.expect("a response");
        assert_eq!(response.status(), 200);
        assert_eq!(text(response).await, "ok");
        assert_eq!(requests.load(Ordering::SeqCst), expected, "sent again once, on a new connection");
    }
    // What the upstream may have acted on is not repeated.
    let (address, requests) = closing_upstream().await;
    let gateway = open_gateway(address).await;
    let mut client = http1_on(tunnel(&gateway, "open.test:80").await).await;
    for (expected, status) in [(1, 200), (2, 502)] {
        let response = client.send_request(request("POST", "open.test", "/", "")).await.expect("a response");
        assert_eq!(response.status(), status);
        if status == 502 {
            assert_eq!(refusal(response).await["reason"], "upstream_protocol");
        } else {
            text(response).await;
        }
        assert_eq!(requests.load(Ordering::SeqCst), expected);
    }
}

/// An upstream that refuses each second stream of a connection (`REFUSED_STREAM`, RFC 9113 section 8.7).
async fn refusing_upstream(config: rustls::ServerConfig) -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    let refused = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&refused);
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, counted) = (acceptor.clone(), Arc::clone(&counted));
            tokio::spawn(async move {
                let stream = acceptor.accept(stream).await.expect("TLS");
                let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
                let mut number = 0;
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    number += 1;
                    if number % 2 == 0 {
                        counted.fetch_add(1, Ordering::SeqCst);
                        respond.send_reset(h2::Reason::REFUSED_STREAM);
                    } else {
                        respond.send_response(http::Response::new(()), true).expect("sent");
                    }
                }
            });
        }
    });
    (address, refused)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_the_upstream_says_it_did_not_process_is_sent_again() {
    let (config, ca) = certified(&["api.test"], &[b"h2"]);
    let (address, refused) = refusing_upstream(config).await;
    let gateway = Setup::new()
        .trusting_pem(&ca)
        .fixed("api.test", address)
        .route(json!({"host": "api.test", "ports": [443], "owner": "manifest"}))
        .start()
        .await;
    let mut client = https1(&gateway, "api.test").await;
    for method in ["GET", "POST", "DELETE", "POST"] {
        let response = client.send_request(request(method, "api.test", "/", "")).await.expect("a response");
        assert_eq!(response.status(), 200, "{method}");
        text(response).await;
    }
    assert!(refused.load(Ordering::SeqCst) >= 1);
}
