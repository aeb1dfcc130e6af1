//! What an agent can make of the receipts: it cannot fill the disk with them, nor hide in them, nor stop honest
//! work through them.

use std::{fs, path::Path, time::Duration};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    client::{https1, request, text},
    gateway::{Setup, TestGateway},
    upstream::{HTTP1, TestUpstream},
};

/// Every line of every file, the oldest first.
fn all_lines(gateway: &TestGateway) -> Vec<Value> {
    let older = |number: usize| gateway.receipts.with_extension(format!("jsonl.{number}"));
    let files = (1..10).rev().map(older).chain([gateway.receipts.clone()]);
    let texts = files.filter_map(|file| fs::read_to_string(file).ok());
    texts.flat_map(|text| text.lines().map(parse).collect::<Vec<_>>()).collect()
}

fn parse(line: &str) -> Value {
    serde_json::from_str(line).expect("a line")
}

fn bytes_of_files(receipts: &Path) -> u64 {
    let folder = receipts.parent().expect("a folder").read_dir().expect("read");
    let files = folder.map(|entry| entry.expect("an entry"));
    let receipts = files.filter(|file| file.file_name().to_string_lossy().starts_with("receipts"));
    receipts.map(|file| file.metadata().expect("metadata").len()).sum()
}

/// How many refusals the lines tell of.
fn refusals(lines: &[Value]) -> u64 {
    let counted = lines.iter().filter_map(|line| line["again"].as_u64()).sum::<u64>();
    counted + lines.iter().filter(|line| line["verdict"] == "refuse").count() as u64
}

/// Pipelines requests over one connection to the proxy, and returns all that came back.
async fn pipeline(gateway: &TestGateway, requests: impl Iterator<Item = String>) -> String {
    let stream = tokio::net::TcpStream::connect(gateway.address).await.expect("connected");
    let (mut reader, mut writer) = stream.into_split();
    let requests: Vec<String> = requests.collect();
    let sent = async {
        for request in requests {
            writer.write_all(request.as_bytes()).await.expect("sent");
        }
        // Half a close: the answers to what was sent still come.
        writer.shutdown().await.expect("closed");
    };
    let mut answers = String::new();
    let (_, read) = tokio::join!(sent, reader.read_to_string(&mut answers));
    read.expect("answered");
    answers
}

/// Waits until the lines tell of so many refusals, and returns them: what repeats is counted a moment later.
async fn wait_for_refusals(gateway: &TestGateway, count: u64) -> Vec<Value> {
    for _ in 0..2000 {
        let lines = all_lines(gateway);
        if refusals(&lines) >= count {
            assert_eq!(refusals(&lines), count, "each is told of once");
            return lines;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} of {count} refusals", refusals(&all_lines(gateway)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_refusals_fills_no_disk_and_stops_no_honest_work() {
    const LIMIT: u64 = 1024 * 1024;
    const EACH: usize = 1500;
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = Setup::for_upstream(&upstream).receipts_bytes(LIMIT).start().await;
    let flood = |connection: usize| {
        let quotes = "\"".repeat(1000);
        let request = move |number| {
            format!("GET http://x.evil/{connection}-{number}{quotes} HTTP/1.1\r\nHost: x.evil\r\n\r\n")
        };
        pipeline(&gateway, (0..EACH).map(request))
    };
    let answers = tokio::join!(flood(0), flood(1), flood(2), flood(3));
    let answers = [answers.0, answers.1, answers.2, answers.3].concat();
    let with_status = |status: &str| answers.matches(&format!("HTTP/1.1 {status} ")).count();
    assert_eq!(with_status("403") + with_status("429"), 4 * EACH, "each is answered");
    assert!(with_status("403") > 0 && with_status("429") > 2 * EACH, "most are too many");

    let mut client = https1(&gateway, "api.test").await;
    let honest = client.send_request(request("GET", "api.test", "/v1", "")).await.expect("answered");
    assert_eq!(honest.status(), 200, "honest work goes on");
    let lines = wait_for_refusals(&gateway, 4 * EACH as u64).await;
    assert_eq!(lines.iter().filter(|line| line["verdict"] == "allow").count(), 1);
    let bytes = bytes_of_files(&gateway.receipts);
    assert!(bytes < LIMIT * 6 / 10, "refusals have half of {LIMIT} at most: {bytes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_refusal_again_and_again_is_counted() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = Setup::for_upstream(&upstream).start().await;
    let request = |_| "GET http://other.test/x HTTP/1.1\r\nHost: other.test\r\n\r\n".to_owned();
    let answers = pipeline(&gateway, (0..3000).map(request)).await;
    assert_eq!(answers.matches("HTTP/1.1 403 ").count(), 3000, "and answered as the first one");
    let lines = wait_for_refusals(&gateway, 3000).await;
    assert!(lines.len() < 100, "{} lines", lines.len());
    for line in &lines {
        assert!(line["exchange"] == lines[0]["exchange"] || line["path"] == "/x", "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn allowed_requests_never_end_in_a_refusal_and_the_oldest_receipts_go() {
    const LIMIT: u64 = 64 * 1024;
    const REQUESTS: u64 = 600;
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = Setup::for_upstream(&upstream).receipts_bytes(LIMIT).start().await;
    let mut client = https1(&gateway, "open.test").await;
    for number in 0..REQUESTS {
        let mut get = request("GET", "open.test", "/", "");
        *get.uri_mut() = format!("/{number}").parse().expect("a path");
        let response = client.send_request(get).await.expect("answered");
        assert_eq!(response.status(), 200);
        text(response).await;
        assert!(bytes_of_files(&gateway.receipts) <= LIMIT);
    }
    let lines = all_lines(&gateway);
    let sequences: Vec<u64> = lines.iter().filter_map(|line| line["sequence"].as_u64()).collect();
    assert!(sequences.is_sorted_by(|one, next| one + 1 == *next), "no line is missing from file to file");
    assert!(sequences[0] > REQUESTS, "the oldest are gone: {}", sequences[0]);
    assert!(*sequences.last().expect("lines") >= 2 * REQUESTS - 1, "the newest are there");
}
