//! The fake upstream is a real server for a real client.

use std::{path::PathBuf, process::Command};

use bot_bottle_testkit::{Echo, FakeUpstream, find_program, random_secret, require};
use serde_json::Value;
use tempfile::TempDir;

struct Client {
    upstream: FakeUpstream,
    folder: TempDir,
    authority: PathBuf,
}

impl Client {
    /// `None`, with a message, where the host has no curl.
    fn start() -> Option<Self> {
        if !require("curl", find_program("curl").is_some()) {
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let upstream = FakeUpstream::builder()
            .host("one.example.org", Echo)
            .host("two.example.org", Echo)
            .start()
            .expect("the upstream starts");
        let authority = folder.path().join("ca.pem");
        std::fs::write(&authority, upstream.certificate()).expect("a file");
        Some(Self { upstream, folder, authority })
    }

    fn curl(&self, url: &str, arguments: &[&str]) -> (bool, String) {
        let address = self.upstream.address();
        let url = url.replace("PORT", &address.port().to_string());
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "20", "--cacert"])
            .arg(&self.authority)
            .args(["--connect-to", &format!("::127.0.0.1:{}", address.port()), &url])
            .args(arguments)
            .output()
            .expect("curl runs");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

#[test]
fn serves_several_names_in_both_versions_of_http() {
    let Some(client) = Client::start() else { return };
    for (url, arguments, version) in [
        ("https://one.example.org:PORT/echo?a=b", ["--http2"], "HTTP/2.0"),
        ("https://two.example.org:PORT/echo?a=b", ["--http1.1"], "HTTP/1.1"),
        ("http://one.example.org:PORT/echo?a=b", ["--http1.1"], "HTTP/1.1"),
    ] {
        let (ok, text) = client.curl(url, &arguments);
        let answer: Value = serde_json::from_str(&text).expect("JSON");
        assert!(ok);
        assert_eq!(answer["version"], version);
        assert_eq!(answer["query"], "a=b");
        assert_eq!(answer["encrypted"], url.starts_with("https"));
    }
    let seen = client.upstream.requests();
    assert_eq!(seen[1].host, "two.example.org");
    assert_eq!(seen[1].server_name.as_deref(), Some("two.example.org"));
}

#[test]
fn remembers_what_it_saw_with_the_encoding_undone() {
    // `the body`, as brotli(1) and zstd(1) compress it.
    const BROTLI: &[u8] = b"\x8b\x03\x80the body\x03";
    const ZSTD: &[u8] = b"(\xb5/\xfd\x04XA\x00\x00the body\xb3\x94\xe95";
    let Some(client) = Client::start() else { return };
    let file = client.folder.path().join("body");
    let authorization = format!("Bearer {}", random_secret("t-"));
    for (encoding, bytes) in [("identity", &b"the body"[..]), ("br", BROTLI), ("zstd", ZSTD)] {
        std::fs::write(&file, bytes).expect("a file");
        let (data, encoding) = (format!("@{}", file.display()), format!("Content-Encoding: {encoding}"));
        let authorize = format!("Authorization: {authorization}");
        let arguments = ["--data-binary", &data, "-H", &encoding, "-H", &authorize];
        let (_, text) = client.curl("https://one.example.org:PORT/body", &arguments);
        assert_eq!(text, "the body", "{encoding}");
        let seen = client.upstream.requests().pop().expect("a request");
        assert_eq!(seen.header("authorization"), Some(authorization.as_str()));
        assert_eq!((&seen.body[..], seen.body_length), (&b"the body"[..], bytes.len() as u64));
    }
}

#[test]
fn streams_fills_and_breaks_off() {
    let Some(client) = Client::start() else { return };
    let (ok, text) = client.curl("https://one.example.org:PORT/sse?events=5&pause=1", &[]);
    assert!(ok && text.matches("data: ").count() == 5, "{text}");
    let (ok, text) = client.curl("https://one.example.org:PORT/big?bytes=300000", &[]);
    assert!(ok && text.len() == 300_000);
    for version in ["--http1.1", "--http2"] {
        let (ok, text) = client.curl("https://one.example.org:PORT/broken?bytes=1000", &[version]);
        assert!(!ok && text.len() == 1000, "{version}: {}", text.len());
    }
    let (ok, text) = client.curl("https://one.example.org:PORT/gzip", &["--compressed"]);
    assert!(ok && text.contains("one.example.org"));
}

#[test]
fn refuses_names_that_it_does_not_serve() {
    let Some(client) = Client::start() else { return };
    let arguments = ["-H", "Host: other.example.org", "-o", "/dev/null", "-w", "%{http_code}"];
    let (_, status) = client.curl("https://one.example.org:PORT/echo", &arguments);
    assert_eq!(status, "421");
    let (ok, _) = client.curl("https://other.example.org:PORT/echo", &[]);
    assert!(!ok, "the certificate is not for that name");
}
