//! Package managers and git fetch what they are for, from registries of the test's.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use bot_bottle_testkit::{Answer, FakeUpstream, SeenRequest, StaticFiles, random_hex};
use flate2::{Compression, write::GzEncoder};
use serde_json::json;

use crate::{
    bottle::{LIMITED, OPEN, Operator, has, workspace},
    table::{Manager, Registry},
};

pub(crate) fn fetch_and_are_refused(manager: &Manager) -> Result<()> {
    if !has(manager.name, manager.needs, manager.folder) {
        return Ok(());
    }
    let content = format!("fetched {}", random_hex(16));
    let folder = tempfile::tempdir()?;
    let refused = |_: &SeenRequest| Answer::new(200, "text/plain", "not to be reached");
    let builder = FakeUpstream::builder().host(LIMITED, refused);
    let upstream = match manager.registry {
        Registry::Npm => builder.host(OPEN, npm_registry(&content)?),
        Registry::PythonIndex => builder.host(OPEN, python_index(&content, folder.path())?),
        Registry::Git => builder.host(OPEN, git_server(&content, folder.path())?),
        Registry::Cargo => builder.host(OPEN, sparse_index(&content)?),
        Registry::Apt => builder.host(OPEN, flat_repository(&content)),
        Registry::Grpc => builder.host(OPEN, grpc_service(&content)),
    }
    .start()?;
    let steps = [manager.fetch, manager.refused].map(str::to_owned);
    let printed = Operator::new(&upstream)?.run(manager.folder.and_then(workspace).as_deref(), &steps)?;
    ensure!(printed[0].contains(&content) && printed[0].ends_with("exit 0\n"), "{}", printed[0]);
    ensure!(printed[1].contains(manager.shown) && !printed[1].ends_with("exit 0\n"), "{}", printed[1]);
    let reached = upstream.requests().iter().any(|request| request.host == LIMITED);
    ensure!(!reached, "a refused request reached the upstream");
    Ok(())
}

/// `@scope/package`, whose only file is `content.txt`.
fn npm_registry(content: &str) -> Result<StaticFiles> {
    let manifest = json!({"name": "@scope/package", "version": "1.0.0"});
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, text) in [("package.json", manifest.to_string()), ("content.txt", content.to_owned())] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, format!("package/{path}"), text.as_bytes())?;
    }
    let tarball = format!("https://{OPEN}/@scope/package/-/package-1.0.0.tgz");
    let version = json!({"name": "@scope/package", "version": "1.0.0", "dist": {"tarball": tarball}});
    let document = json!({
        "name": "@scope/package",
        "dist-tags": {"latest": "1.0.0"},
        "versions": {"1.0.0": version}
    });
    Ok(StaticFiles::default()
        .file("/@scope%2fpackage", document.to_string())
        .file("/@scope/package/-/package-1.0.0.tgz", archive.into_inner()?.finish()?))
}

/// A sparse index with the crate `honest`, whose one source file is the content.
fn sparse_index(content: &str) -> Result<StaticFiles> {
    let manifest = "[package]\nname = \"honest\"\nversion = \"1.0.0\"\nedition = \"2021\"\n";
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, text) in [("Cargo.toml", manifest), ("src/lib.rs", &format!("// {content}"))] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, format!("honest-1.0.0/{path}"), text.as_bytes())?;
    }
    let archive = archive.into_inner()?.finish()?;
    let checksum = sha256(&archive)?;
    let entry = json!({
        "name": "honest", "vers": "1.0.0", "deps": [], "cksum": checksum, "features": {}, "yanked": false
    });
    Ok(StaticFiles::default()
        .file("/config.json", json!({"dl": format!("https://{OPEN}/crates")}).to_string())
        .file("/ho/ne/honest", format!("{entry}\n"))
        .file("/crates/honest/1.0.0/download", archive))
}

fn sha256(bytes: &[u8]) -> Result<String> {
    let mut child = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    child.stdin.take().context("it is piped")?.write_all(bytes)?;
    let printed = String::from_utf8(child.wait_with_output()?.stdout)?;
    Ok(printed.split_whitespace().next().context("a sum")?.to_owned())
}

/// A repository without a release file, sources.list(5), whose one package has the content for a description.
fn flat_repository(content: &str) -> StaticFiles {
    let package = format!(
        "Package: honest\nVersion: 1.0\nArchitecture: all\nMaintainer: a <a@b.test>\nDescription: {content}\n\
         Filename: ./honest.deb\nSize: 1\nSHA256: {}\n\n",
        "0".repeat(64)
    );
    StaticFiles::default().file("/flat/./Packages", package.clone()).file("/flat/Packages", package)
}

/// A method that streams nothing, and says the content in its trailers.
fn grpc_service(content: &str) -> impl Fn(&SeenRequest) -> Answer + Send + Sync + 'static + use<> {
    let content = content.to_owned();
    move |_: &SeenRequest| {
        Answer::new(200, "application/grpc", "").with("grpc-status", "0").with("x-content", &content)
    }
}

/// A simple index (PEP 503) with one wheel, whose module prints the content.
fn python_index(
    content: &str,
    folder: &Path,
) -> Result<impl Fn(&SeenRequest) -> Answer + Send + Sync + 'static> {
    const MAKE: &str = "\
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], 'w') as wheel:
    info = 'honest-1.0.dist-info/'
    wheel.writestr('honest.py', f'print({sys.argv[2]!r})\\n')
    wheel.writestr(info + 'METADATA', 'Metadata-Version: 2.1\\nName: honest\\nVersion: 1.0\\n')
    wheel.writestr(info + 'WHEEL', 'Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
    wheel.writestr(info + 'RECORD', ''.join(f'{name},,\\n' for name in wheel.namelist()) + info + 'RECORD,,\\n')
";
    let path = folder.join("wheel");
    let made = Command::new("/usr/bin/python3").args(["-c", MAKE]).arg(&path).arg(content).status()?;
    ensure!(made.success(), "{made}");
    let wheel = fs::read(path)?;
    Ok(move |request: &SeenRequest| match request.path.as_str() {
        "/simple/honest/" => Answer::new(
            200,
            "text/html",
            "<!DOCTYPE html><html><body><a href=\"/files/honest-1.0-py3-none-any.whl\">honest-1.0-py3-none-any.whl</a>",
        ),
        "/files/honest-1.0-py3-none-any.whl" => Answer::new(200, "application/zip", wheel.clone()),
        _ => Answer::new(404, "text/plain", "there is nothing here"),
    })
}

/// Smart HTTP (gitprotocol-http(5)) by git's own server, git-http-backend(1).
pub(crate) fn git_server(
    content: &str,
    folder: &Path,
) -> Result<impl Fn(&SeenRequest) -> Answer + Send + Sync + 'static> {
    const MAKE: &str = "\
set -e; export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b.test
export GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b.test; unset GIT_DIR GIT_WORK_TREE
git init -q \"$1/work\"; cd \"$1/work\"; echo \"$2\" > content.txt; git add .; git commit -q -m one
git clone -q --bare . \"$1/repository.git\"; git --exec-path > \"$1/exec-path\"";
    let made = Command::new("bash").args(["-c", MAKE, "bash"]).arg(folder).arg(content).status()?;
    ensure!(made.success(), "{made}");
    let root = folder.to_owned();
    Ok(move |request: &SeenRequest| {
        answer_of_cgi(request, &root)
            .unwrap_or_else(|error| Answer::new(500, "text/plain", format!("{error:#}")))
    })
}

/// One request by the Common Gateway Interface (RFC 3875).
fn answer_of_cgi(request: &SeenRequest, root: &Path) -> Result<Answer> {
    let header = |name| request.header(name).unwrap_or_default().to_owned();
    let mut child = Command::new("git")
        .arg("http-backend")
        .envs(BTreeMap::from([
            ("GIT_PROJECT_ROOT", root.display().to_string()),
            ("GIT_HTTP_EXPORT_ALL", "1".to_owned()),
            ("GIT_PROTOCOL", header("git-protocol")),
            ("PATH_INFO", request.path.clone()),
            ("QUERY_STRING", request.query.clone().unwrap_or_default()),
            ("REQUEST_METHOD", request.method.clone()),
            ("CONTENT_TYPE", header("content-type")),
            ("CONTENT_LENGTH", request.body.len().to_string()),
        ]))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("it is piped")?.write_all(&request.body)?;
    let output = child.wait_with_output()?.stdout;
    let end = output.windows(4).position(|bytes| bytes == b"\r\n\r\n").context("no end of the head")?;
    let head = String::from_utf8_lossy(&output[..end]).into_owned();
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let status = field("Status:").and_then(|status| status.get(..3)?.parse().ok()).unwrap_or(200);
    let answer = Answer::new(status, "text/plain", output[end + 4..].to_vec());
    Ok(answer.with("content-type", field("Content-Type:").unwrap_or("text/plain")))
}
