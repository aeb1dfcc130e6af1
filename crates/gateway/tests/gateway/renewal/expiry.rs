//! Credentials whose end is known, and launchers that do not answer.

use super::*;

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
