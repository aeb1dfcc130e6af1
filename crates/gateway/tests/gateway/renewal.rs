//! Credentials that are renewed while the gateway runs.

use std::{
    convert::Infallible,
    os::unix::net::UnixStream,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bot_bottle_core::{
    gateway_config::{ControlMessage, GatewayEvent, RenewalCause, Secrets},
    secret::SecretRef,
};
use bot_bottle_gateway::{
    limits::{MAX_KEPT_BODY, RENEWAL_TIMEOUT},
    serve_launcher,
};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, future::join_all};
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    task::block_in_place,
    time::{Instant, timeout},
};
use tokio_tungstenite::{
    client_async,
    tungstenite::{self, Message},
};

use crate::support::{
    client::{PATIENCE, https1, https2, refusal, request, request2, text, tls},
    gateway::{OTHER_SECRET, SECRET, Setup, TestGateway},
    launcher::Launcher,
    upstream::{ChannelBody, HTTP1, HTTP2, Seen, TestUpstream, sum},
};

mod bodies;
mod expiry;
mod questions;

const NEW: &str = "new-credential-91c4";

fn token() -> SecretRef {
    SecretRef::new("TOKEN")
}

fn renew(values: &[(&str, &str)], cause: RenewalCause) -> ControlMessage {
    let secrets = values.iter().map(|(name, value)| (SecretRef::new(*name), (*value).to_owned().into()));
    ControlMessage::Renew { secrets: Secrets(secrets.collect()), expires: [].into(), cause }
}

fn not_renewed(why: &str) -> ControlMessage {
    ControlMessage::NotRenewed { reference: token(), why: why.into() }
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs()
}

/// Not by blocking, as what the gateway waits for may be a future of the same task.
async fn next_event(launcher: &mut Launcher) -> GatewayEvent {
    let began = Instant::now();
    while launcher.is_quiet_for(Duration::from_millis(1)) {
        assert!(began.elapsed() < PATIENCE, "the gateway says nothing");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    launcher.next_event()
}

/// The gateway asks for another value, and for nothing else before that.
async fn expect_question(launcher: &mut Launcher, cause: RenewalCause) {
    assert_eq!(next_event(launcher).await, GatewayEvent::RenewalNeeded { reference: token(), cause });
}

async fn answer(launcher: &mut Launcher, value: &str, cause: RenewalCause) {
    launcher.tell(&renew(&[("TOKEN", value)], cause));
    assert_eq!(next_event(launcher).await, GatewayEvent::Reloaded);
}

/// Gives the new value when the gateway asks for it.
async fn renew_when_asked(launcher: &mut Launcher, cause: RenewalCause) {
    expect_question(launcher, cause).await;
    answer(launcher, NEW, cause).await;
}

fn is_quiet(launcher: &mut Launcher) -> bool {
    block_in_place(|| launcher.is_quiet_for(Duration::from_millis(300)))
}

fn setup(upstream: &TestUpstream) -> Setup {
    Setup::for_upstream(upstream)
        .fixed("other.test", upstream.address)
        .route(json!({"host": "other.test", "ports": [443], "owner": "manifest",
               "auth": {"scheme": "Bearer", "token_ref": "OTHER_TOKEN"}}))
}

/// An upstream that accepts the new value alone.
async fn renewed_upstream(alpn: &[&[u8]]) -> TestUpstream {
    let upstream = TestUpstream::start(alpn).await;
    upstream.accept_only(&format!("Bearer {NEW}"));
    upstream
}

fn with_body(request: Request<Full<Bytes>>, body: &Bytes) -> Request<Full<Bytes>> {
    request.map(|_| Full::new(body.clone()))
}

/// Which values the upstream got, in their order.
fn given(seen: &[Seen]) -> Vec<&str> {
    seen.iter().map(|seen| seen.headers["authorization"].to_str().expect("text")).collect()
}

fn bearer(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| format!("Bearer {value}")).collect()
}

fn renewals(gateway: &TestGateway) -> Vec<Value> {
    gateway.lines().into_iter().filter(|line| !line["renewal"].is_null()).collect()
}

/// Neither value is in what the gateway leaves behind, nor in what the agent got.
fn assert_secret(gateway: &TestGateway, told: &str) {
    let receipts = std::fs::read_to_string(&gateway.receipts).expect("receipts");
    assert!(receipts.contains("api.test"), "{receipts}");
    for value in [SECRET, NEW, OTHER_SECRET] {
        // A part of a value gives it away as well.
        let part = &value[..value.len() - 3];
        assert!(!receipts.contains(part), "{receipts}");
        assert!(!told.contains(part), "{told}");
    }
}

async fn told(response: Response<Incoming>) -> (u16, String, String) {
    let (status, head) = (response.status().as_u16(), format!("{:?}", response.headers()));
    (status, head, text(response).await)
}

/// HTTP/1.1 through TLS in a tunnel, for a body of any kind.
async fn http1_with<B>(gateway: &TestGateway) -> http1::SendRequest<B>
where
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let stream = tls(gateway, "api.test:443", "api.test", &[b"http/1.1"]).await;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("a handshake");
    tokio::spawn(connection);
    sender
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_is_sent_again_with_the_renewed_value() {
    let body = Bytes::from((0..300_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>());
    for (alpn, over_http2) in [(HTTP1, false), (HTTP1, true), (HTTP2, false), (HTTP2, true)] {
        let upstream = renewed_upstream(alpn).await;
        let (gateway, mut launcher) = setup(&upstream).start_launched();
        let answered = async {
            let response = if over_http2 {
                let mut client = https2(&gateway, "api.test").await;
                client.send_request(with_body(request2("POST", "api.test", "/x?q", ""), &body)).await
            } else {
                let mut client = https1(&gateway, "api.test").await;
                client.send_request(with_body(request("POST", "api.test", "/x?q", ""), &body)).await
            };
            told(response.expect("a response")).await
        };
        let asked = async {
            expect_question(&mut launcher, RenewalCause::Refused).await;
            assert_eq!(upstream.seen().len(), 1, "it waits");
            answer(&mut launcher, NEW, RenewalCause::Refused).await;
        };
        let ((status, head, text), ()) = tokio::join!(answered, asked);
        assert_eq!((status, text.as_str()), (200, "POST /x 1200000"));
        let seen = upstream.seen();
        assert_eq!(given(&seen), bearer(&[SECRET, NEW]));
        for seen in &seen {
            assert_eq!(seen.body_sum, sum(0, &body));
            assert!(seen.uri.ends_with("/x?q"), "{}", seen.uri);
        }
        assert!(!format!("{:?}", seen[1]).contains(SECRET), "the old value is gone");
        // The answer that was not passed on has left the connection usable.
        assert_eq!(upstream.connections(), 1);
        let decisions = gateway.receipts();
        assert_eq!(decisions.len(), 1, "it is one exchange: {decisions:?}");
        let ending = gateway.ending(&decisions[0]).await;
        assert_eq!((&ending["repeated"], &ending["status"]), (&json!(true), &json!(200)));
        assert_eq!(ending["sent"], 2 * body.len());
        let renewals = renewals(&gateway);
        assert_eq!(renewals.len(), 1, "{renewals:?}");
        assert_eq!(
            (&renewals[0]["renewal"], &renewals[0]["references"], &renewals[0]["cause"]),
            (&json!("renewed"), &json!(["TOKEN"]), &json!("refused"))
        );
        assert_secret(&gateway, &(head + &text));
        // The next request has the value from the start.
        let mut client = https1(&gateway, "api.test").await;
        let response = client.send_request(request("GET", "api.test", "/", "")).await.expect("a response");
        assert_eq!(response.status(), 200);
        let last = gateway.receipts().pop().expect("a receipt");
        assert!(gateway.ending(&last).await["repeated"].is_null());
        assert!(is_quiet(&mut launcher));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_websocket_is_asked_for_again() {
    for alpn in [HTTP1, HTTP2] {
        let upstream = renewed_upstream(alpn).await;
        let (gateway, mut launcher) = setup(&upstream).start_launched();
        let connected = async {
            let stream = tls(&gateway, "api.test:443", "api.test", &[]).await;
            client_async("wss://api.test/ws", stream).await.expect("a WebSocket")
        };
        let asked = renew_when_asked(&mut launcher, RenewalCause::Refused);
        let ((mut socket, response), ()) = tokio::join!(connected, asked);
        assert_eq!(response.status(), 101);
        // It goes on when the value is swapped again.
        answer(&mut launcher, "a-third-value", RenewalCause::Changed).await;
        socket.send(Message::text("hello")).await.expect("sent");
        assert_eq!(socket.next().await.expect("a message").expect("received"), Message::text("hello"));
        socket.close(None).await.expect("closed");
        assert_eq!(given(&upstream.seen()), bearer(&[SECRET, NEW]));
        assert_eq!(gateway.ending(&gateway.receipts()[0]).await["repeated"], true);
        assert_secret(&gateway, &format!("{response:?}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_in_the_query_is_replaced_too() {
    let upstream = renewed_upstream(HTTP1).await;
    // No value of `Authorization` is accepted, so that the second answer is a 401 too: it is the client's.
    let (gateway, mut launcher) = Setup::new()
        .trusting(&upstream)
        .fixed("api.test", upstream.address)
        .route(json!({"host": "api.test", "ports": [443], "owner": "manifest",
                      "auth": {"query": "key", "token_ref": "TOKEN"}}))
        .start_launched();
    let answered = async {
        let mut client = https1(&gateway, "api.test").await;
        let asked = request("GET", "api.test", "/x?a=1&key=agents", "");
        told(client.send_request(asked).await.expect("a response")).await
    };
    let asked = renew_when_asked(&mut launcher, RenewalCause::Refused);
    let ((status, head, text), ()) = tokio::join!(answered, asked);
    assert_eq!((status, text.as_str()), (401, "who are you?"));
    let seen = upstream.seen();
    let uris: Vec<_> = seen.iter().map(|seen| seen.uri.as_str()).collect();
    assert_eq!(uris, [format!("/x?a=1&key={SECRET}"), format!("/x?a=1&key={NEW}")]);
    assert_secret(&gateway, &(head + &text));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_goes_on_while_the_value_is_swapped_and_other_credentials_stay() {
    for alpn in [HTTP1, HTTP2] {
        let upstream = TestUpstream::start(alpn).await;
        let (gateway, mut launcher) = setup(&upstream).start_launched();
        let mut client = https2(&gateway, "api.test").await;
        let response =
            client.send_request(request2("GET", "api.test", "/sse", "")).await.expect("a response");
        let mut body = response.into_body();
        let first = timeout(PATIENCE, body.frame()).await.expect("in time").expect("a frame").expect("data");
        assert_eq!(first.into_data().expect("data"), "data: one\n\n");
        answer(&mut launcher, NEW, RenewalCause::Due).await;
        upstream.go_on();
        let rest = timeout(PATIENCE, body.collect()).await.expect("in time").expect("the rest");
        assert_eq!(rest.to_bytes(), "data: two\n\n");
        for host in ["api.test", "other.test"] {
            let mut client = https2(&gateway, host).await;
            let response = client.send_request(request2("GET", host, "/", "")).await.expect("a response");
            assert_eq!(response.status(), 200);
        }
        assert_eq!(given(&upstream.seen()), bearer(&[SECRET, NEW, OTHER_SECRET]));
        assert_eq!(gateway.ending(&gateway.receipts()[0]).await["end"], "complete");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_credential_leaves_the_one_that_is() {
    let upstream = TestUpstream::start(HTTP1).await;
    let (gateway, mut launcher) = setup(&upstream).start_launched();
    for (values, named) in [
        (&[("TOKEN", "two\nlines-91c4")][..], "TOKEN"),
        (&[("TOKEN", "")], "TOKEN"),
        (&[("TOKEN", NEW), ("UNKNOWN", "value-91c4")], "UNKNOWN"),
        // ODD_TOKEN was handed over, and no route injects it.
        (&[("TOKEN", NEW), ("ODD_TOKEN", "value-91c4")], "ODD_TOKEN"),
        (&[("TOKEN", NEW), ("OTHER_TOKEN", " ")], "OTHER_TOKEN"),
    ] {
        launcher.tell(&renew(values, RenewalCause::Changed));
        let GatewayEvent::NotReloaded { why } = next_event(&mut launcher).await else {
            panic!("it was taken")
        };
        assert!(why.contains(named) && !why.contains("91c4"), "{why}");
        let mut client = https1(&gateway, "api.test").await;
        client.send_request(request("GET", "api.test", "/", "")).await.expect("a response");
        assert_eq!(given(&upstream.seen()).last(), Some(&&*format!("Bearer {SECRET}")));
        let last = renewals(&gateway).pop().expect("a receipt");
        assert_eq!((&last["renewal"], &last["cause"]), (&json!("failed"), &json!("changed")));
        assert!(last["why"].as_str().expect("a reason").contains(named), "{last}");
    }
    assert_secret(&gateway, "");
    // Requests that wait are told so by their 401.
    upstream.accept_only("nothing");
    let answered = async {
        let mut client = https1(&gateway, "api.test").await;
        told(client.send_request(request("GET", "api.test", "/", "")).await.expect("a response")).await
    };
    let question = async {
        expect_question(&mut launcher, RenewalCause::Refused).await;
        launcher.tell(&renew(&[("TOKEN", "two\nlines")], RenewalCause::Refused));
        assert!(matches!(next_event(&mut launcher).await, GatewayEvent::NotReloaded { .. }));
    };
    let ((status, ..), ()) = tokio::join!(answered, question);
    assert_eq!(status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_renewed_goes_to_the_client_whole() {
    const LARGE: usize = 1_000_000;
    for alpn in [HTTP1, HTTP2] {
        let upstream = TestUpstream::start(alpn).await;
        upstream.accept_only("nothing");
        let (gateway, mut launcher) = setup(&upstream).start_launched();
        for (path, length) in [("/x".to_owned(), 12), (format!("/x?{LARGE}"), LARGE)] {
            let mut client = https2(&gateway, "api.test").await;
            let answered = async {
                told(client.send_request(request2("GET", "api.test", &path, "")).await.expect("a response"))
                    .await
            };
            let question = async {
                if length < LARGE {
                    expect_question(&mut launcher, RenewalCause::Refused).await;
                    // What makes no sense changes nothing.
                    launcher.tell(&ControlMessage::Answer { exchange: 9999, allow: true });
                    launcher.tell(&ControlMessage::NotRenewed {
                        reference: SecretRef::new("UNKNOWN"),
                        why: "no".into(),
                    });
                    launcher.tell(&not_renewed("nobody is \u{1b}[1mlogged in"));
                }
            };
            let ((status, head, body), ()) = tokio::join!(answered, question);
            assert_eq!((status, body.len()), (401, length));
            assert!(head.contains("www-authenticate"), "{head}");
        }
        assert_eq!(upstream.seen().len(), 2);
        for decision in gateway.receipts() {
            let ending = gateway.ending(&decision).await;
            assert_eq!((&ending["status"], &ending["end"]), (&json!(401), &json!("complete")));
            assert!(ending["repeated"].is_null(), "{ending}");
        }
        let told = renewals(&gateway);
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(
            (&told[0]["renewal"], &told[0]["cause"], &told[0]["why"]),
            (&json!("failed"), &json!("refused"), &json!("nobody is \\u{1b}[1mlogged in"))
        );
    }
}
