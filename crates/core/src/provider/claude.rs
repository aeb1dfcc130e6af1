//! Claude Code, by Anthropic. What it obeys was measured with 2.1.330; see `docs/providers.md`.

use std::{collections::BTreeMap, path::Path};

use serde_json::json;

use crate::{
    bottle::ProviderSettings,
    policy::{RequestMatch, Route, RouteAuth},
    secret::PLACEHOLDER,
};

use super::{
    AgentProvisionPlan, Conversation, GuestFile, Package, Provider, ProviderError, ProvisionInput, RunMode,
    TokenLogin, credentials, route,
};

mod login;

use login::{KEY_VARIABLE, Login, OTHER_TOKEN_VARIABLE, TOKEN_VARIABLE};

/// Claude Code.
#[derive(Debug)]
pub(super) struct Claude;

const NAME: &str = "claude";
const API: &str = "api.anthropic.com";
const CREDENTIAL_FILE: &str = ".claude/.credentials.json";
const SKILLS_FOLDER: &str = ".claude/skills";
const URL_VARIABLE: &str = "ANTHROPIC_BASE_URL";

/// The system prompt's file, in the agent's home.
const PROMPT_FILE: &str = ".bot-bottle-prompt.txt";

/// How many characters of an API key name it among those that the operator approved.
const APPROVED_CHARACTERS: usize = 20;

/// Where logins are refreshed; `console.anthropic.com` is what older versions ask.
const TOKEN_ENDPOINTS: [&str; 2] = ["platform.claude.com", "console.anthropic.com"];

const PACKAGES: [Package; 2] = [
    Package {
        architecture: "x86_64",
        name: "@anthropic-ai/claude-code-linux-x64",
        version: "2.1.330",
        integrity: "sha512-9Gn+V7DtJ8M1nztP9CeDVl9g3RtrepI7rOFTyPRRnZe8D6zebIHKmC7OvBauucuAP0X0k85SDN/LPVZyjsGezQ==",
        tree: "package",
        executable: "claude",
    },
    Package {
        architecture: "aarch64",
        name: "@anthropic-ai/claude-code-linux-arm64",
        version: "2.1.330",
        integrity: "sha512-V4yanAY5EA5UpwwRPtjSfqDbNqAlUJeVn3NYZw2AgmRHjdpSsLtHAzbxRXfkAnbjwTXzE0uedjQxUY02ARPcsA==",
        tree: "package",
        executable: "claude",
    },
];

/// Switches, each of which keeps the program from asking a host that it does not need.
const SWITCHES: [(&str, &str); 6] = [
    ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
    ("CLAUDE_CODE_DISABLE_OFFICIAL_MARKETPLACE_AUTOINSTALL", "1"),
    ("DISABLE_AUTOUPDATER", "1"),
    ("DISABLE_ERROR_REPORTING", "1"),
    ("DISABLE_TELEMETRY", "1"),
    // Without it the program refuses, as root, to run without permission prompts. Only `1` is understood.
    ("IS_SANDBOX", "1"),
];

/// Variables that would take the place of the placeholder: the program would send another credential, which
/// the gateway strips, or look for its seeds in another folder.
const RESERVED: [(&str, &str); 6] = [
    (KEY_VARIABLE, "name the variable in agent_provider.api_key; the gateway injects its value"),
    (OTHER_TOKEN_VARIABLE, "name the variable in agent_provider.auth_token; the gateway injects its value"),
    (URL_VARIABLE, "write it in agent_provider.base_url, which opens the way there too"),
    (TOKEN_VARIABLE, "name the variable in agent_provider.auth_token; the gateway injects its value"),
    ("CLAUDE_CONFIG_DIR", "leave it out; the bottle's settings lie in ~/.claude"),
    ("CLAUDE_CODE_SUBPROCESS_ENV_SCRUB", "leave it out; it turns permission prompts back on"),
];

impl Provider for Claude {
    fn name(&self) -> &'static str {
        NAME
    }

    fn program(&self) -> &'static str {
        "claude"
    }

    fn packages(&self) -> &'static [Package] {
        &PACKAGES
    }

    fn credential_file(&self) -> &'static str {
        CREDENTIAL_FILE
    }

    fn folder_variable(&self) -> &'static str {
        "CLAUDE_CONFIG_DIR"
    }

    fn token_login(&self) -> Option<TokenLogin> {
        Some(TokenLogin { variable: "BOT_BOTTLE_CLAUDE_OAUTH_TOKEN", command: "claude setup-token" })
    }

    fn forbidden_hosts(&self) -> &'static [&'static str] {
        &TOKEN_ENDPOINTS
    }

    fn conversations(&self) -> &'static str {
        ".claude/projects"
    }

    fn skills_folder(&self) -> &'static str {
        SKILLS_FOLDER
    }

    fn provision(&self, input: &ProvisionInput<'_>) -> Result<AgentProvisionPlan, ProviderError> {
        let settings = &input.bottle.provider;
        let login = Login::of(input)?;
        let home = &input.guest.home;
        let prompt = (!input.system_prompt.trim().is_empty()).then(|| home.join(PROMPT_FILE));
        let mut files = vec![
            json_file(home.join(".claude.json"), &onboarding(home, &input.guest.workspace, &login)),
            json_file(
                home.join(".claude/settings.json"),
                // The dialog's default answer is "No, exit".
                &json!({"skipDangerousModePermissionPrompt": true}),
            ),
        ];
        files.extend(prompt.clone().map(|path| GuestFile {
            path,
            content: input.system_prompt.to_owned(),
            mode: 0o600,
        }));
        let url = settings.base_url.as_ref().map(ToString::to_string);
        let env = BTreeMap::from_iter(
            (SWITCHES.into_iter())
                .chain(login.variable(settings))
                .chain(url.as_deref().map(|url| (URL_VARIABLE, url)))
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        let (routes, notes) = (vec![api_route(settings, login.auth())?], notes(&login, settings, input.now));
        let secret = login.into_secret();
        Ok(AgentProvisionPlan {
            provider: NAME.to_owned(),
            command: command(input, prompt.as_deref()),
            hidden_env_names: env.keys().cloned().collect(),
            env,
            reserved_env: RESERVED
                .into_iter()
                .map(|(name, instead)| (name.to_owned(), instead.to_owned()))
                .collect(),
            provisioned_env: secret.iter().map(|secret| secret.reference.clone()).collect(),
            secrets: secret.into_iter().collect(),
            files,
            directories: vec![home.join(".claude"), home.join(SKILLS_FOLDER)],
            egress_routes: routes,
            forbidden_hosts: route::exact_hosts(&TOKEN_ENDPOINTS),
            skills_folder: SKILLS_FOLDER.into(),
            // It obeys the variables that every bottle has.
            ca_variables: BTreeMap::new(),
            // Its login is a variable.
            login_files: Vec::new(),
            notes,
        })
    }
}

/// The way to the service, which is Anthropic's unless the bottle names another one: the program then finds Anthropic
/// closed, and does without.
fn api_route(settings: &ProviderSettings, auth: Option<RouteAuth>) -> Result<Route, ProviderError> {
    let Some(url) = &settings.base_url else { return Ok(route::own(NAME, API, auth, api_requests())) };
    route::check_cleartext(url, auth.as_ref())?;
    let path = |rest: &str| format!("{}{rest}", url.path());
    let (messages, count) = (path("/v1/messages"), path("/v1/messages/count_tokens"));
    let requests = vec![
        route::allow(&["POST"], &[&messages, &count], &[]),
        route::allow(&["GET", "HEAD"], &[], &[&path("/v1/models")]),
    ];
    Ok(route::other(NAME, url, auth, requests))
}

/// What the operator should know of the login.
fn notes(login: &Login, settings: &ProviderSettings, now: u64) -> Vec<String> {
    let note = match (login, &settings.base_url) {
        (Login::None, None) => {
            "nothing logs claude in; `auth_token`, `api_key` or `forward_host_credentials` under agent_provider does"
                .to_owned()
        }
        (Login::None, Some(url)) => format!("claude asks {url}, with no credential"),
        (_, Some(url)) => format!("claude asks {url}, and not {API}"),
        (Login::Host(secret), None) => credentials::validity(NAME, secret.expires, now),
        (_, None) => return Vec::new(),
    };
    vec![note]
}

/// What the program asks of its service, and no more. The same host makes API keys
/// (`/api/oauth/claude_cli/create_api_key`), exchanges tokens (`/v1/oauth/token`), reads the operator's files
/// (`/v1/files`) and starts agents that run elsewhere, without any bottle (`/v1/code/triggers`,
/// `/v1/sessions`); the injected credential would open all of them.
fn api_requests() -> Vec<RequestMatch> {
    vec![
        route::allow(&["POST"], &["/v1/messages", "/v1/messages/count_tokens"], &["/api/eval"]),
        route::allow(
            &["GET", "HEAD"],
            &[
                "/api/claude_cli/bootstrap",
                "/api/claude_code/policy_limits",
                "/api/claude_code/settings",
                "/api/directory/server-urls",
                "/api/hello",
                "/api/oauth/profile",
                "/api/oauth/usage",
                "/api/web/domain_info",
            ],
            &["/v1/models"],
        ),
    ]
}

fn command(input: &ProvisionInput<'_>, prompt_file: Option<&Path>) -> Vec<String> {
    let mut command = vec!["claude".to_owned(), "--dangerously-skip-permissions".to_owned()];
    if let Some(file) = prompt_file {
        command.extend(["--append-system-prompt-file".to_owned(), file.to_string_lossy().into_owned()]);
    }
    if input.conversation == Conversation::Last {
        command.push("--continue".to_owned());
    }
    command.extend_from_slice(input.extra_arguments);
    if let RunMode::Headless { prompt } = input.mode {
        // `-p` is a switch and the prompt an argument: without `--`, one that starts with `-` is read as
        // options.
        command.extend(["-p".to_owned(), "--".to_owned(), prompt.clone()]);
    }
    command
}

/// What spares the screens of a first start. Without `hasCompletedOnboarding` the program asks a host that is
/// never routable, and ends.
///
/// An API key is used only where its last characters are among those that were approved.
fn onboarding(home: &Path, workspace: &Path, login: &Login) -> serde_json::Value {
    let trusted = [home, workspace]
        .into_iter()
        .map(|folder| (folder.to_string_lossy().into_owned(), json!({"hasTrustDialogAccepted": true})))
        .collect::<serde_json::Map<_, _>>();
    let mut seeds = json!({"hasCompletedOnboarding": true, "projects": trusted});
    if let Login::ApiKey(_) = login {
        let shown = PLACEHOLDER.len().saturating_sub(APPROVED_CHARACTERS);
        seeds["customApiKeyResponses"] = json!({"approved": [&PLACEHOLDER[shown..]]});
    }
    seeds
}

fn json_file(path: std::path::PathBuf, content: &serde_json::Value) -> GuestFile {
    GuestFile { path, content: format!("{content:#}\n"), mode: 0o600 }
}
