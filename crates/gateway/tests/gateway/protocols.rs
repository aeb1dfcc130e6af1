//! Whatever a client speaks in a tunnel is understood, or the tunnel ends.

use std::time::Duration;

use bot_bottle_testkit::{find_program, require};
use http::Version;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

use crate::support::{
    client::{exchange, http1_on, https1, https2, read_to_end, request, request2, text, tls, tls_on, tunnel},
    gateway::{Setup, TestGateway},
    upstream::{HTTP1, HTTP2, TestUpstream},
};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_neither_tls_nor_http_is_refused() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = Setup::for_upstream(&upstream).start().await;
    for banner in [
        &b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"[..],
        b"SSH-2.0-Go\r\n",
        b"\x80\x2e\x01\x00\x02",
        b"\0\0\0\0\0\0\0\0",
        b"\x05\x01\x00",
        b"EHLO there\r\n",
        b"*1\r\n$4\r\nPING\r\n",
    ] {
        let mut stream = tunnel(&gateway, "open.test:443").await;
        assert_eq!(exchange(&mut stream, banner).await, "", "{}", banner.escape_ascii());
        let receipt = gateway.wait_for_receipt("unknown_protocol").await;
        assert_eq!(receipt["method"], "CONNECT");
        assert_eq!(receipt["host"], "open.test");
    }
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_for_the_server_to_speak_first_is_refused() {
    let gateway = Setup::new().start().await;
    let mut stream = tunnel(&gateway, "open.test:443").await;
    let began = Instant::now();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("closed");
    assert!(answer.is_empty());
    assert!(began.elapsed() >= bot_bottle_gateway::limits::SNIFF_TIMEOUT, "{:?}", began.elapsed());
    assert_eq!(
        gateway.receipts()[0]["reason"],
        "no_route",
        "where it may not go matters more than what it speaks"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_without_server_name_or_alpn_are_served() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = Setup::for_upstream(&upstream).start().await;
    let stream = tls(&gateway, "open.test:443", "open.test", &[]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), None);
    let mut client = http1_on(stream).await;
    let response = client.send_request(request("GET", "open.test", "/a", "")).await.expect("a response");
    assert_eq!(text(response).await, "GET /a 0");

    let stream = without_server_name(&gateway).await;
    let mut client = http1_on(stream).await;
    let response = client.send_request(request("GET", "open.test", "/b", "")).await.expect("a response");
    assert_eq!(text(response).await, "GET /b 0");
}

async fn without_server_name(
    gateway: &TestGateway,
) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
    use crate::support::client::client_config;
    let mut config = client_config(gateway, &[]);
    config.enable_sni = false;
    let stream = tunnel(gateway, "open.test:443").await;
    let name = "open.test".try_into().expect("a name");
    tokio_rustls::TlsConnector::from(std::sync::Arc::new(config)).connect(name, stream).await.expect("TLS")
}

#[tokio::test(flavor = "multi_thread")]
async fn http_in_a_tunnel_is_http() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = Setup::for_upstream(&upstream).start().await;
    let mut client = http1_on(tunnel(&gateway, "open.test:80").await).await;
    let response = client.send_request(request("GET", "open.test", "/plain", "")).await.expect("a response");
    assert_eq!(text(response).await, "GET /plain 0");
    // A request line that comes in pieces, with the CONNECT before it.
    let mut stream = crate::support::client::connect(&gateway).await;
    stream
        .write_all(b"CONNECT open.test:80 HTTP/1.1\r\nHost: open.test:80\r\n\r\nGE")
        .await
        .expect("written");
    tokio::time::sleep(Duration::from_millis(50)).await;
    stream
        .write_all(b"T /pieces HTTP/1.1\r\nHost: open.test\r\nConnection: close\r\n\r\n")
        .await
        .expect("written");
    let answer = read_to_end(&mut stream).await;
    assert!(answer.contains("HTTP/1.1 200") && answer.ends_with("GET /pieces 0"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_trust_the_ca_leaves_a_receipt() {
    let gateway = Setup::new().start().await;
    let other = Setup::new().start().await;
    let stream = tunnel(&gateway, "open.test:443").await;
    assert!(tls_on(&other, stream, "open.test", &[]).await.is_err());
    let receipt = gateway.wait_for_receipt("client_tls").await;
    assert_eq!(receipt["host"], "open.test");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_protocols_are_offered_to_clients_and_upstreams() {
    let upstream = TestUpstream::start(HTTP2).await;
    let gateway = Setup::for_upstream(&upstream).start().await;
    let stream = tls(&gateway, "open.test:443", "open.test", HTTP2).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut two = https2(&gateway, "open.test").await;
    let streams = (0..50).map(|_| two.send_request(request2("GET", "open.test", "/x", "")));
    for response in futures_util::future::join_all(streams).await {
        assert_eq!(text(response.expect("a response")).await, "GET /x 0");
    }
    let mut one = https1(&gateway, "open.test").await;
    let response = one.send_request(request("GET", "open.test", "/y", "")).await.expect("a response");
    assert_eq!(text(response).await, "GET /y 0");
    assert!(upstream.seen().iter().all(|seen| seen.version == Version::HTTP_2));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bottle_has_a_ca_of_its_own() {
    let (one, two) = (Setup::new().start().await, Setup::new().start().await);
    assert_ne!(one.ca_pem, two.ca_pem);
    let ready = one.state().ready();
    assert_eq!(ready.ca_fingerprint.len(), 32 * 3 - 1);
    assert!(
        ready
            .ca_fingerprint
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase() || byte == b':')
    );
}

/// A client that is not rustls.
#[tokio::test(flavor = "multi_thread")]
async fn curl_believes_the_certificates() {
    let upstream = TestUpstream::start(HTTP2).await;
    let gateway = Setup::for_upstream(&upstream).start().await;
    let ca = gateway.folder.path().join("bottle-ca.pem");
    std::fs::write(&ca, &gateway.ca_pem).expect("written");
    let proxy = format!("http://{}", gateway.address);
    let Some(curl) = find_program("curl") else {
        assert!(!require("curl", false));
        return;
    };
    for version in ["--http1.1", "--http2"] {
        let mut command = std::process::Command::new(&curl);
        command.env_clear().args(["-sS", version, "--proxy", &proxy, "--cacert"]).arg(&ca).args([
            "-d",
            "abc",
            "https://api.test/from-curl",
        ]);
        let output =
            tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("curl");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "POST /from-curl 3", "{output:?}");
    }
}
