//! Every reason can be reached, and is written down: one test for each.

use std::{
    io::{Read, Write},
    net::TcpListener,
    path::Path,
};

use bot_bottle_core::{
    decision::Reason,
    gateway_config::{ControlMessage, GatewayEvent, ListenerKind},
};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::support::{
    client::{connect, exchange, http1_on, https1, https2, refusal, request, request2, tls, tunnel},
    gateway::{Setup, TestGateway},
    launcher::{Launcher, config},
    proxy::proxy_at,
    upstream::{HTTP1, TestUpstream, raw_upstream},
};

/// Reasons that were seen in receipts, or in a refusal where no receipt could be written.
type Seen = Vec<String>;

/// A test for each reason, named like it.
macro_rules! each_reason {
    ($($reason:ident: $scenario:expr;)+) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $reason() {
                let seen: Seen = $scenario.await;
                assert!(seen.iter().any(|seen| seen == stringify!($reason)), "{seen:?}");
            }
        )+

        /// The reasons that have a test.
        const TESTED: &[&str] = &[$(stringify!($reason)),+];
    };
}

#[test]
fn every_reason_has_a_test() {
    for reason in Reason::ALL {
        assert!(TESTED.contains(&reason.as_str()), "{reason} has no test here");
    }
    assert_eq!(TESTED.len(), Reason::ALL.len());
}

each_reason! {
    allowed: get("open.test", "/", "");
    approval_needed: get("asked.test", "/", "");
    approved: answered(true);
    not_approved: answered(false);
    no_route: get("evil.test", "/", "");
    host_forbidden: get("forbidden.test", "/", "");
    port_not_allowed: get("open.test:8443", "/", "");
    no_match: get("narrow.test", "/other", "");
    path_not_canonical: get("narrow.test", "/v1/../other", "");
    override_not_allowed: get("narrow.test", "/v1/x", "X-HTTP-Method-Override: DELETE\r\n");
    method_reflects: ask("open.test", "TRACE / HTTP/1.1\r\nHost: open.test\r\n");
    git_push: get("open.test", "/a.git/info/refs?service=git-receive-pack", "");
    git_fetch: get("open.test", "/a.git/info/refs?service=git-upload-pack", "");
    address_literal: get("127.0.0.1", "/", "");
    placeholder_sent: get("open.test", "/", "Authorization: Bearer egress-placeholder\r\n");
    cleartext_credential: proxied("http://secret.test/", "secret.test");
    credential_expired: get("expired.test", "/", "");
    host_mismatch: ask("open.test", "GET / HTTP/1.1\r\nHost: evil.test\r\n");
    malformed_request: ask("open.test", "GET  / HTTP/1.1\r\nHost: open.test\r\n");
    malformed_host: proxied("http://a_b..test/", "a_b..test");
    record_type: dns("open.test", 16);
    dns_tunnel: dns("6769745f746f6b656e3d61626364656667.evil.test", 1);
    unknown_protocol: spoken(b"SSH-2.0-OpenSSH_9.2\r\n");
    client_tls: spoken(b"\x16\x03\x01\x00\x05nonsense");
    address_not_public: get("inside.test", "/", "");
    name_unresolvable: get("unknown.test", "/", "");
    upstream_unreachable: broken("closed.test");
    upstream_tls: get("stranger.test", "/", "");
    upstream_protocol: broken("garbage.test");
    proxy_refused: through_proxy(b"HTTP/1.1 403 Forbidden\r\n\r\n");
    proxy_failed: through_proxy(b"");
    timeout: stalled();
    limit_reached: too_many_headers();
    internal: without_receipts();
}

fn route(host: &str) -> Value {
    json!({"host": host, "ports": [80, 443], "owner": "manifest"})
}

/// A gateway with a host for each situation, and the upstream behind some of them.
async fn gateway() -> (TestGateway, TestUpstream) {
    let upstream = TestUpstream::start(HTTP1).await;
    let stranger = TestUpstream::start(HTTP1).await;
    let mut narrow = route("narrow.test");
    narrow["matches"] = json!([{"methods": ["GET"], "paths": [{"type": "prefix", "value": "/v1"}]}]);
    let mut asked = route("asked.test");
    asked["ask"] = json!(true);
    let mut secret = route("secret.test");
    secret["auth"] = json!({"scheme": "Bearer", "token_ref": "TOKEN"});
    let mut expired = route("expired.test");
    expired["auth"] = json!({"scheme": "Bearer", "token_ref": "OTHER_TOKEN"});
    let gateway = Setup::for_upstream(&upstream)
        .expiring("OTHER_TOKEN", 1)
        .route(expired)
        .fixed("stranger.test", stranger.address)
        .resolving("inside.test", &["10.0.0.1"])
        .route(narrow)
        .route(asked)
        .route(secret)
        .route(route("stranger.test"))
        .route(route("inside.test"))
        .route(route("unknown.test"))
        .route(route("forbidden.test"))
        .forbidding("forbidden.test")
        .start()
        .await;
    (gateway, upstream)
}

/// The reasons in the receipts, which are there when a request is answered and its exchange has ended.
async fn seen(gateway: &TestGateway) -> Seen {
    gateway.wait_for_receipts(1).await;
    for decision in gateway.receipts().iter().filter(|decision| decision["verdict"] == "allow") {
        gateway.ending(decision).await;
    }
    gateway.lines().iter().filter_map(|line| line["reason"].as_str().map(str::to_owned)).collect()
}

/// Sends the head of a request through TLS.
async fn ask(host: &str, head: &str) -> Seen {
    let (gateway, _upstream) = gateway().await;
    let target = if host.contains(':') { host.to_owned() } else { format!("{host}:443") };
    let name = host.split(':').next().unwrap_or_default();
    let mut stream = tls(&gateway, &target, name, &[]).await;
    exchange(&mut stream, format!("{head}Connection: close\r\n\r\n").as_bytes()).await;
    seen(&gateway).await
}

async fn get(host: &str, path: &str, headers: &str) -> Seen {
    ask(host, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}")).await
}

/// Sends a request in absolute form to the proxy's port.
async fn proxied(target: &str, host: &str) -> Seen {
    let (gateway, _upstream) = gateway().await;
    let mut stream = connect(&gateway).await;
    let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    exchange(&mut stream, request.as_bytes()).await;
    seen(&gateway).await
}

/// Speaks something else in a tunnel.
async fn spoken(bytes: &[u8]) -> Seen {
    let (gateway, _upstream) = gateway().await;
    let mut stream = tunnel(&gateway, "open.test:443").await;
    stream.write_all(bytes).await.expect("written");
    stream.shutdown().await.expect("shut down");
    seen(&gateway).await
}

/// Asks an upstream that is not one.
async fn broken(host: &str) -> Seen {
    let closed = TcpListener::bind("127.0.0.1:0").expect("a listener").local_addr().expect("an address");
    let (garbage, _received) = raw_upstream(b"SSH-2.0-OpenSSH\r\n").await;
    let gateway = Setup::new()
        .fixed("closed.test", closed)
        .fixed("garbage.test", garbage)
        .route(route("closed.test"))
        .route(route("garbage.test"))
        .start()
        .await;
    let mut client = http1_on(tunnel(&gateway, &format!("{host}:80")).await).await;
    let response = client.send_request(request("GET", host, "/", "")).await.expect("a response");
    refusal(response).await;
    seen(&gateway).await
}

/// Asks through a proxy that answers with this.
async fn through_proxy(answer: &'static [u8]) -> Seen {
    let (proxy, _received) = raw_upstream(answer).await;
    let gateway = Setup::new().through(proxy_at(proxy), &[]).route(route("open.test")).start().await;
    let mut client = http1_on(tunnel(&gateway, "open.test:80").await).await;
    let response = client.send_request(request("GET", "open.test", "/", "")).await.expect("a response");
    refusal(response).await;
    seen(&gateway).await
}

async fn too_many_headers() -> Seen {
    let (gateway, _upstream) = gateway().await;
    let mut client = https2(&gateway, "open.test").await;
    let mut asked = request2("GET", "open.test", "/", "");
    for number in 0..200 {
        let name: http::HeaderName = format!("x-{number}").parse().expect("a name");
        asked.headers_mut().insert(name, http::HeaderValue::from_static("1"));
    }
    client.send_request(asked).await.expect("a response");
    seen(&gateway).await
}

/// On a clock of its own, which runs ahead while nothing happens.
async fn stalled() -> Seen {
    let on_its_own_clock = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let (gateway, _upstream) = gateway().await;
            let mut stream = tunnel(&gateway, "open.test:443").await;
            stream.write_all(b"\x16\x03\x01").await.expect("written");
            seen(&gateway).await
        })
    };
    tokio::task::spawn_blocking(on_its_own_clock).await.expect("no panic")
}

async fn without_receipts() -> Seen {
    let gateway = Setup::new().receipts("/dev/full").start().await;
    let mut client = https1(&gateway, "open.test").await;
    let response = client.send_request(request("GET", "open.test", "/", "")).await.expect("a response");
    vec![refusal(response).await["reason"].as_str().expect("a reason").to_owned()]
}

fn reasons(folder: &Path) -> Seen {
    let text = std::fs::read_to_string(folder.join("receipts.jsonl")).expect("receipts");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a receipt"));
    lines.filter_map(|line| line["reason"].as_str().map(str::to_owned)).collect()
}

/// Asks the operator, who answers.
async fn answered(allow: bool) -> Seen {
    let answered = move || {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = config(folder.path(), &[]);
        let asked = json!({"host": "unknown.test", "ports": [80], "owner": "manifest", "ask": true});
        config.policy = serde_json::from_value(json!({"routes": [asked]})).expect("a policy");
        let mut launcher = Launcher::start(config, ListenerKind::Proxy);
        let mut stream = std::net::TcpStream::connect(launcher.address).expect("a connection");
        stream
            .write_all(
                b"GET http://unknown.test/ HTTP/1.1\r\nHost: unknown.test\r\nConnection: close\r\n\r\n",
            )
            .expect("written");
        let GatewayEvent::Question { exchange, .. } = launcher.next_event() else { panic!("no question") };
        launcher.tell(&ControlMessage::Answer { exchange, allow });
        stream.read_to_end(&mut Vec::new()).expect("an answer");
        launcher.end().expect("a good end");
        reasons(folder.path())
    };
    tokio::task::spawn_blocking(answered).await.expect("no panic")
}

/// Asks the bottle's DNS over TCP.
async fn dns(name: &'static str, record_type: u16) -> Seen {
    let asked = move || {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = config(folder.path(), &[]);
        config.policy = serde_json::from_value(json!({"routes": [route("open.test")]})).expect("a policy");
        let launcher = Launcher::start(config, ListenerKind::DnsTcp);
        // RFC 1035 section 4.1: one question, recursion desired.
        let mut query = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            query.push(u8::try_from(label.len()).expect("a label"));
            query.extend(label.bytes());
        }
        query.push(0);
        query.extend(record_type.to_be_bytes());
        query.extend([0, 1]);
        let mut stream = std::net::TcpStream::connect(launcher.address).expect("a connection");
        let length = u16::try_from(query.len()).expect("a length").to_be_bytes();
        stream.write_all(&[&length[..], &query].concat()).expect("written");
        stream.read_exact(&mut [0; 14]).expect("an answer");
        launcher.end().expect("a good end");
        reasons(folder.path())
    };
    tokio::task::spawn_blocking(asked).await.expect("no panic")
}
