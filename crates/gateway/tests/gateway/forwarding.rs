//! What may pass, passes as it was.

use http::Version;

use crate::support::{
    client::{https1, https2, request, request2, text},
    gateway::{SECRET, Setup},
    upstream::{HTTP1, HTTP2, TestUpstream},
};

#[tokio::test(flavor = "multi_thread")]
async fn http1_goes_through_with_the_credential_and_a_receipt() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = Setup::for_upstream(&upstream).start().await;
    let mut client = https1(&gateway, "api.test").await;

    let mut get = request("GET", "api.test", "/one?secret=query", "");
    get.headers_mut().insert("authorization", "Bearer egress-placeholder".parse().expect("a value"));
    get.headers_mut().insert("x-api-key", "mine".parse().expect("a value"));
    let response = client.send_request(get).await.expect("a response");
    assert_eq!(response.status(), 200);
    assert_eq!(text(response).await, "GET /one 0");
    let response =
        client.send_request(request("POST", "api.test", "/two", "hello")).await.expect("a response");
    assert_eq!(text(response).await, "POST /two 5");

    let seen = upstream.seen();
    assert_eq!(seen[0].uri, "/one?secret=query");
    assert_eq!(seen[0].headers["authorization"], format!("Bearer {SECRET}"));
    assert!(!seen[0].headers.contains_key("x-api-key"));
    assert_eq!(seen[1].headers["authorization"], format!("Bearer {SECRET}"));
    assert_eq!(seen[1].headers["content-length"], "5");
    assert_eq!(upstream.connections(), 1, "the second request reuses the connection");

    let receipts = gateway.receipts();
    assert_eq!(receipts.len(), 2);
    assert_eq!(receipts[0]["verdict"], "allow");
    assert_eq!(receipts[0]["host"], "api.test");
    assert_eq!(receipts[0]["path"], "/one");
    assert_eq!(receipts[1]["path"], "/two");
    let lines: Vec<_> = gateway.lines().iter().map(|line| line["sequence"].clone()).collect();
    assert_eq!(lines, (1..=lines.len()).collect::<Vec<_>>(), "no line is missing");
    let raw = std::fs::read_to_string(&gateway.receipts).expect("receipts");
    assert!(!raw.contains(SECRET) && !raw.contains("secret=query") && !raw.contains("placeholder"), "{raw}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pair_of_protocols_works() {
    for alpn in [HTTP1, HTTP2] {
        let upstream = TestUpstream::start(alpn).await;
        let gateway = Setup::for_upstream(&upstream).start().await;
        let mut one = https1(&gateway, "api.test").await;
        let mut two = https2(&gateway, "api.test").await;
        let response = one.send_request(request("POST", "api.test", "/a", "abc")).await.expect("a response");
        assert_eq!(text(response).await, "POST /a 3");
        let response =
            two.send_request(request2("POST", "api.test", "/b", "abcd")).await.expect("a response");
        assert_eq!(text(response).await, "POST /b 4");
        let expected = if alpn == HTTP2 { Version::HTTP_2 } else { Version::HTTP_11 };
        for seen in upstream.seen() {
            assert_eq!(seen.version, expected);
            assert_eq!(seen.headers["authorization"], format!("Bearer {SECRET}"));
        }
        assert_eq!(upstream.connections(), 1, "kept for both clients");
    }
}
