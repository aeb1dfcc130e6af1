//! The way out: which addresses are dialled, who is believed, and what happens when it goes wrong.

use bot_bottle_gateway::limits::{MAX_INFORMATIONAL, MAX_RESPONSE_HEADERS};
use serde_json::json;
use tokio::net::TcpListener;

use crate::support::{
    client::{
        PATIENCE, exchange, http1_on, https1, https2, read_head, refusal, request, request2, text, tunnel,
    },
    gateway::Setup,
    upstream::{HTTP1, HTTP2, TestUpstream, raw_upstream},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_inside_is_not_dialled() {
    let upstream = TestUpstream::start(HTTP1).await;
    let port = upstream.address.port();
    // The upstream is there, so that a dial would be seen.
    for addresses in [
        &["127.0.0.1"][..],
        &["::1"],
        &["10.0.0.1"],
        &["169.254.169.254"],
        &["fd00:ec2::254"],
        &["0.0.0.0"],
        &["::ffff:127.0.0.1"],
        &["64:ff9b::7f00:1"],
        &["2002:7f00:1::1"],
        // Rebinding: a public address beside one that is not. The name is refused whole.
        &["1.1.1.1", "127.0.0.1"],
        &["127.0.0.1", "1.1.1.1"],
        &["2606:4700::1111", "::1"],
    ] {
        let gateway = Setup::new()
            .trusting(&upstream)
            .resolving("rebind.test", addresses)
            .route(json!({"host": "rebind.test", "ports": [443, port], "owner": "manifest"}))
            .start()
            .await;
        let host = format!("rebind.test:{port}");
        let stream = crate::support::client::tls(&gateway, &host, "rebind.test", &[]).await;
        let mut client = http1_on(stream).await;
        let response = client.send_request(request("GET", &host, "/", "")).await.expect("a response");
        assert_eq!(response.status(), 403, "{addresses:?}");
        assert_eq!(refusal(response).await["reason"], "address_not_public", "{addresses:?}");
        let decision = &gateway.receipts()[0];
        assert_eq!(decision["route"], "rebind.test");
        let ending = gateway.ending(decision).await;
        assert_eq!((&ending["source"], &ending["reason"]), (&json!("address"), &json!("address_not_public")));
    }
    assert_eq!(upstream.connections(), 0);
}

/// A name that may lead to private networks leads nowhere else inside.
#[tokio::test(flavor = "multi_thread")]
async fn a_private_name_is_not_dialled_on_this_machine_or_where_clouds_hand_out_credentials() {
    let upstream = TestUpstream::start(HTTP1).await;
    let port = upstream.address.port();
    for addresses in [
        &["127.0.0.1"][..],
        &["::1"],
        &["0.0.0.0"],
        &["169.254.169.254"],
        &["fe80::1"],
        &["fd00:ec2::254"],
        &["100.100.100.200"],
        &["224.0.0.1"],
        &["::ffff:10.0.0.1"],
        &["10.0.0.1", "127.0.0.1"],
        &["10.0.0.1", "169.254.169.254"],
    ] {
        let gateway = Setup::new()
            .private(&["*.lab.test"])
            .resolving("a.lab.test", addresses)
            .route(json!({"host": "a.lab.test", "ports": [port], "owner": "manifest"}))
            .start()
            .await;
        let host = format!("a.lab.test:{port}");
        let mut client = http1_on(tunnel(&gateway, &host).await).await;
        let response = client.send_request(request("GET", &host, "/", "")).await.expect("a response");
        assert_eq!(refusal(response).await["reason"], "address_not_public", "{addresses:?}");
    }
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_of_upstreams_have_their_reasons() {
    let upstream = TestUpstream::start(HTTP1).await;
    let stranger = TestUpstream::start(HTTP1).await;
    let elsewhere = TestUpstream::start_as(&["another.test"]).await;
    let closed =
        TcpListener::bind("127.0.0.1:0").await.expect("a listener").local_addr().expect("an address");
    let (silent, _received) = raw_upstream(b"").await;
    let (garbage, _received) = raw_upstream(b"SSH-2.0-OpenSSH\r\n").await;
    let (smuggling, _received) =
        raw_upstream(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab").await;
    let route = |host: &str| json!({"host": host, "ports": [80, 443], "owner": "manifest"});
    let mut setup = Setup::new().trusting(&upstream).trusting(&elsewhere);
    for (host, address) in [
        ("stranger.test", stranger.address),
        ("open.test", elsewhere.address),
        ("closed.test", closed),
        ("silent.test", silent),
        ("garbage.test", garbage),
        ("smuggling.test", smuggling),
    ] {
        setup = setup.fixed(host, address).route(route(host));
    }
    let gateway = setup.route(route("unknown.test")).start().await;
    for (host, port, reason) in [
        ("stranger.test", 443, "upstream_tls"),
        ("open.test", 443, "upstream_tls"),
        ("silent.test", 443, "upstream_tls"),
        ("closed.test", 443, "upstream_unreachable"),
        ("unknown.test", 443, "name_unresolvable"),
        ("silent.test", 80, "upstream_protocol"),
        ("garbage.test", 80, "upstream_protocol"),
        ("smuggling.test", 80, "upstream_protocol"),
    ] {
        let mut client = if port == 443 {
            https1(&gateway, host).await
        } else {
            http1_on(tunnel(&gateway, &format!("{host}:80")).await).await
        };
        let response = client.send_request(request("GET", host, "/", "")).await.expect("a response");
        assert_eq!(response.status(), 502, "{host}:{port}");
        assert_eq!(refusal(response).await["reason"], reason, "{host}:{port}");
    }
    assert!(stranger.seen().is_empty() && elsewhere.seen().is_empty());
}

/// On one thread, so that whoever yields lets every task that can go on do so.
#[tokio::test]
async fn connections_to_upstreams_are_kept_for_all_clients() {
    for alpn in [HTTP1, HTTP2] {
        let upstream = TestUpstream::start(alpn).await;
        let gateway = Setup::for_upstream(&upstream).start().await;
        for number in 0..10 {
            let response = if number % 2 == 0 {
                https1(&gateway, "open.test").await.send_request(request("POST", "open.test", "/", "x")).await
            } else {
                https2(&gateway, "open.test")
                    .await
                    .send_request(request2("POST", "open.test", "/", "x"))
                    .await
            };
            assert_eq!(text(response.expect("a response")).await, "POST / 1");
            // The connection comes back when hyper's task has seen the end of the response.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(upstream.connections(), 1);
        // Another name, or the same without TLS, is another upstream.
        let mut other = https1(&gateway, "api.test").await;
        other.send_request(request("GET", "api.test", "/", "")).await.expect("a response");
        let mut plain = http1_on(tunnel(&gateway, "open.test:80").await).await;
        plain.send_request(request("GET", "open.test", "/", "")).await.expect("a response");
        assert_eq!(upstream.connections(), 3);
    }
}

/// A kept connection that the upstream has closed is not the client's problem; but what may have arrived is
/// not sent again.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_sent_at_most_once() {
    let (address, mut received) = raw_upstream(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let gateway = Setup::plain(address).start().await;
    let mut client = http1_on(tunnel(&gateway, "open.test:80").await).await;
    for _ in 0..5 {
        let response =
            client.send_request(request("POST", "open.test", "/once", "abc")).await.expect("a response");
        assert_eq!(response.status(), 200, "the kept connection was closed, and another one made");
        assert_eq!(text(response).await, "ok");
        let sent = received.recv().await.expect("a request");
        assert_eq!(String::from_utf8_lossy(&sent).matches("POST /once").count(), 1);
    }
    // This one reads the request, and closes without an answer.
    let (address, mut received) = raw_upstream(b"").await;
    let gateway = Setup::plain(address).start().await;
    let mut client = http1_on(tunnel(&gateway, "open.test:80").await).await;
    let response =
        client.send_request(request("POST", "open.test", "/once", "abc")).await.expect("a response");
    assert_eq!(refusal(response).await["reason"], "upstream_protocol");
    assert!(received.recv().await.is_some());
    assert!(received.try_recv().is_err(), "sent twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_may_come_before_the_request_has_ended() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = Setup::for_upstream(&upstream).start().await;
    let mut stream = crate::support::client::tls(&gateway, "open.test:443", "open.test", &[]).await;
    use tokio::io::AsyncWriteExt;
    stream
        .write_all(b"POST /early HTTP/1.1\r\nHost: open.test\r\nContent-Length: 1000000\r\n\r\nabc")
        .await
        .expect("written");
    let head = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
}

/// A response of an upstream that answers with these bytes, as it leaves the gateway.
async fn relayed(answer: impl Into<Vec<u8>>) -> String {
    let (address, _received) = raw_upstream(answer.into().leak()).await;
    let gateway = Setup::plain(address).start().await;
    let mut stream = tunnel(&gateway, "open.test:80").await;
    exchange(&mut stream, b"GET / HTTP/1.1\r\nHost: open.test\r\nConnection: close\r\n\r\n").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_ends_for_the_client_where_it_ends_for_us() {
    for head in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 300\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    ] {
        let answer = relayed(format!("HTTP/1.1 200 OK\r\n{head}")).await.to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 200") && answer.contains("hello"), "{head}: {answer}");
        let lengths = answer.matches("content-length: 5\r\n").count();
        let chunks = answer.matches("transfer-encoding: chunked\r\n").count();
        assert_eq!(lengths + chunks, 1, "{head}: {answer}");
        assert_eq!(answer.matches("content-length").count(), lengths, "{head}: {answer}");
    }
    // Lengths that differ, and a list of them in one field, have no one reading.
    for head in ["Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "Content-Length: 5, 6\r\n\r\nhello"] {
        let answer = relayed(format!("HTTP/1.1 200 OK\r\n{head}")).await;
        assert!(answer.starts_with("HTTP/1.1 502"), "{head}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_may_have_many_headers_and_not_any_number() {
    let with = |cookies: usize| {
        let cookies: String =
            (0..cookies).map(|at| format!("Set-Cookie: c{at}={}\r\n", "x".repeat(200))).collect();
        format!("HTTP/1.1 200 OK\r\n{cookies}Content-Length: 2\r\n\r\nok")
    };
    let answer = relayed(with(150)).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok"), "{answer:.200}");
    assert_eq!(answer.matches("Set-Cookie: ").count(), 150);
    for count in [MAX_RESPONSE_HEADERS, 2000] {
        let answer = relayed(with(count)).await;
        assert!(answer.starts_with("HTTP/1.1 429") && answer.contains("limit_reached"), "{answer:.200}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn informational_responses_are_counted() {
    let hints = |count| "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(count);
    let answer = |count| format!("{}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", hints(count));
    let relayed = relayed(answer(MAX_INFORMATIONAL)).await;
    assert!(relayed.starts_with("HTTP/1.1 200") && relayed.ends_with("ok"), "{relayed}");
    // Without end: an upstream that sends nothing else is given up, long before a time-out.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    let flood = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        // What comes before a request is no response to it: hyper gives the connection up with the request unsent.
        read_head(&mut stream).await;
        let hint = hints(1000);
        while tokio::io::AsyncWriteExt::write_all(&mut stream, hint.as_bytes()).await.is_ok() {}
    });
    let gateway = Setup::plain(address).start().await;
    let mut client = http1_on(tunnel(&gateway, "open.test:80").await).await;
    let response = client.send_request(request("GET", "open.test", "/", "")).await.expect("a response");
    assert_eq!(response.status(), 502);
    assert_eq!(refusal(response).await["reason"], "upstream_protocol");
    tokio::time::timeout(PATIENCE, flood).await.expect("the connection is closed").expect("no panic");
}
