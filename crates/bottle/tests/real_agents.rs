//! The real agent programs do a turn of work in a bottle, native and in a container, against upstreams that speak their APIs.
//!
//! The upstream sees the real credential on every call and never the placeholder. No part of the credential
//! is in the bottle, in the files that are kept, in the output, or in the environment or command line of any
//! process, including the gateway's.

#[path = "real_agents/fixture.rs"]
mod fixture;
#[path = "real_agents/long_day.rs"]
mod long_day;

use std::time::{SystemTime, UNIX_EPOCH};

use bot_bottle_testkit::{
    Answer, AnthropicApi, ChatGptApi, ClaudeLogin, CodexLogin, FakeUpstream, Handler, Needle, OpenAiApi,
    SeenRequest, WebSockets, random_secret,
};

use fixture::{Finished, Fixture};

const PLACEHOLDER: &str = "egress-placeholder";

/// The variable of the host that the bottles of some tests name.
const TOKEN_VARIABLE: &str = "BOT_BOTTLE_TEST_CLAUDE_TOKEN";

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs()
}

fn assert_no_placeholder(seen: &[SeenRequest]) {
    for request in seen {
        let headers = format!("{:?}", request.headers);
        assert!(!headers.contains(PLACEHOLDER), "{} {}: {headers}", request.method, request.path);
        let body = String::from_utf8_lossy(&request.body);
        assert!(!body.contains(PLACEHOLDER), "{} {}: {body}", request.method, request.path);
    }
}

fn assert_credential_on_every_call(seen: &[SeenRequest], credential: &str) {
    assert_header_on_every_call(seen, "authorization", &format!("Bearer {credential}"));
}

fn assert_header_on_every_call(seen: &[SeenRequest], header: &str, value: &str) {
    let other = if header == "x-api-key" { "authorization" } else { "x-api-key" };
    assert!(!seen.is_empty());
    for request in seen {
        assert_eq!(request.header(header), Some(value), "{} {}", request.method, request.path);
        assert!(!request.headers.contains_key(other), "{} {}", request.method, request.path);
        assert!(request.encrypted, "{} {}", request.method, request.path);
    }
}

/// How a fixture is made: for a native bottle, or for one in a container.
type MakeFixture = fn(&'static str, &str, FakeUpstream) -> Option<Fixture>;

fn claude(make: MakeFixture, frontmatter: &str, login: &ClaudeLogin, prepare: impl FnOnce(&mut Fixture)) {
    let upstream = FakeUpstream::builder()
        .host("api.anthropic.com", AnthropicApi::new(&login.access_token))
        .start()
        .expect("the upstream starts");
    let Some(mut fixture) = make("claude", frontmatter, upstream) else { return };
    prepare(&mut fixture);
    let Finished { output, .. } = fixture.run_turn(&login.needles());
    let upstream = fixture.upstream();
    assert_credential_on_every_call(&upstream.requests(), &login.access_token);
    assert_no_placeholder(&upstream.requests());
    let turns = upstream.requests().iter().filter(|seen| seen.path == "/v1/messages").count();
    assert!(turns >= 2, "the tool's result went back: {turns}");
    assert!(output.contains("The command answered: by the agent"), "{output}");
}

#[test]
fn claude_with_a_token_of_the_host() {
    let _turn = fixture::turn();
    let login = ClaudeLogin::new(now() + 7200);
    let frontmatter = format!("agent_provider: {{template: claude, auth_token: {TOKEN_VARIABLE}}}");
    claude(Fixture::new, &frontmatter, &login, |fixture| fixture.set(TOKEN_VARIABLE, &login.access_token));
}

#[test]
fn claude_with_the_login_of_the_host() {
    let _turn = fixture::turn();
    claude_with_login(Fixture::new);
}

#[test]
fn claude_in_a_container() {
    let _turn = fixture::turn();
    claude_with_login(Fixture::in_docker);
}

fn claude_with_login(make: MakeFixture) {
    let login = ClaudeLogin::new(now() + 7200);
    let frontmatter = "agent_provider: {template: claude, forward_host_credentials: true}";
    claude(make, frontmatter, &login, |fixture| {
        fixture.write_home(".claude/.credentials.json", &login.file());
    });
}

/// One turn with an API key in [`TOKEN_VARIABLE`].
fn with_key(agent: &'static str, frontmatter: &str, upstream: FakeUpstream, key: &str) -> Option<Fixture> {
    let mut fixture = Fixture::new(agent, frontmatter, upstream)?;
    fixture.set(TOKEN_VARIABLE, key);
    let Finished { output, .. } = fixture.run_turn(&[Needle::new("API key", key)]);
    assert!(output.contains("by the agent"), "{output}");
    assert_no_placeholder(&fixture.upstream().requests());
    Some(fixture)
}

fn upstream(host: &str, api: impl Handler + 'static) -> FakeUpstream {
    FakeUpstream::builder().host(host, api).start().expect("the upstream starts")
}

#[test]
fn claude_with_an_api_key() {
    let _turn = fixture::turn();
    let key = random_secret("sk-ant-api03-");
    let frontmatter = format!("agent_provider: {{template: claude, api_key: {TOKEN_VARIABLE}}}");
    let upstream = upstream("api.anthropic.com", AnthropicApi::with_key(&key));
    let Some(fixture) = with_key("claude", &frontmatter, upstream, &key) else { return };
    assert_header_on_every_call(&fixture.upstream().requests(), "x-api-key", &key);
}

#[test]
fn claude_at_another_service() {
    let _turn = fixture::turn();
    let key = random_secret("sk-corp-");
    let frontmatter = format!(
        "agent_provider: {{template: claude, auth_token: {TOKEN_VARIABLE}, base_url: \"https://llm.test\"}}"
    );
    let upstream = upstream("llm.test", AnthropicApi::new(&key));
    let Some(fixture) = with_key("claude", &frontmatter, upstream, &key) else { return };
    assert_credential_on_every_call(&fixture.upstream().requests(), &key);
}

/// A cloud's service that takes a bearer token: by a route and variables of the bottle, and no login of the provider's. How
/// such services stream is their own; here it is seen that they are asked, and with which credential.
fn claude_asks(host: &str, variables: &str, path: &str) {
    let token = random_secret("cloud-token-");
    let frontmatter = format!(
        "agent_provider: {{template: claude}}\nenv: {{{variables}}}\n\
         egress: {{routes: [{{host: {host}, auth: {{scheme: Bearer, token_ref: {TOKEN_VARIABLE}}}}}]}}"
    );
    let refuse =
        |_: &SeenRequest| Answer::json(400, &serde_json::json!({"message": "this model does not exist"}));
    let Some(mut fixture) = Fixture::new("claude", &frontmatter, upstream(host, refuse)) else { return };
    fixture.set(TOKEN_VARIABLE, &token);
    let output = fixture.fails("hello");
    let seen = fixture.upstream().requests();
    assert!(seen.iter().any(|request| request.path.starts_with(path)), "{output}");
    assert_credential_on_every_call(&seen, &token);
    assert_no_placeholder(&seen);
}

#[test]
fn claude_asks_bedrock_with_a_bearer_token() {
    let _turn = fixture::turn();
    let variables = format!(
        "CLAUDE_CODE_USE_BEDROCK: \"1\", AWS_REGION: eu-west-1, AWS_BEARER_TOKEN_BEDROCK: {PLACEHOLDER}"
    );
    claude_asks("bedrock-runtime.eu-west-1.amazonaws.com", &variables, "/model/");
}

#[test]
fn claude_asks_vertex_with_an_access_token() {
    let _turn = fixture::turn();
    let variables = "CLAUDE_CODE_USE_VERTEX: \"1\", CLAUDE_CODE_SKIP_VERTEX_AUTH: \"1\", \
                     CLOUD_ML_REGION: europe-west1, ANTHROPIC_VERTEX_PROJECT_ID: a-project";
    let path = "/v1/projects/a-project/locations/europe-west1/publishers/anthropic/models/";
    claude_asks("europe-west1-aiplatform.googleapis.com", variables, path);
}

#[test]
fn codex_with_an_api_key() {
    let _turn = fixture::turn();
    let key = random_secret("sk-proj-");
    let frontmatter = format!("agent_provider: {{template: codex, api_key: {TOKEN_VARIABLE}}}");
    let upstream = upstream("api.openai.com", OpenAiApi::new(&key));
    let Some(fixture) = with_key("codex", &frontmatter, upstream, &key) else { return };
    assert_credential_on_every_call(&fixture.upstream().requests(), &key);
}

#[test]
fn codex_at_another_service() {
    let _turn = fixture::turn();
    let key = random_secret("sk-corp-");
    let frontmatter = format!(
        "agent_provider: {{template: codex, api_key: {TOKEN_VARIABLE}, base_url: \"https://llm.test/v1\"}}"
    );
    let upstream = upstream("llm.test", OpenAiApi::new(&key));
    let Some(fixture) = with_key("codex", &frontmatter, upstream, &key) else { return };
    assert_credential_on_every_call(&fixture.upstream().requests(), &key);
}

fn codex(make: MakeFixture, web_sockets: WebSockets) {
    let login = CodexLogin::new(now(), now() + 7200);
    let api = ChatGptApi::new(&login.access_token, &login.account_id).web_sockets(web_sockets);
    let upstream = FakeUpstream::builder().host("chatgpt.com", api).start().expect("the upstream starts");
    let frontmatter = "agent_provider: {template: codex, forward_host_credentials: true}";
    let Some(fixture) = make("codex", frontmatter, upstream) else { return };
    fixture.write_home(".codex/auth.json", &login.file());
    let Finished { output, .. } = fixture.run_turn(&login.needles());
    let upstream = fixture.upstream();
    assert_credential_on_every_call(&upstream.requests(), &login.access_token);
    assert_no_placeholder(&upstream.requests());
    for message in upstream.messages() {
        assert!(!message.text.contains(PLACEHOLDER), "{}", message.text);
    }
    let posts = upstream
        .requests()
        .iter()
        .filter(|seen| seen.path.ends_with("/codex/responses") && seen.method == "POST")
        .count();
    let turns = upstream.messages().len() + posts;
    assert!(turns >= 2, "the tool's result went back: {turns}");
    assert!(output.contains("by the agent"), "{output}");
}

#[test]
fn codex_with_the_login_of_the_host() {
    let _turn = fixture::turn();
    codex(Fixture::new, WebSockets::Offered);
}

#[test]
fn codex_in_a_container() {
    let _turn = fixture::turn();
    codex(Fixture::in_docker, WebSockets::Offered);
}

#[test]
fn codex_where_the_upstream_has_no_web_sockets() {
    let _turn = fixture::turn();
    codex(Fixture::new, WebSockets::Refused);
}

/// A login of the host, and an upstream that knows it alone.
struct Login {
    file: String,
    access_token: String,
    needles: Vec<Needle>,
    upstream: FakeUpstream,
}

/// A conversation goes on in a run that ended, under the second login: the model gets what was said before. `path`
/// ends that of a request with messages, `said` begins what the agent said last.
fn goes_on(agent: &'static str, login_file: &str, path: &str, said: &str, [first, second]: [Login; 2]) {
    const QUESTION: &str = "And what did you do before?";
    let frontmatter = format!("agent_provider: {{template: {agent}, forward_host_credentials: true}}");
    let Some(mut fixture) = Fixture::new(agent, &frontmatter, first.upstream) else { return };
    fixture.write_home(login_file, &first.file);
    let Finished { identity, output } = fixture.run_turn(&first.needles);
    let told = format!("`bot-bottle resume {identity}` goes on with the conversation");
    assert!(output.contains(&told), "{output}");

    fixture.write_home(login_file, &second.file);
    fixture.set_upstream(second.upstream);
    let output = fixture.resume(&identity, QUESTION);
    let seen = fixture.upstream().requests();
    assert_credential_on_every_call(&seen, &second.access_token);
    let went_on = seen.iter().filter(|request| request.path.ends_with(path)).any(|request| {
        let body = request.json().to_string();
        body.contains(QUESTION) && body.contains(said)
    });
    assert!(went_on, "the model was not told what was said before: {output}");
}

#[test]
fn claude_goes_on_with_its_conversation() {
    let _turn = fixture::turn();
    let logins = [7200, 9000].map(|seconds| {
        let login = ClaudeLogin::new(now() + seconds);
        let upstream = FakeUpstream::builder()
            .host("api.anthropic.com", AnthropicApi::new(&login.access_token))
            .start()
            .expect("the upstream starts");
        let (file, needles) = (login.file(), login.needles());
        Login { file, needles, access_token: login.access_token, upstream }
    });
    let said = "The command answered: by the agent";
    goes_on("claude", ".claude/.credentials.json", "/v1/messages", said, logins);
}

/// Its dummy login in the bottle's home is made anew.
#[test]
fn codex_goes_on_with_its_conversation() {
    let _turn = fixture::turn();
    // A conversation is one account's.
    let first = CodexLogin::new(now(), now() + 7200);
    let second = first.renewed(now(), now() + 9000);
    let logins = [first, second].map(|login| {
        let api = ChatGptApi::new(&login.access_token, &login.account_id).web_sockets(WebSockets::Refused);
        let upstream = FakeUpstream::builder().host("chatgpt.com", api).start().expect("the upstream starts");
        let (file, needles) = (login.file(), login.needles());
        Login { file, needles, access_token: login.access_token, upstream }
    });
    goes_on("codex", ".codex/auth.json", "/codex/responses", "The command answered: ", logins);
}
