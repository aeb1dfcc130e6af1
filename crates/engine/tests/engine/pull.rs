//! Pulls, from a registry that lives for the test.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bot_bottle_engine::{EngineKind, RegistryCredentials};
use bot_bottle_testkit::require_because;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::fixture::{busybox, tar, with_engines};

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// In base64, these have both characters that the alphabet for URLs lacks.
const PASSWORD: &str = "~?>~?>~~~???>>>";

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// What a registry answers, by path: the manifest of `image:1` and its two blobs. The architecture is that of
/// this program.
fn contents(label: &str, value: &str) -> BTreeMap<String, Vec<u8>> {
    let layer = tar(&[("bin/busybox", 0o755, &busybox())]);
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Entrypoint": ["/bin/busybox", "echo", "pulled"], "Labels": {label: value}},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
        "history": [{"created_by": "a test"}],
    })
    .to_string()
    .into_bytes();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "size": config.len(),
            "digest": digest(&config),
        },
        "layers": [{
            "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "size": layer.len(),
            "digest": digest(&layer),
        }],
    })
    .to_string()
    .into_bytes();
    [
        ("/v2/".to_owned(), b"{}".to_vec()),
        (format!("/v2/image/manifests/{}", digest(&manifest)), manifest.clone()),
        ("/v2/image/manifests/1".to_owned(), manifest),
        (format!("/v2/image/blobs/{}", digest(&config)), config),
        (format!("/v2/image/blobs/{}", digest(&layer)), layer),
    ]
    .into()
}

/// A registry (HTTP API V2) on the loopback device, from where docker takes images without TLS. It wants the user
/// `user` and [`PASSWORD`].
fn serve(contents: BTreeMap<String, Vec<u8>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        // A client that breaks off is no failure of the registry.
        listener.incoming().flatten().for_each(|client| drop(answer(client, &contents)));
    });
    address
}

fn answer(client: TcpStream, contents: &BTreeMap<String, Vec<u8>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(client);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut authorization = String::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                value.clone_into(&mut authorization)
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let expected = format!("Basic {}", BASE64_STANDARD.encode(format!("user:{PASSWORD}")));
    let (status, body) = match contents.get(path) {
        _ if authorization != expected => {
            ("401 Unauthorized\r\nwww-authenticate: Basic realm=\"test\"", &b"{}"[..])
        }
        Some(body) => ("200 OK", body.as_slice()),
        None => ("404 Not Found", &b"{}"[..]),
    };
    let kind = if path.contains("/manifests/") { MANIFEST } else { "application/octet-stream" };
    let mut client = reader.into_inner();
    write!(
        client,
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ndocker-content-digest: {}\r\ncontent-length: {}\r\n\
         docker-distribution-api-version: registry/2.0\r\nconnection: close\r\n\r\n",
        digest(body),
        body.len()
    )?;
    if method == "HEAD" { Ok(()) } else { client.write_all(body) }
}

#[test]
fn an_image_is_pulled_with_the_credentials_of_docker_login() {
    with_engines(|fixture| {
        let is_podman = fixture.engine.info().expect("answered").kind == EngineKind::Podman;
        let reason = || "podman takes no image from a registry without TLS".to_owned();
        if !require_because("a registry with TLS", is_podman.then(reason)) {
            return;
        }
        let registry = serve(contents("bot-bottle-engine-test", &fixture.id));
        let reference = format!("{registry}/image:1");
        let configuration = |password: &str| {
            let auth = BASE64_STANDARD.encode(format!("user:{password}"));
            let text = json!({"auths": {registry.to_string(): {"auth": auth}}}).to_string();
            RegistryCredentials::from_docker_config(&text, &reference).expect("read").expect("there are some")
        };
        for credentials in [None, Some(configuration("another"))] {
            let error = fixture.engine.pull(&reference, credentials.as_ref(), &mut |_| {});
            assert!(error.is_err(), "{error:?}");
            assert!(fixture.engine.image(&reference).is_err());
        }

        let mut lines = Vec::new();
        let credentials = configuration(PASSWORD);
        let pulled =
            fixture.engine.pull(&reference, Some(&credentials), &mut |line| lines.push(line.to_owned()));
        let image = pulled.expect("pulled");
        assert!(image.tags.contains(&reference), "{image:?}");
        assert!(lines.iter().any(|line| line.contains("Pulling from image")), "{lines:?}");

        let mut container = fixture.script("pulled", "");
        container.image = reference;
        container.entrypoint.clear();
        assert_eq!(fixture.run(&container, b"").text(), "pulled\n");
    });
}

#[test]
fn a_pull_without_a_registry_fails_with_the_reason() {
    with_engines(|fixture| {
        // Nobody listens on port 1 of the loopback device.
        let error = fixture.engine.pull("127.0.0.1:1/nothing:1", None, &mut |_| {}).expect_err("no registry");
        assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
    });
}
