//! How often a launcher is asked, and by whom.

use super::*;

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
        let question = renew_when_asked(&mut launcher, RenewalCause::Refused);
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
