//! Requests that two parsers could read in two ways: either refused, or passed on in the one way that we
//! read.

use tokio::{io::AsyncWriteExt, time::timeout};

use crate::support::{
    client::{PATIENCE, connect, exchange, read_to_end, tunnel},
    gateway::Setup,
    upstream::{HTTP1, TestUpstream, raw_upstream},
};

/// Heads that are refused before anything of them reaches the upstream. `{}` stands for CR and LF.
const REFUSED: &[(&str, &str)] = &[
    (
        "both lengths, Content-Length first",
        "Host: open.test{}Content-Length: 6{}Transfer-Encoding: chunked{}{}0{}{}X",
    ),
    (
        "both lengths, Transfer-Encoding first",
        "Host: open.test{}Transfer-Encoding: chunked{}Content-Length: 6{}{}0{}{}X",
    ),
    ("two lengths that differ", "Host: open.test{}Content-Length: 5{}Content-Length: 6{}{}12345X"),
    ("two lengths that agree", "Host: open.test{}Content-Length: 5{}Content-Length: 5{}{}12345"),
    ("a list of lengths", "Host: open.test{}Content-Length: 5, 5{}{}12345"),
    ("a length with a sign", "Host: open.test{}Content-Length: +5{}{}12345"),
    ("a negative length", "Host: open.test{}Content-Length: -5{}{}12345"),
    ("a length in hexadecimal", "Host: open.test{}Content-Length: 0x5{}{}12345"),
    ("a length that overflows", "Host: open.test{}Content-Length: 18446744073709551621{}{}12345"),
    ("an empty length", "Host: open.test{}Content-Length: {}{}"),
    ("a length behind a space", "Host: open.test{}Content-Length : 5{}{}12345"),
    ("a coding that is not chunked", "Host: open.test{}Transfer-Encoding: gzip{}{}"),
    ("chunked, but not last", "Host: open.test{}Transfer-Encoding: chunked, gzip{}{}0{}{}"),
    ("chunked twice", "Host: open.test{}Transfer-Encoding: chunked{}Transfer-Encoding: chunked{}{}0{}{}"),
    ("chunked in disguise", "Host: open.test{}Transfer-Encoding: xchunked{}{}0{}{}"),
    ("a coding behind a space", "Host: open.test{}Transfer-Encoding : chunked{}{}0{}{}"),
    ("identity and chunked", "Host: open.test{}Transfer-Encoding: identity, chunked{}{}0{}{}"),
    ("a folded line", "Host: open.test{}X-A: b{} c{}{}"),
    ("a folded line with a tab", "Host: open.test{}X-A: b{}\tc{}{}"),
    ("a first line that is folded", "{} Host: open.test{}{}"),
    ("a line without colon", "Host: open.test{}nonsense{}{}"),
    ("a line without name", "Host: open.test{}: value{}{}"),
    ("a name with a space", "Host: open.test{}X A: b{}{}"),
    ("a name with NUL", "Host: open.test{}X\0A: b{}{}"),
    ("a value with NUL", "Host: open.test{}X-A: b\0c{}{}"),
    ("a value with CR", "Host: open.test{}X-A: b\rc{}{}"),
    ("a line that ends in LF alone", "Host: open.test\nX-A: b{}{}"),
    ("a head that ends in LF alone", "Host: open.test\n\n"),
    ("a host with a space", "Host: open.test evil.test{}{}"),
    ("a host with a path", "Host: open.test/x{}{}"),
];

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_can_be_read_in_two_ways_are_refused() {
    let upstream = TestUpstream::start(HTTP1).await;
    for (name, rest) in REFUSED {
        // One gateway each: the same refusal again is only counted.
        let gateway = Setup::for_upstream(&upstream).start().await;
        let head = format!("POST /smuggled HTTP/1.1{{}}{rest}").replace("{}", "\r\n");
        let mut stream = tunnel(&gateway, "open.test:80").await;
        let answer = exchange(&mut stream, head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{name}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{name}: one answer, and the end: {answer:?}");
        let receipts = gateway.wait_for_receipts(1).await;
        assert_eq!(receipts[0]["verdict"], "refuse", "{name}");
        let reason = receipts[0]["reason"].as_str().expect("a reason");
        assert!(matches!(reason, "malformed_request" | "malformed_host"), "{name}: {reason}");
    }
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
}

#[tokio::test(flavor = "multi_thread")]
async fn request_lines_that_can_be_read_in_two_ways_are_refused() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = Setup::for_upstream(&upstream).start().await;
    for line in [
        "GET  /two-spaces HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET\t/tab HTTP/1.1",
        "GET /x HTTP/1.1 ",
        "GET /x HTTP/1.2",
        "GET /x HTTP/2.0",
        "GET /x",
        "GET /\0 HTTP/1.1",
        "GET /\u{1} HTTP/1.1",
        "G(T /x HTTP/1.1",
        "GET open.test/x HTTP/1.1",
        "PRI * HTTP/2.0",
        "OPTIONS * HTTP/1.1",
    ] {
        let mut stream = connect(&gateway).await;
        let absolute = line.replacen(" /", " http://open.test/", 1);
        let answer = exchange(
            &mut stream,
            format!("{absolute}\r\nHost: open.test\r\nConnection: close\r\n\r\n").as_bytes(),
        )
        .await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 40"), "{line}: {answer:?}");
    }
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_with_broken_chunks_do_not_become_requests() {
    for chunks in [
        "5\r\nabc",
        "zz\r\nabc\r\n0\r\n\r\n",
        "-1\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "3\nabc\n0\n\n",
        "3\r\nabcde\r\n0\r\n\r\n",
        "ffffffffffffffff1\r\nabc\r\n0\r\n\r\n",
    ] {
        let (address, mut received) = raw_upstream(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        let gateway = Setup::new()
            .fixed("open.test", address)
            .route(serde_json::json!({"host": "open.test", "ports": [80], "owner": "manifest"}))
            .start()
            .await;
        let mut stream = tunnel(&gateway, "open.test:80").await;
        let head = "POST /chunks HTTP/1.1\r\nHost: open.test\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream
            .write_all(format!("{head}{chunks}GET /second HTTP/1.1\r\nHost: open.test\r\n\r\n").as_bytes())
            .await
            .expect("written");
        stream.shutdown().await.expect("shut down");
        read_to_end(&mut stream).await;
        // What was allowed has a connection to the upstream, whatever comes over it.
        if gateway.receipts().iter().any(|receipt| receipt["verdict"] == "allow") {
            let sent = timeout(PATIENCE, received.recv()).await.expect("in time").expect("a connection");
            let sent = String::from_utf8_lossy(&sent).into_owned();
            assert_eq!(
                sent.matches("HTTP/1.1").count(),
                usize::from(!sent.is_empty()),
                "{chunks:?}: {sent:?}"
            );
            assert!(
                !sent.contains("0\r\n\r\n"),
                "a broken body is not passed off as whole: {chunks:?}: {sent:?}"
            );
        }
    }
}

/// What is not refused is not passed on as it came either, but written anew.
#[tokio::test(flavor = "multi_thread")]
async fn chunks_are_written_anew() {
    let (address, mut received) = raw_upstream(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let gateway = Setup::new()
        .fixed("open.test", address)
        .route(serde_json::json!({"host": "open.test", "ports": [80], "owner": "manifest"}))
        .start()
        .await;
    let mut stream = tunnel(&gateway, "open.test:80").await;
    stream
        .write_all(
            b"POST / HTTP/1.1\r\nHost: open.test\r\nTransfer-Encoding: Chunked\r\n\r\n3;ext=\"x\"\r\nabc\r\n000\r\n\r\n",
        )
        .await
        .expect("written");
    let sent = timeout(PATIENCE, received.recv()).await.expect("in time").expect("a request");
    let sent = String::from_utf8_lossy(&sent).to_ascii_lowercase();
    assert!(sent.contains("transfer-encoding: chunked") && !sent.contains("ext="), "{sent:?}");
    assert!(sent.ends_with("\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), "{sent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_each_decided() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = Setup::for_upstream(&upstream).start().await;
    let mut stream = tunnel(&gateway, "open.test:80").await;
    let answer = exchange(
        &mut stream,
        b"GET /one HTTP/1.1\r\nHost: open.test\r\n\r\n\
          GET /a.git/git-receive-pack HTTP/1.1\r\nHost: open.test\r\n\r\n\
          GET /x HTTP/1.1\r\nHost: evil.test\r\n\r\n\
          POST /two HTTP/1.1\r\nHost: open.test\r\nContent-Length: 3\r\n\r\nabc\
          GET /three HTTP/1.1\r\nHost: open.test\r\nConnection: close\r\n\r\n",
    )
    .await;
    let statuses: Vec<_> =
        answer.match_indices("HTTP/1.1 ").map(|(at, _)| &answer[at + 9..at + 12]).collect();
    assert_eq!(statuses, ["200", "403", "421", "200", "200"], "{answer}");
    let seen: Vec<_> = upstream.seen().into_iter().map(|seen| seen.uri).collect();
    assert_eq!(seen, ["/one", "/two", "/three"]);
    assert_eq!(gateway.receipts().len(), 5);
}
