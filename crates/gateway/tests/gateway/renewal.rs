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
        let asked = async {
            expect_question(&mut launcher, RenewalCause::Refused).await;
            answer(&mut launcher, NEW, RenewalCause::Refused).await;
        };
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
    let asked = async {
        expect_question(&mut launcher, RenewalCause::Refused).await;
        answer(&mut launcher, NEW, RenewalCause::Refused).await;
    };
    let ((status, head, text), ()) = tokio::join!(answered, asked);
    assert_eq!((status, text.as_str()), (401, "who are you?"));
    let seen = upstream.seen();
    let uris: Vec<_> = seen.iter().map(|seen| seen.uri.as_str()).collect();
    assert_eq!(uris, [format!("/x?a=1&key={SECRET}"), format!("/x?a=1&key={NEW}")]);
    assert_secret(&gateway, &(head + &text));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_not_sent_again_but_the_next_request_has_the_new_value() {
    let body = Bytes::from(vec![7; MAX_KEPT_BODY + 1]);
    for alpn in [HTTP1, HTTP2] {
        let upstream = renewed_upstream(alpn).await;
        let (gateway, mut launcher) = setup(&upstream).start_launched();
        let mut client = https1(&gateway, "api.test").await;
        let answered = async {
            let asked = with_body(request("POST", "api.test", "/x", ""), &body);
            told(client.send_request(asked).await.expect("a response")).await
        };
        let asked = async {
            expect_question(&mut launcher, RenewalCause::Refused).await;
            answer(&mut launcher, NEW, RenewalCause::Refused).await;
        };
        let ((status, head, text), ()) = tokio::join!(answered, asked);
        assert_eq!((status, text.as_str()), (401, "who are you?"));
        assert!(head.contains("www-authenticate"), "{head}");
        assert_eq!(upstream.seen().len(), 1);
        // One byte less is sent again.
        upstream.accept_only("Bearer third");
        let answered = async {
            let asked = with_body(request("POST", "api.test", "/x", ""), &body.slice(1..));
            told(client.send_request(asked).await.expect("a response")).await
        };
        let swapped = async {
            while upstream.seen().len() < 2 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let ((status, ..), ()) = tokio::join!(answered, swapped);
        assert_eq!(status, 401, "the value that was renewed just now is not asked for again");
        assert_eq!(given(&upstream.seen()), bearer(&[SECRET, NEW]));
        assert!(is_quiet(&mut launcher));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_body_that_is_kept_is_sent_again() {
    let body = Bytes::from((0..MAX_KEPT_BODY / 4).flat_map(|n| (n as u32).to_le_bytes()).collect::<Vec<_>>());
    assert_eq!(body.len(), MAX_KEPT_BODY);
    for alpn in [HTTP1, HTTP2] {
        let upstream = renewed_upstream(alpn).await;
        let (gateway, mut launcher) = setup(&upstream).start_launched();
        let answered = async {
            let mut client = https2(&gateway, "api.test").await;
            let asked = with_body(request2("PUT", "api.test", "/x", ""), &body);
            told(client.send_request(asked).await.expect("a response")).await
        };
        let asked = async {
            expect_question(&mut launcher, RenewalCause::Refused).await;
            answer(&mut launcher, NEW, RenewalCause::Refused).await;
        };
        let ((status, ..), ()) = tokio::join!(answered, asked);
        assert_eq!(status, 200);
        assert!(upstream.seen().iter().all(|seen| seen.body_sum == sum(0, &body)));
        assert_eq!(given(&upstream.seen()), bearer(&[SECRET, NEW]));
    }
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
async fn an_upload_that_is_refused_before_its_end_is_told_at_once() {
    for alpn in [HTTP1, HTTP2] {
        let upstream = renewed_upstream(alpn).await;
        let (gateway, mut launcher) = setup(&upstream).start_launched();
        let (sender, receiver) = mpsc::channel(1);
        let mut client = http1_with(&gateway).await;
        let asked = Request::post("/early").header("Host", "api.test").body(ChannelBody(receiver));
        sender.send(Bytes::from_static(b"begun")).await.expect("sent");
        let response = client.send_request(asked.expect("a request")).await.expect("a response");
        assert_eq!(response.status(), 401, "nothing was waited for");
        assert_eq!(text(response).await, "who are you?");
        drop(sender);
        // The next request has what was asked for meanwhile.
        expect_question(&mut launcher, RenewalCause::Refused).await;
        answer(&mut launcher, NEW, RenewalCause::Refused).await;
        let mut client = https1(&gateway, "api.test").await;
        let response = client.send_request(request("GET", "api.test", "/", "")).await.expect("a response");
        assert_eq!(response.status(), 200);
        assert_eq!(given(&upstream.seen()), bearer(&[SECRET, NEW]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_in_pieces_is_sent_again_and_one_with_trailers_is_not() {
    for has_trailers in [false, true] {
        let upstream = renewed_upstream(HTTP1).await;
        let (gateway, mut launcher) = setup(&upstream).start_launched();
        let mut client = http1_with(&gateway).await;
        let mut frames: Vec<Result<_, Infallible>> = (0..50_u8)
            .map(|number| Ok(Frame::data(Bytes::from(vec![number; 1 + 400 * usize::from(number)]))))
            .collect();
        if has_trailers {
            frames.push(Ok(Frame::trailers(
                [("x-sum".parse().expect("a name"), "1".parse().expect("a value"))].into_iter().collect(),
            )));
        }
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let asked = Request::post("/x").header("Host", "api.test").header("Trailer", "x-sum").body(body);
        let answered =
            async { told(client.send_request(asked.expect("a request")).await.expect("a response")).await };
        let question = async {
            expect_question(&mut launcher, RenewalCause::Refused).await;
            answer(&mut launcher, NEW, RenewalCause::Refused).await;
        };
        let ((status, ..), ()) = tokio::join!(answered, question);
        let seen = upstream.seen();
        if has_trailers {
            assert_eq!((status, seen.len()), (401, 1));
        } else {
            assert_eq!((status, seen.len()), (200, 2));
            assert_eq!((seen[0].body_bytes, seen[0].body_sum), (seen[1].body_bytes, seen[1].body_sum));
            assert_eq!(seen[1].body_bytes, (0..50).map(|number| 1 + 400 * number).sum::<usize>());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_refuses_without_end_is_asked_about_once() {
    for alpn in [HTTP1, HTTP2] {
        let upstream = TestUpstream::start(alpn).await;
        upstream.accept_only("nothing");
        let (gateway, mut launcher) = setup(&upstream).start_launched();
        let mut client = https2(&gateway, "api.test").await;
        let answered = async {
            told(client.send_request(request2("GET", "api.test", "/x", "")).await.expect("a response")).await
        };
        let question = async {
            expect_question(&mut launcher, RenewalCause::Refused).await;
            answer(&mut launcher, NEW, RenewalCause::Refused).await;
        };
        let ((status, _, body), ()) = tokio::join!(answered, question);
        assert_eq!((status, body.as_str()), (401, "who are you?"));
        assert_eq!(given(&upstream.seen()), bearer(&[SECRET, NEW]), "it is sent twice and not again");
        for _ in 0..300 {
            let response =
                client.send_request(request2("GET", "api.test", "/x", "")).await.expect("a response");
            assert_eq!(response.status(), 401);
        }
        assert_eq!(upstream.seen().len(), 302);
        assert!(is_quiet(&mut launcher), "nothing was asked again");
        assert_eq!(upstream.connections(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_requests_share_one_question() {
    for alpn in [HTTP1, HTTP2] {
        let upstream = renewed_upstream(alpn).await;
        let (gateway, mut launcher) = setup(&upstream).start_launched();
        let mut client = https2(&gateway, "api.test").await;
        let mut asked = Vec::new();
        for _ in 0..100 {
            client.ready().await.expect("ready");
            asked.push(client.send_request(request2("POST", "api.test", "/x", "the body")));
        }
        let question = async {
            expect_question(&mut launcher, RenewalCause::Refused).await;
            while upstream.seen().len() < 100 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            answer(&mut launcher, NEW, RenewalCause::Refused).await;
        };
        let (responses, ()) = tokio::join!(join_all(asked), question);
        for response in responses {
            let (status, _, body) = told(response.expect("a response")).await;
            assert_eq!((status, body.as_str()), (200, "POST /x 8"));
        }
        assert_eq!(upstream.seen().len(), 200);
        assert!(is_quiet(&mut launcher));
        assert_eq!(renewals(&gateway).len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_was_renewed_on_the_way_is_not_asked_for() {
    let upstream = renewed_upstream(HTTP1).await;
    let (gateway, mut launcher) = setup(&upstream).start_launched();
    let mut held = http1_with(&gateway).await;
    let (sender, receiver) = mpsc::channel(1);
    let asked =
        Request::post("/x").header("Host", "api.test").body(ChannelBody(receiver)).expect("a request");
    let answered = async { told(held.send_request(asked).await.expect("a response")).await };
    let swapped = async {
        sender.send(Bytes::from_static(b"one")).await.expect("sent");
        gateway.wait_for_receipts(1).await;
        while upstream.connections() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        answer(&mut launcher, NEW, RenewalCause::Changed).await;
        drop(sender);
    };
    let ((status, _, body), ()) = tokio::join!(answered, swapped);
    assert_eq!((status, body.as_str()), (200, "POST /x 3"));
    assert_eq!(given(&upstream.seen()), bearer(&[SECRET, NEW]));
    assert!(is_quiet(&mut launcher));
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

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_not_sent_again_with_the_same_value_nor_for_a_route_that_is_gone() {
    for is_gone in [false, true] {
        let upstream = renewed_upstream(HTTP1).await;
        let (gateway, mut launcher) = setup(&upstream).start_launched();
        let answered = async {
            let mut client = https1(&gateway, "api.test").await;
            told(client.send_request(request("GET", "api.test", "/", "")).await.expect("a response")).await
        };
        let question = async {
            expect_question(&mut launcher, RenewalCause::Refused).await;
            if is_gone {
                let policy = serde_json::from_value(json!({"routes": []})).expect("a policy");
                launcher.tell(&ControlMessage::Reload { policy, secrets: Secrets::default() });
                assert_eq!(next_event(&mut launcher).await, GatewayEvent::Reloaded);
                launcher.tell(&renew(&[("TOKEN", NEW)], RenewalCause::Refused));
                assert!(matches!(next_event(&mut launcher).await, GatewayEvent::NotReloaded { .. }));
            } else {
                answer(&mut launcher, SECRET, RenewalCause::Refused).await;
            }
        };
        let ((status, _, body), ()) = tokio::join!(answered, question);
        assert_eq!((status, body.as_str()), (401, "who are you?"));
        assert_eq!(given(&upstream.seen()), bearer(&[SECRET]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_refusal_is_dropped_when_the_value_is_renewed() {
    for alpn in [HTTP1, HTTP2] {
        let upstream = renewed_upstream(alpn).await;
        let (gateway, mut launcher) = setup(&upstream).start_launched();
        let answered = async {
            let mut client = https2(&gateway, "api.test").await;
            let asked = request2("GET", "api.test", "/x?1000000000000000", "");
            told(client.send_request(asked).await.expect("a response")).await
        };
        let question = async {
            expect_question(&mut launcher, RenewalCause::Refused).await;
            answer(&mut launcher, NEW, RenewalCause::Refused).await;
        };
        let ((status, _, body), ()) = tokio::join!(answered, question);
        assert_eq!((status, body.as_str()), (200, "GET /x 0"));
        assert!(upstream.produced() < 8 << 20, "{} bytes were asked for", upstream.produced());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_without_a_credential_is_not_asked_about() {
    let upstream = renewed_upstream(HTTP1).await;
    let (gateway, mut launcher) = setup(&upstream).start_launched();
    let mut client = https1(&gateway, "open.test").await;
    let response = client.send_request(request("GET", "open.test", "/", "")).await.expect("a response");
    assert_eq!(response.status(), 401);
    assert_eq!(text(response).await, "who are you?");
    assert!(is_quiet(&mut launcher));
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_without_a_launcher_passes_a_401_on() {
    let upstream = renewed_upstream(HTTP1).await;
    let gateway = setup(&upstream).start().await;
    let mut client = https1(&gateway, "api.test").await;
    let asked = client.send_request(request("POST", "api.test", "/", "body"));
    let response = timeout(Duration::from_secs(5), asked).await.expect("at once").expect("a response");
    assert_eq!(response.status(), 401);
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_while_it_waits_is_not_sent_for_again() {
    let upstream = renewed_upstream(HTTP1).await;
    let (gateway, mut launcher) = setup(&upstream).start_launched();
    let mut client = https1(&gateway, "api.test").await;
    let asked = client.send_request(request("GET", "api.test", "/", ""));
    assert!(timeout(Duration::from_secs(1), asked).await.is_err());
    drop(client);
    expect_question(&mut launcher, RenewalCause::Refused).await;
    assert_eq!(gateway.ending(&gateway.receipts()[0]).await["end"], "cancelled");
    answer(&mut launcher, NEW, RenewalCause::Refused).await;
    assert_eq!(given(&upstream.seen()), bearer(&[SECRET]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_credential_is_renewed_before_anything_leaves() {
    let upstream = renewed_upstream(HTTP1).await;
    let (gateway, mut launcher) = setup(&upstream).expiring("TOKEN", now() - 1).start_launched();
    let mut client = https1(&gateway, "api.test").await;
    let answered = async {
        told(client.send_request(request("GET", "api.test", "/", "")).await.expect("a response")).await
    };
    let question = async {
        expect_question(&mut launcher, RenewalCause::Expiring).await;
        assert_eq!(upstream.connections(), 0);
        let secrets = Secrets([(token(), NEW.to_owned().into())].into());
        let expires = [(token(), now() + 3600)].into();
        launcher.tell(&ControlMessage::Renew { secrets, expires, cause: RenewalCause::Expiring });
        assert_eq!(next_event(&mut launcher).await, GatewayEvent::Reloaded);
    };
    let ((status, ..), ()) = tokio::join!(answered, question);
    assert_eq!(status, 200);
    assert_eq!(given(&upstream.seen()), bearer(&[NEW]));
    assert_eq!(renewals(&gateway)[0]["cause"], "expiring");
    // It is valid for an hour, and then not: nothing is asked before.
    let response = client.send_request(request("GET", "api.test", "/", "")).await.expect("a response");
    assert_eq!(response.status(), 200);
    assert!(is_quiet(&mut launcher));
    assert_secret(&gateway, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_credential_that_is_not_renewed_is_a_refusal_that_says_why() {
    let upstream = TestUpstream::start(HTTP1).await;
    let (gateway, mut launcher) = setup(&upstream).expiring("TOKEN", now() - 1).start_launched();
    let answered = async {
        let mut client = https1(&gateway, "api.test").await;
        client.send_request(request("GET", "api.test", "/x", "")).await.expect("a response")
    };
    let question = async {
        expect_question(&mut launcher, RenewalCause::Expiring).await;
        launcher.tell(&not_renewed(&format!("nobody is logged in\u{1b}{}", "é".repeat(1000))));
    };
    let (response, ()) = tokio::join!(answered, question);
    assert_eq!(response.status(), 403);
    let told = refusal(response).await;
    assert_eq!((&told["reason"], &told["host"]), (&json!("credential_expired"), &json!("api.test")));
    let why = told["why"].as_str().expect("a reason");
    assert!(why.starts_with("nobody is logged in\\u{1b}é") && why.len() <= 512, "{why}");
    assert!(told["hint"].as_str().expect("a hint").contains("log in again on the host"), "{told}");
    // For a minute everybody is told the same, and nobody is asked. A host with another credential is open.
    for _ in 0..50 {
        let mut client = https1(&gateway, "api.test").await;
        let response = client.send_request(request("GET", "api.test", "/x", "")).await.expect("a response");
        assert_eq!(refusal(response).await["why"], why);
    }
    let stream = tls(&gateway, "api.test:443", "api.test", &[]).await;
    match client_async("wss://api.test/ws", stream).await {
        Err(tungstenite::Error::Http(response)) => assert_eq!(response.status(), 426),
        other => panic!("{other:?}"),
    }
    let mut git = request("GET", "api.test", "/x", "");
    git.headers_mut().insert("user-agent", "git/2.50".parse().expect("a value"));
    let response = https1(&gateway, "api.test").await.send_request(git).await.expect("a response");
    assert!(text(response).await.contains("nobody is logged in"));
    let mut grpc = request2("POST", "api.test", "/x", "");
    grpc.headers_mut().insert("content-type", "application/grpc".parse().expect("a value"));
    let response = https2(&gateway, "api.test").await.send_request(grpc).await.expect("a response");
    let message = response.headers()["grpc-message"].to_str().expect("text").to_owned();
    assert!(message.contains("nobody is logged in") && message.contains("%C3%A9"), "{message}");
    let mut other = https1(&gateway, "other.test").await;
    let response = other.send_request(request("GET", "other.test", "/x", "")).await.expect("a response");
    assert_eq!(response.status(), 200);
    assert!(is_quiet(&mut launcher));
    assert_eq!(given(&upstream.seen()), bearer(&[OTHER_SECRET]));
    let refused: Vec<_> = gateway.receipts().into_iter().filter(|line| line["verdict"] == "refuse").collect();
    assert!(refused.len() <= 5, "the same refusals are counted: {refused:?}");
    assert_eq!(
        (&refused[0]["reason"], &refused[0]["source"]),
        (&json!("credential_expired"), &json!("credential"))
    );
    // A value that comes by itself opens it, within the minute as well.
    answer(&mut launcher, NEW, RenewalCause::Changed).await;
    let mut client = https1(&gateway, "api.test").await;
    let response = client.send_request(request("GET", "api.test", "/x", "")).await.expect("a response");
    assert_eq!(response.status(), 200);
    assert_secret(&gateway, why);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_policy_keeps_the_end_of_the_same_value() {
    let upstream = TestUpstream::start(HTTP1).await;
    let (gateway, mut launcher) = setup(&upstream).expiring("TOKEN", now() - 1).start_launched();
    let policy = json!({"routes": [{"host": "api.test", "ports": [443], "owner": "manifest",
                                     "auth": {"scheme": "Bearer", "token_ref": "TOKEN"}}]});
    for (value, status) in [(SECRET, 403), (NEW, 200)] {
        let policy = serde_json::from_value(policy.clone()).expect("a policy");
        let secrets = Secrets([(token(), value.to_owned().into())].into());
        launcher.tell(&ControlMessage::Reload { policy, secrets });
        assert_eq!(next_event(&mut launcher).await, GatewayEvent::Reloaded);
        let answered = async {
            let mut client = https1(&gateway, "api.test").await;
            client.send_request(request("GET", "api.test", "/x", "")).await.expect("a response")
        };
        let question = async {
            if status == 403 {
                expect_question(&mut launcher, RenewalCause::Expiring).await;
                launcher.tell(&not_renewed("no"));
            }
        };
        let (response, ()) = tokio::join!(answered, question);
        assert_eq!(response.status(), status, "{value}");
    }
}

/// Moves the clock of this runtime on.
async fn later(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_launcher_that_does_not_answer_is_waited_for_until_the_limit_and_one_that_is_gone_is_not() {
    let upstream = renewed_upstream(HTTP1).await;
    let gateway = setup(&upstream).start().await;
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let state = Arc::clone(gateway.shared_state());
    let launched = tokio::spawn(async move { serve_launcher(&state, theirs).await });
    tokio::task::yield_now().await;
    let mut client = https1(&gateway, "api.test").await;
    let asked = client.send_request(request("GET", "api.test", "/", ""));
    let mut asked = std::pin::pin!(asked);
    assert!(timeout(Duration::from_secs(1), &mut asked).await.is_err());
    assert_eq!(upstream.seen().len(), 1);
    later(RENEWAL_TIMEOUT.as_secs() - 10).await;
    assert!(timeout(Duration::from_secs(1), &mut asked).await.is_err());
    later(9).await;
    let response = timeout(PATIENCE, asked).await.expect("in time").expect("a response");
    assert_eq!(response.status(), 401);
    assert_eq!(text(response).await, "who are you?");
    // The launcher goes, and with it every question. What it has not read is an error of the socket's.
    drop(ours);
    let _ = launched.await.expect("no panic");
    let mut client = https1(&gateway, "api.test").await;
    let asked = client.send_request(request("GET", "api.test", "/", ""));
    let response = timeout(Duration::from_secs(5), asked).await.expect("at once").expect("a response");
    assert_eq!(response.status(), 401);
    assert_eq!(upstream.seen().len(), 2);
}
