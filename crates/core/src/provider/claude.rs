//! Claude Code, by Anthropic. What it obeys was measured with 2.1.330; see `docs/providers.md`.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use crate::{
    policy::RequestMatch,
    secret::{PLACEHOLDER, SecretRef},
};

use super::{
    AgentProvisionPlan, Conversation, CredentialError, GuestFile, Package, PromptStyle, Provider,
    ProviderError, ProvisionInput, ProvisionedSecret, RunMode, TokenLogin, credentials, route,
};

/// Claude Code.
#[derive(Debug)]
pub(super) struct Claude;

const NAME: &str = "claude";
const API: &str = "api.anthropic.com";
const CREDENTIAL_FILE: &str = ".claude/.credentials.json";
const SKILLS_FOLDER: &str = ".claude/skills";
const TOKEN_VARIABLE: &str = "CLAUDE_CODE_OAUTH_TOKEN";

/// The reference of a login that the host's own program made.
const HOST_TOKEN: &str = "CLAUDE_HOST_CREDENTIAL_TOKEN_REF";

/// The system prompt's file, in the agent's home.
const PROMPT_FILE: &str = ".bot-bottle-prompt.txt";

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
const RESERVED: [(&str, &str); 5] = [
    ("ANTHROPIC_API_KEY", "name the variable in agent_provider.auth_token; the gateway injects its value"),
    ("ANTHROPIC_AUTH_TOKEN", "name the variable in agent_provider.auth_token; the gateway injects its value"),
    (TOKEN_VARIABLE, "name the variable in agent_provider.auth_token; the gateway injects its value"),
    ("CLAUDE_CONFIG_DIR", "leave it out; the bottle's settings lie in ~/.claude"),
    ("CLAUDE_CODE_SUBPROCESS_ENV_SCRUB", "leave it out; it turns permission prompts back on"),
];

#[derive(Deserialize)]
struct CredentialFile {
    #[serde(rename = "claudeAiOauth")]
    login: Option<Login>,
    #[serde(rename = "primaryApiKey")]
    api_key: Option<Zeroizing<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Login {
    access_token: Option<Zeroizing<String>>,
    /// Milliseconds since 1970, UTC.
    expires_at: Option<u64>,
}

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
        let (token, secret) = token(input)?;
        let home = &input.guest.home;
        let prompt = (!input.system_prompt.trim().is_empty()).then(|| home.join(PROMPT_FILE));
        let mut files = vec![
            json_file(home.join(".claude.json"), &onboarding(home, &input.guest.workspace)),
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
        let env = BTreeMap::from_iter(
            SWITCHES
                .into_iter()
                .chain([(TOKEN_VARIABLE, PLACEHOLDER)])
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
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
            egress_routes: vec![route::bearer(NAME, API, &token, api_requests())],
            forbidden_hosts: route::exact_hosts(&TOKEN_ENDPOINTS),
            skills_folder: SKILLS_FOLDER.into(),
            // It obeys the variables that every bottle has.
            ca_variables: BTreeMap::new(),
            headless_prompt: PromptStyle::Option("-p".to_owned()),
            // Its login is a variable.
            login_files: Vec::new(),
        })
    }
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
fn onboarding(home: &Path, workspace: &Path) -> serde_json::Value {
    let trusted = [home, workspace]
        .into_iter()
        .map(|folder| (folder.to_string_lossy().into_owned(), json!({"hasTrustDialogAccepted": true})))
        .collect::<serde_json::Map<_, _>>();
    json!({"hasCompletedOnboarding": true, "projects": trusted})
}

fn json_file(path: std::path::PathBuf, content: &serde_json::Value) -> GuestFile {
    GuestFile { path, content: format!("{content:#}\n"), mode: 0o600 }
}

/// The reference that the route injects, and its value where the provider brings it.
fn token(input: &ProvisionInput<'_>) -> Result<(SecretRef, Option<ProvisionedSecret>), ProviderError> {
    let settings = &input.bottle.provider;
    match (&settings.auth_token, settings.forward_host_credentials) {
        (Some(_), true) => Err(ProviderError::Setting {
            key: "agent_provider.auth_token",
            problem: "it cannot be given together with forward_host_credentials".to_owned(),
            hint: "keep one of the two: auth_token names a variable of the host, forward_host_credentials \
                   reads the host's own login"
                .to_owned(),
        }),
        (Some(reference), false) => Ok((reference.clone(), None)),
        (None, true) => {
            let value = host_token(input).map_err(|problem| ProviderError::Credentials {
                provider: NAME,
                file: CREDENTIAL_FILE,
                hint: hint(&problem),
                problem,
            })?;
            let reference = SecretRef::new(HOST_TOKEN);
            Ok((reference.clone(), Some(ProvisionedSecret { reference, value })))
        }
        (None, false) => Err(ProviderError::Setting {
            key: "agent_provider",
            problem: "nothing says how claude logs in".to_owned(),
            hint: "write `auth_token: NAME` under agent_provider, where NAME is a variable of the host that \
                   holds a token from `claude setup-token`; or `forward_host_credentials: true` to use the \
                   login of the host's own claude"
                .to_owned(),
        }),
    }
}

fn host_token(input: &ProvisionInput<'_>) -> Result<Zeroizing<String>, CredentialError> {
    let malformed = |problem: &str| CredentialError::Malformed(problem.to_owned());
    let file: CredentialFile =
        serde_json::from_str(input.credentials.text()?).map_err(|error| CredentialError::json(&error))?;
    let login = file.login.ok_or_else(|| match file.api_key {
        Some(_) => CredentialError::ApiKeyOnly,
        None => malformed("it has no `claudeAiOauth`, which is where a login is kept"),
    })?;
    let token = login
        .access_token
        .filter(|token| credentials::is_header_token(token))
        .ok_or_else(|| malformed("its `claudeAiOauth.accessToken` is not a token"))?;
    let expires =
        login.expires_at.ok_or_else(|| malformed("its `claudeAiOauth.expiresAt` is not a time"))? / 1000;
    CredentialError::check_expiry(expires, input.now)?;
    Ok(token)
}

fn hint(problem: &CredentialError) -> String {
    let instead = "or write `auth_token: NAME` in place of forward_host_credentials";
    match problem {
        CredentialError::Missing => format!(
            "log in on the host with `claude`, then `/login` (where it keeps the login in a keychain, there is \
             no file to forward); {instead}"
        ),
        CredentialError::ApiKeyOnly => {
            format!("log in on the host with `claude`, then `/login` with a subscription; {instead}")
        }
        CredentialError::Malformed(_) => {
            format!("log in again on the host with `claude`, then `/login`; {instead}")
        }
        CredentialError::Expired { .. } => {
            format!("start `claude` once on the host, which refreshes the login; {instead}")
        }
    }
}
