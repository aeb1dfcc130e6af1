//! The fake APIs satisfy the real programs. No gateway and no bottle is involved, so a failure here is the
//! fake's.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    time::{SystemTime, UNIX_EPOCH},
};

use bot_bottle_testkit::{
    AnthropicApi, ChatGptApi, ClaudeLogin, CodexLogin, ConnectForwarder, FakeUpstream, InstalledAgent,
    WebSockets, command_prompt, find_agent, require,
};
use tempfile::TempDir;

struct Stage {
    upstream: FakeUpstream,
    forwarder: ConnectForwarder,
    home: TempDir,
}

impl Stage {
    fn new(upstream: FakeUpstream) -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let forwarder = ConnectForwarder::start(upstream.address()).expect("a port");
        fs::write(home.path().join("ca.pem"), upstream.certificate()).expect("a file");
        fs::create_dir(home.path().join("workspace")).expect("a folder");
        Self { upstream, forwarder, home }
    }

    fn run(&self, agent: &InstalledAgent, arguments: &[&str], env: &[(&str, &str)]) -> Output {
        let home = self.home.path();
        let authority = home.join("ca.pem");
        let output = Command::new("timeout")
            .arg("60")
            .arg(&agent.executable)
            .args(arguments)
            .current_dir(home.join("workspace"))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", home)
            .env("HTTPS_PROXY", self.forwarder.url())
            .env("SSL_CERT_FILE", &authority)
            .env("NODE_EXTRA_CA_CERTS", &authority)
            .envs(env.iter().copied())
            .stdin(std::process::Stdio::null())
            .output()
            .expect("timeout(1) runs");
        assert!(output.status.success(), "{output:#?}\n{:#?}", self.upstream.requests());
        output
    }

    fn written(&self) -> String {
        fs::read_to_string(self.home.path().join("workspace/made.txt")).expect("the agent wrote the file")
    }
}

fn prompt() -> String {
    command_prompt("echo by the agent > made.txt && cat made.txt")
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs()
}

#[test]
fn claude_has_a_tool_run_and_sees_its_result() {
    let agent = find_agent("claude");
    if !require("claude", agent.is_some()) {
        return;
    }
    let login = ClaudeLogin::new(now() + 7200);
    let upstream = FakeUpstream::builder()
        .host("api.anthropic.com", AnthropicApi::new(&login.access_token))
        .start()
        .expect("the upstream starts");
    let stage = Stage::new(upstream);
    let output = stage.run(
        &agent.expect("found"),
        &["--dangerously-skip-permissions", "-p", &prompt()],
        &[
            ("CLAUDE_CODE_OAUTH_TOKEN", &login.access_token),
            ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
            ("IS_SANDBOX", "1"),
        ],
    );
    assert_eq!(stage.written(), "by the agent\n");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("The command answered: by the agent"), "{said}");
}

fn codex_works(web_sockets: WebSockets) -> Option<Stage> {
    let agent = find_agent("codex");
    if !require("codex", agent.is_some()) {
        return None;
    }
    let login = CodexLogin::new(now(), now() + 7200);
    let api = ChatGptApi::new(&login.access_token, &login.account_id).web_sockets(web_sockets);
    let upstream = FakeUpstream::builder().host("chatgpt.com", api).start().expect("the upstream starts");
    let stage = Stage::new(upstream);
    let codex_home = stage.home.path().join(".codex");
    fs::create_dir(&codex_home).expect("a folder");
    fs::write(codex_home.join("auth.json"), login.file()).expect("a file");
    let output = stage.run(
        &agent.expect("found"),
        &["exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", &prompt()],
        &[],
    );
    assert_eq!(stage.written(), "by the agent\n");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("by the agent"), "{said}");
    Some(stage)
}

#[test]
fn codex_has_a_tool_run_over_a_web_socket() {
    let Some(stage) = codex_works(WebSockets::Offered) else { return };
    assert!(stage.upstream.messages().len() >= 2, "{:#?}", stage.upstream.messages());
}

#[test]
fn codex_posts_where_a_web_socket_is_refused() {
    let Some(stage) = codex_works(WebSockets::Refused) else { return };
    let posts = stage.upstream.requests();
    let posts: Vec<_> =
        posts.iter().filter(|seen| seen.method == "POST" && is_responses(&seen.path)).collect();
    assert!(posts.len() >= 2, "{posts:#?}");
    assert!(posts.iter().all(|post| post.json()["input"].is_array()), "the bodies are compressed JSON");
}

fn is_responses(path: &str) -> bool {
    Path::new(path).ends_with("codex/responses")
}
