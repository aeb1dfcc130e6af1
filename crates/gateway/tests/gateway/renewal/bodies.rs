//! The bodies of requests that are sent again, and those of refusals.

use super::*;

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
        let asked = renew_when_asked(&mut launcher, RenewalCause::Refused);
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
        let asked = renew_when_asked(&mut launcher, RenewalCause::Refused);
        let ((status, ..), ()) = tokio::join!(answered, asked);
        assert_eq!(status, 200);
        assert!(upstream.seen().iter().all(|seen| seen.body_sum == sum(0, &body)));
        assert_eq!(given(&upstream.seen()), bearer(&[SECRET, NEW]));
    }
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
        let question = renew_when_asked(&mut launcher, RenewalCause::Refused);
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
async fn a_large_refusal_is_dropped_when_the_value_is_renewed() {
    for alpn in [HTTP1, HTTP2] {
        let upstream = renewed_upstream(alpn).await;
        let (gateway, mut launcher) = setup(&upstream).start_launched();
        let answered = async {
            let mut client = https2(&gateway, "api.test").await;
            let asked = request2("GET", "api.test", "/x?1000000000000000", "");
            told(client.send_request(asked).await.expect("a response")).await
        };
        let question = renew_when_asked(&mut launcher, RenewalCause::Refused);
        let ((status, _, body), ()) = tokio::join!(answered, question);
        assert_eq!((status, body.as_str()), (200, "GET /x 0"));
        assert!(upstream.produced() < 8 << 20, "{} bytes were asked for", upstream.produced());
    }
}
