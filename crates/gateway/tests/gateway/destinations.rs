//! A request has one destination, whoever names it.

use serde_json::json;

use crate::support::{
    client::{
        connect, exchange, http1_on, http2_on, raw_refusal, refusal, request, request2, tls, tls_on, tunnel,
    },
    gateway::Setup,
    upstream::{HTTP1, TestUpstream},
};

#[tokio::test(flavor = "multi_thread")]
async fn tunnel_server_name_and_host_have_to_agree() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = Setup::for_upstream(&upstream).start().await;
    for (target, server_name, host) in [
        ("open.test:443", "api.test", "open.test"),
        ("open.test:443", "api.test", "api.test"),
        ("open.test:443", "open.test", "api.test"),
        ("open.test:443", "open.test", "evil.test"),
        ("open.test:443", "open.test", "open.test:8443"),
        ("open.test:443", "open.test", "open.test:80"),
        ("evil.test:443", "open.test", "open.test"),
    ] {
        let case = format!("{target} {server_name} {host}");
        let mut one = http1_on(tls(&gateway, target, server_name, &[b"http/1.1"]).await).await;
        let response = one.send_request(request("GET", host, "/", "")).await.expect("a response");
        assert_eq!(response.status(), 421, "{case}");
        assert_eq!(refusal(response).await["reason"], "host_mismatch", "{case}");
        let mut two = http2_on(tls(&gateway, target, server_name, &[b"h2"]).await).await;
        let response = two.send_request(request2("GET", host, "/", "")).await.expect("a response");
        assert_eq!(response.status(), 421, "{case}");
        assert_eq!(refusal(response).await["reason"], "host_mismatch", "{case}");
    }
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn spellings_of_one_name_agree_and_go_out_as_one() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = Setup::for_upstream(&upstream).start().await;
    for host in ["OPEN.test", "open.test.", "open.test:443"] {
        let mut client = http1_on(tls(&gateway, "Open.Test.:443", "open.test", &[]).await).await;
        let response = client.send_request(request("GET", host, "/", "")).await.expect("a response");
        assert_eq!(response.status(), 200, "{host}");
    }
    for seen in upstream.seen() {
        assert_eq!(seen.headers["host"], "open.test");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_may_not_name_two_hosts_or_another_scheme() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = Setup::for_upstream(&upstream).start().await;
    let mut client = http2_on(tls(&gateway, "open.test:443", "open.test", &[b"h2"]).await).await;
    let mut two_hosts = request2("GET", "open.test", "/", "");
    two_hosts.headers_mut().insert("host", "evil.test".parse().expect("a value"));
    let response = client.send_request(two_hosts).await.expect("a response");
    assert_eq!(refusal(response).await["reason"], "host_mismatch");

    let mut other_scheme = request2("GET", "open.test", "/", "");
    *other_scheme.uri_mut() = "http://open.test/".parse().expect("a URI");
    let response = client.send_request(other_scheme).await.expect("a response");
    assert_eq!(refusal(response).await["reason"], "host_mismatch");
    assert!(upstream.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_or_missing_host_header_is_malformed() {
    let gateway =
        Setup::new().route(json!({"host": "open.test", "ports": [80], "owner": "manifest"})).start().await;
    for head in [
        "GET / HTTP/1.1\r\nHost: open.test\r\nHost: open.test\r\n",
        "GET / HTTP/1.1\r\nHost: open.test\r\nHost: evil.test\r\n",
        "GET / HTTP/1.1\r\n",
    ] {
        let mut stream = tunnel(&gateway, "open.test:80").await;
        let answer = exchange(&mut stream, format!("{head}Connection: close\r\n\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert_eq!(raw_refusal(&answer)["reason"], "malformed_request", "{head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_refused_in_every_notation() {
    let gateway = Setup::new().start().await;
    // The plain notations are told inside TLS, with a certificate for the address.
    for (target, address) in [
        ("127.0.0.1:443", "127.0.0.1"),
        ("8.8.8.8:443", "8.8.8.8"),
        ("[::1]:443", "::1"),
        ("[::ffff:7f00:1]:443", "::ffff:127.0.0.1"),
    ] {
        let stream = tunnel(&gateway, target).await;
        let stream = tls_on(&gateway, stream, address, &[]).await.expect("a certificate for the address");
        let mut client = http1_on(stream).await;
        let host = target.trim_end_matches(":443");
        let response = client.send_request(request("GET", host, "/", "")).await.expect("a response");
        assert_eq!(response.status(), 403, "{target}");
        assert_eq!(refusal(response).await["reason"], "address_literal", "{target}");
    }
    // Those that only some programs read as an address have no certificate, and are told at once.
    for target in
        ["2130706433:443", "0x7f000001:443", "0x7f.1:443", "0177.0.0.1:443", "127.1:443", "127.0.0.1.:443"]
    {
        let mut stream = connect(&gateway).await;
        let answer = exchange(
            &mut stream,
            format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n").as_bytes(),
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{target}: {answer}");
        assert_eq!(raw_refusal(&answer)["reason"], "address_literal", "{target}");
    }
    for url in ["http://127.0.0.1/", "http://[::1]/", "http://2130706433/", "http://127.1/"] {
        let host = url.trim_start_matches("http://").trim_end_matches('/');
        let mut stream = connect(&gateway).await;
        let answer = exchange(
            &mut stream,
            format!("GET {url} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes(),
        )
        .await;
        assert_eq!(raw_refusal(&answer)["reason"], "address_literal", "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_with_a_forged_host_is_a_mismatch() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = Setup::for_upstream(&upstream).start().await;
    let stream = tunnel(&gateway, "127.0.0.1:443").await;
    let mut client = http1_on(tls_on(&gateway, stream, "127.0.0.1", &[]).await.expect("TLS")).await;
    let response = client.send_request(request("GET", "api.test", "/", "")).await.expect("a response");
    assert_eq!(refusal(response).await["reason"], "host_mismatch");
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_targets_that_are_none_are_refused_at_once() {
    let gateway = Setup::new().start().await;
    for (target, reason, status) in [
        ("open.test", "malformed_request", 400),
        ("open.test:", "malformed_request", 400),
        ("open.test:0", "malformed_request", 400),
        ("user@open.test:443", "malformed_host", 400),
        ("user:password@open.test:443", "malformed_request", 400),
        ("-open.test:443", "malformed_host", 400),
        ("a..b:443", "malformed_host", 400),
        ("/path", "malformed_request", 400),
        ("http://open.test:443/", "malformed_request", 400),
    ] {
        let mut stream = connect(&gateway).await;
        let answer = exchange(
            &mut stream,
            format!("CONNECT {target} HTTP/1.1\r\nHost: open.test\r\nConnection: close\r\n\r\n").as_bytes(),
        )
        .await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{target}: {answer}");
        if answer.contains("application/json") {
            assert_eq!(raw_refusal(&answer)["reason"], reason, "{target}");
        }
        assert!(gateway.wait_for_receipt(reason).await["verdict"] == "refuse");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn absolute_form_works_and_its_tricks_do_not() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = Setup::for_upstream(&upstream).start().await;
    let ask = async |url: &str, host: &str| {
        let mut stream = connect(&gateway).await;
        let head = format!("GET {url} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        exchange(&mut stream, head.as_bytes()).await
    };
    let answer = ask("http://open.test/plain?x=1", "open.test").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("GET /plain 0"), "{answer}");
    assert_eq!(upstream.seen()[0].uri, "/plain?x=1");
    // For programs without TLS of their own: the gateway encrypts.
    let answer = ask("https://api.test/encrypted", "api.test").await;
    assert!(answer.ends_with("GET /encrypted 0"), "{answer}");

    let before = upstream.seen().len();
    for (url, host, reason) in [
        ("http://open.test/", "evil.test", "host_mismatch"),
        ("http://open.test/", "open.test:81", "host_mismatch"),
        ("http://evil.test/", "open.test", "host_mismatch"),
        ("http://open.test@evil.test/", "evil.test", "malformed_host"),
        ("http://user:password@open.test/", "open.test", "malformed_request"),
        ("ftp://open.test/", "open.test", "malformed_request"),
        ("ws://open.test/", "open.test", "malformed_request"),
        ("http://open.test:22/", "open.test:22", "port_not_allowed"),
        ("/origin-form", "open.test", "malformed_request"),
        ("/policy", "bottle.internal", "malformed_request"),
    ] {
        let answer = ask(url, host).await;
        assert_eq!(raw_refusal(&answer)["reason"], reason, "{url} {host}");
    }
    assert_eq!(upstream.seen().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_inside_a_tunnel_is_refused() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = Setup::for_upstream(&upstream).start().await;
    let mut stream = tls(&gateway, "open.test:443", "open.test", &[]).await;
    let answer = exchange(
        &mut stream,
        b"CONNECT open.test:443 HTTP/1.1\r\nHost: open.test\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(raw_refusal(&answer)["reason"], "malformed_request");

    let mut client = http2_on(tls(&gateway, "open.test:443", "open.test", &[b"h2"]).await).await;
    let mut connect = request2("CONNECT", "open.test", "", "");
    *connect.uri_mut() = "open.test:443".parse().expect("a URI");
    let response = client.send_request(connect).await.expect("a response");
    assert_eq!(response.status(), 400);
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_client_without_host_header_gets_the_tunnels_host() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = Setup::for_upstream(&upstream).start().await;
    let mut stream = tls(&gateway, "open.test:443", "open.test", &[]).await;
    let answer = exchange(&mut stream, b"GET /old HTTP/1.0\r\n\r\n").await;
    assert!(answer.contains("200") && answer.ends_with("GET /old 0"), "{answer}");
    assert_eq!(upstream.seen()[0].headers["host"], "open.test");
    let mut stream = connect(&gateway).await;
    let answer = exchange(&mut stream, b"GET http://open.test/older HTTP/1.0\r\n\r\n").await;
    assert!(answer.ends_with("GET /older 0"), "{answer}");
}
