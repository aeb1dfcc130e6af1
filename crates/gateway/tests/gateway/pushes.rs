//! Real clients of git against real servers: what would arrive without a gateway does not arrive through it,
//! however the requests are written.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use bot_bottle_testkit::{find_program, require, require_because};
use serde_json::json;

use crate::support::gateway::Setup;

mod rewrites;
mod servers;
mod shim;

use rewrites::REWRITES;
use servers::{APACHE, DULWICH, GitServer, JETTY, Kind, NGINX, WEBDAV};
use shim::{HOST, Upstream};

/// What every server sees through.
const ALL: [&str; 7] = [
    "as git sends it",
    "two slashes",
    "an encoded letter",
    "an encoded slash",
    "the service encoded",
    "another key first",
    "an empty pair",
];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_pushed_to_git_behind_nginx() {
    nothing_arrives(&NGINX, &["a dot", "encoded dots", "a harmless service first"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_pushed_to_git_behind_apache() {
    nothing_arrives(&APACHE, &["a dot", "encoded dots", "a harmless service first"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_pushed_over_webdav() {
    nothing_arrives(&WEBDAV, &["a dot", "encoded dots"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_pushed_to_jgit_on_jetty() {
    let own = ["a parameter at the end", "a parameter inside", "encoded dots", "a second question mark"];
    nothing_arrives(&JETTY, &own).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_pushed_to_dulwich() {
    nothing_arrives(&DULWICH, &["an encoded line feed", "no content type"]).await;
}

/// Pushes and fetches in every way, without a gateway and through one. Those that are named have to arrive
/// without: otherwise this would prove nothing.
async fn nothing_arrives(kind: &Kind, arriving: &[&str]) {
    if !require("git", find_program("git").is_some()) || !require_because(kind.name, kind.missing()) {
        return;
    }
    let server = kind.start();
    let client = Client::new();
    let route = json!({"host": HOST, "ports": [80], "owner": "manifest"});
    let pushing = json!({"host": HOST, "ports": [80], "owner": "manifest", "git_fetch": true});
    let (closed, fetching) = (
        Setup::new().fixed(HOST, server.address).route(route).start().await,
        Setup::new().fixed(HOST, server.address).route(pushing).start().await,
    );
    let mut pushed = Vec::new();
    let mut fetched = Vec::new();
    for (number, rewrite) in REWRITES.iter().enumerate() {
        let direct = shim::start(Upstream::Direct(server.address), rewrite, kind.knows_git).await;
        let branch = format!("direct-{number}");
        client.push(&url(&server, direct), &branch).await;
        if server.branch(&branch).is_some() {
            pushed.push(rewrite.name);
        }
        if client.fetch(&url(&server, direct)).await {
            fetched.push(rewrite.name);
        }
        for gateway in [&fetching, &closed] {
            let through = shim::start(Upstream::Gateway(gateway.address), rewrite, kind.knows_git).await;
            let branch = format!("gateway-{number}");
            client.push(&url(&server, through), &branch).await;
            assert_eq!(server.branch(&branch), None, "{}: pushed by {}", kind.name, rewrite.name);
        }
        let through = shim::start(Upstream::Gateway(closed.address), rewrite, kind.knows_git).await;
        assert!(!client.fetch(&url(&server, through)).await, "{}: fetched by {}", kind.name, rewrite.name);
    }
    for name in ALL.iter().chain(arriving) {
        assert!(pushed.contains(name), "{}: without a gateway {name} is pushed: {}", kind.name, server.log());
        assert!(fetched.contains(name), "{}: without a gateway {name} is fetched", kind.name);
    }
    let through = shim::start(Upstream::Gateway(fetching.address), &REWRITES[0], kind.knows_git).await;
    assert!(client.fetch(&url(&server, through)).await, "the route that says so fetches");
    assert!(closed.receipts().iter().any(|receipt| receipt["reason"] == "git_push"));
    assert!(closed.receipts().iter().any(|receipt| receipt["reason"] == "git_fetch"));
}

fn url(server: &GitServer, shim: std::net::SocketAddr) -> String {
    format!("http://{shim}{}", server.path)
}

/// A repository to push from, as an agent has one.
struct Client {
    folder: tempfile::TempDir,
}

impl Client {
    fn new() -> Self {
        let client = Self { folder: tempfile::tempdir().expect("a folder") };
        let script = "git init --quiet . && git commit --quiet --allow-empty -m work";
        let made = client.command("sh").args(["-c", script]).status().expect("sh");
        assert!(made.success());
        client
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.folder.path()).env("GIT_TERMINAL_PROMPT", "0");
        for name in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{name}_NAME"), "a").env(format!("GIT_{name}_EMAIL"), "a@b");
        }
        command
    }

    /// Pushes a new branch, or fails to.
    async fn push(&self, url: &str, branch: &str) {
        self.run(&["push", "--quiet", url, &format!("HEAD:refs/heads/{branch}")]).await;
    }

    /// Whether everything could be fetched into a new repository.
    async fn fetch(&self, url: &str) -> bool {
        let clone = self.folder.path().join("clone");
        let _ = std::fs::remove_dir_all(&clone);
        self.run(&["clone", "--quiet", "--bare", url, "clone"]).await && is_whole(&clone)
    }

    async fn run(&self, arguments: &[&str]) -> bool {
        let mut command = self.command("git");
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        let status = tokio::task::spawn_blocking(move || command.status()).await.expect("joined");
        status.expect("git").success()
    }
}

fn is_whole(clone: &Path) -> bool {
    clone.join("HEAD").exists()
}
