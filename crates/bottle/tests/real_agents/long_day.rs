//! The host's login is renewed eight times while the real agents work for nine hours, of a clock that the test moves.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock},
};

use bot_bottle_testkit::{
    Answer, AnthropicApi, ChatGptApi, ClaudeLogin, CodexLogin, FakeUpstream, Handler, Needle, SeenRequest,
    WebSockets, command_prompt,
};

use crate::{PLACEHOLDER, fixture, fixture::Fixture, now};

/// How often the model has the agent run its command at least.
const TURNS: usize = 20;

/// How often the login is renewed.
const RENEWALS: u64 = 8;

const HOUR: u64 = 3600;

/// A login that the host has for an hour.
struct HourLogin {
    /// The file's text.
    file: String,
    needles: Vec<Needle>,
    /// A service that knows it alone.
    api: Box<dyn Handler>,
}

/// A service, and the host's program, which makes a new login whenever the last one has been used twice. The first one is
/// refused from then on, and the host has the new one only then; the others stay good until the new one is used, as most
/// services have it.
struct LongDay {
    make: Box<dyn Fn(u64) -> HourLogin + Send + Sync>,
    model_path: &'static str,
    login_file: &'static str,
    /// The operator's home, once it is there.
    home: OnceLock<PathBuf>,
    progress: Mutex<Progress>,
}

struct Progress {
    login: HourLogin,
    /// The one before, as long as it is good.
    previous: Option<HourLogin>,
    renewals: u64,
    /// Requests to a model that were answered, and those of them with the last login.
    answered: u64,
    answered_now: u64,
    /// Other requests, which had no login that is good.
    refused: u64,
    needles: Vec<Needle>,
}

impl LongDay {
    fn new(
        login_file: &'static str,
        model_path: &'static str,
        make: impl Fn(u64) -> HourLogin + Send + Sync + 'static,
    ) -> Arc<Self> {
        let login = make(0);
        let needles = login.needles.clone();
        let progress = Progress {
            login,
            previous: None,
            renewals: 0,
            answered: 0,
            answered_now: 0,
            refused: 0,
            needles,
        };
        let (make, progress) = (Box::new(make), Mutex::new(progress));
        Arc::new(Self { make, model_path, login_file, home: OnceLock::new(), progress })
    }

    fn answer(&self, request: &SeenRequest) -> Answer {
        let mut progress = self.progress.lock().expect("no panic");
        let answer = progress.login.api.answer(request);
        let is_model = request.path == self.model_path;
        match &progress.previous {
            Some(previous) if answer.status == 401 => {
                let answer = previous.api.answer(request);
                progress.answered += u64::from(is_model && answer.status == 200);
                return answer;
            }
            _ => progress.previous = None,
        }
        if answer.status == 401 {
            progress.refused += 1;
            self.write(&progress);
        }
        if is_model && answer.status == 200 {
            progress.answered += 1;
            progress.answered_now += 1;
            if progress.answered_now >= 2 && progress.renewals < RENEWALS {
                self.renew(&mut progress);
            }
        }
        answer
    }

    /// Gives the host another login, an hour later.
    fn renew(&self, progress: &mut Progress) {
        progress.renewals += 1;
        progress.answered_now = 0;
        let hours = progress.renewals;
        let before = std::mem::replace(&mut progress.login, (self.make)(hours));
        progress.previous = (hours > 1).then_some(before);
        let needles = progress.login.needles.clone();
        progress.needles.extend(needles);
        if hours > 1 {
            self.write(progress);
        }
        let clock = self.home().join("clock");
        fs::write(clock, (hours * HOUR).to_string()).expect("written");
    }

    /// Writes the login as the programs do it: whole, or not at all.
    fn write(&self, progress: &Progress) {
        let (file, new) = (self.home().join(self.login_file), self.home().join("new-login"));
        fs::write(&new, &progress.login.file).expect("written");
        fs::rename(new, file).expect("renamed");
    }

    fn home(&self) -> &PathBuf {
        self.home.get().expect("set before the agent starts")
    }
}

/// How often the model has the agent run its command, under the login of an hour.
fn turns(hour: u64) -> usize {
    if hour < RENEWALS { usize::MAX } else { TURNS }
}

/// Twenty turns of one conversation, of which the first has shown the model the placeholders.
fn work(agent: &'static str, host: &str, day: &Arc<LongDay>, command: &str) -> Option<(Fixture, String)> {
    let service = Arc::clone(day);
    let upstream = FakeUpstream::builder()
        .host(host, move |request: &SeenRequest| service.answer(request))
        .start()
        .expect("the upstream starts");
    let frontmatter = format!("agent_provider: {{template: {agent}, forward_host_credentials: true}}");
    let mut fixture = Fixture::new(agent, &frontmatter, upstream)?;
    day.home.set(fixture.home()).expect("once");
    fixture.write_home(day.login_file, &day.progress.lock().expect("no panic").login.file);
    fixture.write_home("clock", "0");
    fixture.set("BOT_BOTTLE_CLOCK", &fixture.home().join("clock").to_string_lossy());
    let (identity, output) = fixture.run_to_the_end(&command_prompt(command));

    let progress = day.progress.lock().expect("no panic");
    assert!(output.contains("The command answered: "), "{output}");
    assert_eq!(progress.renewals, RENEWALS, "{output}");
    assert!(progress.answered as usize > TURNS, "{} answers of the model", progress.answered);
    assert!(progress.refused >= 1, "the first login was refused, which the agent did not see");
    let seen = fixture.upstream().requests();
    let shown = seen.iter().filter(|request| String::from_utf8_lossy(&request.body).contains(PLACEHOLDER));
    let (shown, all) = (shown.count(), seen.len());
    assert!(shown >= TURNS, "what the agent has read is in each request that follows: {shown} of {all}");
    let in_header = |request: &&SeenRequest| format!("{:?}", request.headers).contains(PLACEHOLDER);
    assert!(!seen.iter().any(|request| in_header(&request)), "but in no header");
    fixture.assert_not_found(&identity, &output, &progress.needles);
    let receipts = fixture.receipts(&identity);
    let renewed = receipts.iter().filter(|line| line["renewal"] == "renewed").count();
    assert!(renewed as u64 >= RENEWALS, "each is written down: {receipts:?}");
    drop(progress);
    Some((fixture, identity))
}

#[test]
fn claude_works_on_while_its_login_is_renewed() {
    let _turn = fixture::turn();
    let began = now();
    let day = LongDay::new(".claude/.credentials.json", "/v1/messages", move |hours| {
        let login = ClaudeLogin::new(began + (hours + 1) * HOUR + 300);
        let api = AnthropicApi::new(&login.access_token).with_turns(turns(hours));
        HourLogin { file: login.file(), needles: login.needles(), api: Box::new(api) }
    });
    // Its shells do not have its own variables.
    let command = r"cat /proc/[0-9]*/environ 2> /dev/null | tr '\0' '\n' | sort -u";
    work("claude", "api.anthropic.com", &day, command);
}

#[test]
fn codex_works_on_while_its_login_is_renewed() {
    let _turn = fixture::turn();
    let began = now();
    let first = CodexLogin::new(began, began + HOUR);
    let day = LongDay::new(".codex/auth.json", "/backend-api/codex/responses", move |hours| {
        let login = first.renewed(began, began + (hours + 1) * HOUR + 300);
        let api = ChatGptApi::new(&login.access_token, &login.account_id)
            .web_sockets(WebSockets::Refused)
            .with_turns(turns(hours));
        HourLogin { file: login.file(), needles: login.needles(), api: Box::new(api) }
    });
    let Some((fixture, identity)) = work("codex", "chatgpt.com", &day, "cat ~/.codex/auth.json") else {
        return;
    };
    // The dummy has moved along: the program would ask for another login itself, five minutes before its end.
    let dummy = fs::read_to_string(fixture.agent_folder(&identity).join("home/.codex/auth.json"));
    let last = began + (RENEWALS + 1) * HOUR + 300;
    assert_eq!(expiry(&dummy.expect("a login")), last);
}

/// The end of the dummy's token: seconds since 1970.
fn expiry(login: &str) -> u64 {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let login: serde_json::Value = serde_json::from_str(login).expect("JSON");
    let token = login["tokens"]["access_token"].as_str().expect("a token");
    let claims = token.split('.').nth(1).expect("three parts");
    let claims: serde_json::Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).expect("base64")).expect("JSON");
    claims["exp"].as_u64().expect("a time")
}
