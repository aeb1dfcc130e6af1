//! Bodies on which a decision depends: batches of git LFS, and forms that name another method.

use serde_json::{Value, json};

use crate::support::{
    client::{exchange, https1, https2, raw_refusal, refusal, request, request2, text, tls},
    gateway::{Setup, TestGateway},
    upstream::{HTTP1, HTTP2, TestUpstream},
};

const LFS: &str = "application/vnd.git-lfs+json";
const FORM: &str = "application/x-www-form-urlencoded";
const MULTIPART: &str = "multipart/form-data; boundary=x";

async fn gateway(upstream: &TestUpstream, route: Value) -> TestGateway {
    Setup::new().trusting(upstream).fixed("api.test", upstream.address).route(route).start().await
}

/// Sends a POST and returns the answer. The connection is closed behind it.
async fn post(gateway: &TestGateway, path: &str, headers: &str, body: &str) -> String {
    let mut stream = tls(gateway, "api.test:443", "api.test", &[]).await;
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: api.test\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    exchange(&mut stream, request.as_bytes()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn large_files_may_be_asked_for_and_not_uploaded() {
    let upstream = TestUpstream::start(HTTP1).await;
    let route = json!({"host": "api.test", "ports": [443], "owner": "manifest", "git_fetch": true});
    let gateway = gateway(&upstream, route).await;
    let batch = "/a/b.git/info/lfs/objects/batch";
    let kind = format!("Content-Type: {LFS}\r\n");
    let objects: Vec<Value> = (0..100).map(|at| json!({"oid": format!("{at:064x}"), "size": at})).collect();
    let download = json!({"operation": "download", "transfers": ["basic"], "objects": objects}).to_string();
    let answer = post(&gateway, batch, &kind, &download).await;
    assert!(answer.ends_with(&format!("POST {batch} {}", download.len())), "{answer}");
    assert_eq!(upstream.seen().len(), 1);

    let padded = format!(r#"{{"operation":"download","objects":[{}]}}"#, " ".repeat(300_000));
    for (path, headers, body, reason) in [
        (batch, kind.as_str(), r#"{"operation":"upload","objects":[]}"#, "git_push"),
        (batch, "", r#"{"operation":"upload","objects":[]}"#, "git_push"),
        (batch, &kind, r#"{"operation":"download","Operation":"upload"}"#, "git_push"),
        (batch, &kind, "", "git_push"),
        ("/a/b.git/info/lfs/objects/batch;x", "", r#"{"operation":"upload"}"#, "git_push"),
        ("/a/b.git/info%2flfs/objects//batch", "", r#"{"operation":"upload"}"#, "git_push"),
        // Where `lfs.url` of a repository's configuration says.
        ("/files/objects/batch", &kind, r#"{"operation":"upload"}"#, "git_push"),
        (batch, &format!("{kind}Content-Encoding: gzip\r\n"), r#"{"operation":"download"}"#, "git_push"),
        (batch, &kind, &padded, "limit_reached"),
    ] {
        let answer = post(&gateway, path, headers, body).await;
        assert_eq!(raw_refusal(&answer)["reason"], reason, "{path} {headers} {body:.60}: {answer:.200}");
    }
    let mut client = https2(&gateway, "api.test").await;
    let mut asked = request2("POST", "api.test", batch, r#"{"operation":"upload"}"#);
    asked.headers_mut().insert("content-type", LFS.parse().expect("a value"));
    let response = client.send_request(asked).await.expect("a response");
    assert_eq!(refusal(response).await["reason"], "git_push");
    assert_eq!(upstream.connections(), 1, "nothing of what was refused has left");
}

fn restricted() -> Value {
    json!({"host": "api.test", "ports": [443], "owner": "manifest", "matches": [{"methods": ["GET", "POST"]}]})
}

fn part(name: &str, value: &str) -> String {
    format!("--x\r\nContent-Disposition: form-data; {name}\r\n\r\n{value}\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_may_name_only_a_method_that_the_route_allows() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = gateway(&upstream, restricted()).await;
    for (kind, body) in [
        (FORM, "_method=DELETE".to_owned()),
        (FORM, "a=1&_method=delete&b=2".to_owned()),
        (FORM, "a=1;_method=DELETE".to_owned()),
        (FORM, "%5fmethod=DELETE".to_owned()),
        (FORM, "_%6D%65thod=%44ELETE".to_owned()),
        (FORM, "a=1\r\n_method=DELETE".to_owned()),
        // PHP reads each of these as `_method`.
        (FORM, "+_method=DELETE".to_owned()),
        (FORM, "%20_method=DELETE".to_owned()),
        (FORM, ".method=DELETE".to_owned()),
        (FORM, "[method=DELETE".to_owned()),
        (FORM, "_method%00x=DELETE".to_owned()),
        (FORM, format!("{}_method=DELETE", "+".repeat(2000))),
        (FORM, format!("{}_method=DELETE", "%20".repeat(2000))),
        (FORM, format!("_method={}DELETE", "%20".repeat(2000))),
        (MULTIPART, part("\r\n name=\"_method\"", "DELETE") + "--x--\r\n"),
        (MULTIPART, part(&format!("name=\"_method\"{}", "\r\nX-A: b".repeat(50)), "DELETE") + "--x--\r\n"),
        (MULTIPART, part("name*=utf-8''_method", "DELETE") + "--x--\r\n"),
        (
            MULTIPART,
            part(&format!("filename=\"{}\"; name=\"_method\"", "f".repeat(600)), "DELETE") + "--x--\r\n",
        ),
        (
            MULTIPART,
            part(&format!("filename=\"{}\"; name=\"_method\"", "f".repeat(9000)), "DELETE") + "--x--\r\n",
        ),
        (
            MULTIPART,
            part(&format!("a=1;{}\r\n name=\"_method\"", "\r\n b=2;".repeat(2000)), "DELETE") + "--x--\r\n",
        ),
        ("Application/X-WWW-Form-URLEncoded; charset=utf-8", "_method=PUT".to_owned()),
        (MULTIPART, part("name=\"_method\"", "DELETE") + "--x--\r\n"),
        (MULTIPART, part("name=_method", "delete") + "--x--\r\n"),
        (
            MULTIPART,
            part("name=\"a\"", "1") + &part("filename=\"f\"; name=\"_method\"", "PATCH") + "--x--\r\n",
        ),
        (
            MULTIPART,
            "--x\r\nContent-Type: text/plain\r\ncontent-disposition:form-data;name='_method'\r\n\r\nDELETE"
                .to_owned(),
        ),
        (MULTIPART, part("name=\"_method\"", "DELETE").replace("\r\n", "\n")),
    ] {
        let answer = post(&gateway, "/x", &format!("Content-Type: {kind}\r\n"), &body).await;
        assert_eq!(raw_refusal(&answer)["reason"], "override_not_allowed", "{kind} {body}: {answer}");
    }
    assert_eq!(upstream.connections(), 0, "nothing of what was refused has left");
    for (kind, body) in [
        (FORM, "_method=POST&a=1".to_owned()),
        (FORM, "method=DELETE&text=_method".to_owned()),
        (FORM, format!("text={}&b=2", "x%20".repeat(75_000))),
        (MULTIPART, part("name=\"note\"", "_method=POST, and DELETE") + "--x--\r\n"),
        (MULTIPART, part("name=\"_method\"", "POST") + &part("name=\"note\"", "DELETE") + "--x--\r\n"),
        (FORM, format!("{{\"json\":\"{}\"}}", "x".repeat(2000))),
        (MULTIPART, part("name=\"f\"; filename=\"f\"", &"DELETE\r\n".repeat(50_000)) + "--x--\r\n"),
        ("application/json", r#"{"_method":"DELETE"}"#.to_owned()),
        ("text/plain", "_method=DELETE".to_owned()),
    ] {
        let answer = post(&gateway, "/x", &format!("Content-Type: {kind}\r\n"), &body).await;
        assert!(answer.ends_with(&format!("POST /x {}", body.len())), "{kind} {body:.60}: {answer:.200}");
    }
    assert_eq!(upstream.seen().last().expect("seen").headers["content-length"], "14");
}

/// What comes behind the window is looked at as it passes: the upstream sees no whole request.
#[tokio::test(flavor = "multi_thread")]
async fn a_field_behind_the_window_breaks_the_request_off() {
    for alpn in [HTTP1, HTTP2] {
        let upstream = TestUpstream::start(alpn).await;
        let gateway = gateway(&upstream, restricted()).await;
        let body = format!("text={}&_method=DELETE", "x".repeat(1_000_000));
        let mut client = https1(&gateway, "api.test").await;
        let mut asked = request("POST", "api.test", "/x", body.leak());
        asked.headers_mut().insert("content-type", FORM.parse().expect("a value"));
        let response = client.send_request(asked).await.expect("a response");
        assert_eq!(refusal(response).await["reason"], "override_not_allowed");
        assert!(
            upstream.seen().iter().all(|seen| !seen.is_whole),
            "the upstream took it for a whole request"
        );
        let ending = gateway.ending(&gateway.receipts()[0]).await;
        assert_eq!((&ending["end"], &ending["reason"]), (&json!("failed"), &json!("override_not_allowed")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_restricts_nothing_asks_for_no_form() {
    let upstream = TestUpstream::start(HTTP1).await;
    let route = json!({"host": "api.test", "ports": [443], "owner": "manifest"});
    let gateway = gateway(&upstream, route).await;
    let answer = post(&gateway, "/x", &format!("Content-Type: {FORM}\r\n"), "_method=DELETE").await;
    assert!(answer.ends_with("POST /x 14"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receipt_names_what_the_agent_sent_and_we_removed() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = Setup::for_upstream(&upstream).start().await;
    let mut client = https1(&gateway, "api.test").await;
    let mut asked = request("GET", "api.test", "/", "");
    for (name, value) in [("authorization", "Bearer mine-1"), ("x_api_key", "mine-2")] {
        asked.headers_mut().append(name, value.parse().expect("a value"));
    }
    let response = client.send_request(asked).await.expect("a response");
    text(response).await;
    let receipts = gateway.receipts();
    assert_eq!(receipts[0]["stripped"], json!(["authorization", "x_api_key"]));
    assert!(!std::fs::read_to_string(&gateway.receipts).expect("receipts").contains("mine-"));
}
