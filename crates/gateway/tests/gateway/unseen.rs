//! Requests of HTTP/2 that the library refuses before they are requests: each has a receipt all the same.

use bot_bottle_gateway::limits::MAX_HEAD_BYTES;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::support::{
    client::{https2, request2, text, tls},
    gateway::{Setup, TestGateway},
};

/// A frame (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(payload.len()).expect("a number").to_be_bytes();
    [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A length (RFC 7541 section 5.1).
fn length(mut length: usize) -> Vec<u8> {
    if length < 127 {
        return vec![u8::try_from(length).expect("small")];
    }
    let mut bytes = vec![127];
    length -= 127;
    while length >= 128 {
        bytes.push(u8::try_from(length % 128).expect("small") | 128);
        length /= 128;
    }
    bytes.push(u8::try_from(length).expect("small"));
    bytes
}

/// A field with a name of its own (RFC 7541 section 6.2.2).
fn field(name: &str, value: &str) -> Vec<u8> {
    [&[0], &length(name.len())[..], name.as_bytes(), &length(value.len()), value.as_bytes()].concat()
}

/// GET over HTTPS, with this path and authority.
fn head(path: &str, host: &str) -> Vec<u8> {
    [vec![0x82, 0x87], field(":path", path), field(":authority", host)].concat()
}

/// The frames of a head, in one piece or more; the request has no body.
fn head_frames(stream: u32, block: &[u8]) -> Vec<u8> {
    let pieces: Vec<_> = block.chunks(16_384).collect();
    let mut frames = Vec::new();
    for (at, piece) in pieces.iter().enumerate() {
        let end_headers = if at + 1 == pieces.len() { 4 } else { 0 };
        let (kind, flags) = if at == 0 { (1, 1 | end_headers) } else { (9, end_headers) };
        frames.extend(frame(kind, flags, stream, piece));
    }
    frames
}

async fn receipts_of(gateway: &TestGateway, host: &str) -> Vec<Value> {
    for _ in 0..2000 {
        let found: Vec<_> =
            gateway.receipts().into_iter().filter(|receipt| receipt["host"] == host).collect();
        if !found.is_empty() {
            return found;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("no receipt for {host}: {:?}", gateway.receipts());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_http2_library_refuses_is_in_a_receipt() {
    let gateway = Setup::new().start().await;
    let with =
        |host: &str, name: &str, value: &str| head_frames(1, &[head("/", host), field(name, value)].concat());
    let large = "a".repeat(MAX_HEAD_BYTES);
    let cases = [
        ("path.test", head_frames(1, &head("/a\u{1}", "path.test")), "malformed_request", Value::Null),
        ("upper.test", with("upper.test", "X-A", "a"), "malformed_request", Value::Null),
        ("hop.test", with("hop.test", "connection", "close"), "malformed_request", Value::Null),
        ("break.test", with("break.test", "x-a", "a\r\nb: c"), "malformed_request", Value::Null),
        ("large.test", with("large.test", "x-a", &large), "limit_reached", json!(431)),
        // DATA belongs to a stream (RFC 9113 section 6.1).
        ("data.test", frame(0, 0, 0, b"a"), "malformed_request", Value::Null),
    ];
    for (host, frames, reason, status) in cases {
        let mut stream = tls(&gateway, &format!("{host}:443"), host, &[b"h2"]).await;
        let start = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, &[])].concat();
        stream.write_all(&[start, frames].concat()).await.expect("written");
        stream.flush().await.expect("flushed");
        let receipts = receipts_of(&gateway, host).await;
        assert_eq!(receipts.len(), 1, "{host}: {receipts:?}");
        let told = ["verdict", "reason", "status"].map(|key| receipts[0][key].clone());
        assert_eq!(told, [json!("refuse"), json!(reason), status], "{host}");
    }
}

/// A response that is a head alone is ours.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_head_request_over_http2_has_one_receipt() {
    let gateway = Setup::new().start().await;
    let mut client = https2(&gateway, "evil.test").await;
    for _ in 0..3 {
        let asked = client.send_request(request2("HEAD", "evil.test", "/", ""));
        assert_eq!(text(asked.await.expect("a response")).await, "");
    }
    let receipts = receipts_of(&gateway, "evil.test").await;
    assert!(receipts.iter().all(|receipt| receipt["reason"] == "no_route"), "{receipts:?}");
}
