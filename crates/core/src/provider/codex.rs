//! Codex, by OpenAI. What it obeys was measured with 0.169.0; see `docs/providers.md`.

use std::{collections::BTreeMap, path::Path};

use crate::policy::RequestMatch;

use super::{
    AgentProvisionPlan, CaFile, Conversation, GuestFile, Package, Provider, ProviderError, ProvisionInput,
    RunMode, TokenLogin, route,
};

mod access;
mod login;

use access::Access;

/// Codex.
#[derive(Debug)]
pub(super) struct Codex;

const NAME: &str = "codex";
const CHATGPT: &str = "chatgpt.com";
const API: &str = "api.openai.com";
const CREDENTIAL_FILE: &str = ".codex/auth.json";
const SKILLS_FOLDER: &str = ".codex/skills";

/// Where logins are refreshed. An answer from there would be written to the bottle's `auth.json`.
const TOKEN_ENDPOINTS: [&str; 1] = ["auth.openai.com"];

const PACKAGES: [Package; 2] = [
    Package {
        architecture: "x86_64",
        name: "@openai/codex",
        version: "0.169.0-linux-x64",
        integrity: "sha512-o05NyAOCDygSPRo1yinzxvkRSdmsZyBD9E7mbpmjRanSfM8lypqWtQgEo4XfNkwhuCR2aFu8mlGOsQGFXVbVww==",
        tree: "package/vendor/x86_64-unknown-linux-musl",
        executable: "bin/codex",
    },
    Package {
        architecture: "aarch64",
        name: "@openai/codex",
        version: "0.169.0-linux-arm64",
        integrity: "sha512-NZ/DaQUpcQmxmqee7Z9uC1rzw3GhSbooawcaTe1LN5Yk+WlinUKGdTXJgClRT/9ogQEEM9TWxYzvxPfj5G/xFg==",
        tree: "package/vendor/aarch64-unknown-linux-musl",
        executable: "bin/codex",
    },
];

/// Variables that would give the program another login than the dummy, or look for it in another folder.
const RESERVED: [(&str, &str); 4] = [
    ("CODEX_API_KEY", "name the variable in agent_provider.api_key; the gateway injects its value"),
    ("CODEX_ACCESS_TOKEN", "leave it out; the gateway injects the host's login"),
    ("CODEX_HOME", "leave it out; the bottle's settings lie in ~/.codex"),
    ("OPENAI_API_KEY", "name the variable in agent_provider.api_key; the gateway injects its value"),
];

impl Provider for Codex {
    fn name(&self) -> &'static str {
        NAME
    }

    fn program(&self) -> &'static str {
        "codex"
    }

    /// Without it the program ends with "failed to spawn code-mode host", and exit code 0.
    fn companions(&self) -> &'static [&'static str] {
        &["codex-code-mode-host"]
    }

    fn packages(&self) -> &'static [Package] {
        &PACKAGES
    }

    fn credential_file(&self) -> &'static str {
        CREDENTIAL_FILE
    }

    fn folder_variable(&self) -> &'static str {
        "CODEX_HOME"
    }

    fn token_login(&self) -> Option<TokenLogin> {
        None
    }

    fn forbidden_hosts(&self) -> &'static [&'static str] {
        &TOKEN_ENDPOINTS
    }

    fn conversations(&self) -> &'static str {
        ".codex/sessions"
    }

    fn skills_folder(&self) -> &'static str {
        SKILLS_FOLDER
    }

    fn provision(&self, input: &ProvisionInput<'_>) -> Result<AgentProvisionPlan, ProviderError> {
        let access = Access::of(input)?;
        let home = &input.guest.home;
        let file = |name: &str, content: String| GuestFile {
            path: home.join(".codex").join(name),
            content,
            mode: 0o600,
        };
        let mut files = vec![file(
            "config.toml",
            config(&input.guest.workspace, input.system_prompt, &access.settings()),
        )];
        let login = access.login_file(input.now);
        files.extend(login.map(|login| file("auth.json", format!("{login:#}\n"))));
        let login_files = access.follows_host().then(|| home.join(".codex/auth.json"));
        let (env, egress_routes, notes) = (access.variables(), access.routes(), access.notes(input.now));
        let secret = access.into_secret();
        Ok(AgentProvisionPlan {
            provider: NAME.to_owned(),
            command: command(input),
            hidden_env_names: env.keys().cloned().collect(),
            env,
            reserved_env: RESERVED
                .into_iter()
                .map(|(name, instead)| (name.to_owned(), instead.to_owned()))
                .collect(),
            provisioned_env: secret.iter().map(|secret| secret.reference.clone()).collect(),
            egress_routes,
            secrets: secret.into_iter().collect(),
            files,
            directories: vec![home.join(".codex"), home.join(SKILLS_FOLDER)],
            forbidden_hosts: route::exact_hosts(&TOKEN_ENDPOINTS),
            skills_folder: SKILLS_FOLDER.into(),
            ca_variables: BTreeMap::from([("CODEX_CA_CERTIFICATE".to_owned(), CaFile::Bundle)]),
            login_files: login_files.into_iter().collect(),
            notes,
        })
    }
}

/// What the program asks of the service behind a login, and no more. The same host has the operator's
/// conversations, and starts agents that run elsewhere, without any bottle (`/backend-api/wham/tasks`,
/// `/backend-api/codex/tasks`); the injected credential would open all of them.
fn chatgpt_requests() -> Vec<RequestMatch> {
    vec![
        // A WebSocket is a GET.
        route::allow(&["GET", "POST"], &[], &["/backend-api/codex/responses"]),
        route::allow(
            &["GET"],
            &[
                "/backend-api/wham/accounts/check",
                "/backend-api/wham/settings/user",
                "/backend-api/wham/usage",
                "/backend-api/wham/rate-limit-reset-credits",
            ],
            &["/backend-api/codex/models"],
        ),
    ]
}

/// The same of another service, whose paths begin with this.
fn other_requests(path: &str) -> Vec<RequestMatch> {
    vec![
        route::allow(&["GET", "POST"], &[], &[&format!("{path}/responses")]),
        route::allow(&["GET"], &[], &[&format!("{path}/models")]),
    ]
}

fn api_requests() -> Vec<RequestMatch> {
    vec![
        route::allow(&["GET", "POST"], &[], &["/v1/responses"]),
        route::allow(&["GET"], &[], &["/v1/models"]),
    ]
}

/// Settings that keep the program from asking hosts that it does not need, and from leaving a daemon behind;
/// and the system prompt, which the program adds to its own as a message of the developer. (`AGENTS.md` would
/// do as well, but counts as the user's, and is warned about from 32 KiB on.)
///
/// `service` chooses a service: what stands before the first table, and a table.
fn config(workspace: &Path, system_prompt: &str, (choice, service): &(String, String)) -> String {
    let instructions = match system_prompt.trim() {
        "" => String::new(),
        prompt => format!("developer_instructions = {}\n", basic_string(prompt)),
    };
    format!(
        r#"{instructions}{choice}check_for_update_on_startup = false
cli_auth_credentials_store = "file"

[analytics]
enabled = false

[feedback]
enabled = false

[otel]
exporter = "none"
metrics_exporter = "none"
trace_exporter = "none"

[features]
apps = false
daemon_auto_start = false
plugins = false
remote_plugin = false

[projects.{}]
trust_level = "trusted"
{service}"#,
        basic_string(&workspace.to_string_lossy())
    )
}

/// A TOML basic string (TOML 1.0, "String"). JSON's escapes are all among TOML's; what JSON leaves as it is
/// and TOML does not is the delete character.
fn basic_string(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

fn command(input: &ProvisionInput<'_>) -> Vec<String> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    // The bottle is the sandbox: codex's own would cut the gateway off.
    let bypass = "--dangerously-bypass-approvals-and-sandbox";
    let last: &[&str] = match input.conversation {
        Conversation::New => &[],
        Conversation::Last => &["resume", "--last"],
    };
    match input.mode {
        RunMode::Interactive => {
            [words(&["codex", bypass]), words(last), input.extra_arguments.to_vec()].concat()
        }
        RunMode::Headless { prompt } => [
            words(&["codex", "exec", "--skip-git-repo-check", bypass]),
            words(last),
            input.extra_arguments.to_vec(),
            vec!["--".to_owned(), prompt.clone()],
        ]
        .concat(),
    }
}
