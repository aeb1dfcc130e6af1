//! How Codex gets at a model, and what the bottle has in the place of its login.

use std::collections::BTreeMap;

use serde_json::json;

use crate::{
    policy::Route,
    provider::{
        BaseUrl, CredentialError, ProviderError, ProvisionInput, ProvisionedSecret, credentials, route,
    },
    secret::{PLACEHOLDER, SecretRef},
};

use super::{API, CHATGPT, NAME, api_requests, chatgpt_requests, login::HostLogin, other_requests};

/// The reference of a login that the host's own program made.
const HOST_TOKEN: &str = "CODEX_HOST_CREDENTIAL_TOKEN_REF";

/// The variable in which the program looks for the key of another service.
const KEY_VARIABLE: &str = "OPENAI_API_KEY";

/// What another service is called in the program's settings.
const OTHER: &str = "bottle";

/// How the program gets at a model.
pub(super) enum Access {
    /// By the host's own login.
    Host(HostLogin),
    /// By an API key that a variable of the host has.
    ApiKey(SecretRef),
    /// From another service, with an API key where it wants one.
    Other(BaseUrl, Option<SecretRef>),
}

impl Access {
    /// What the bottle says.
    ///
    /// # Errors
    /// When it says nothing or too much, or the host's login cannot be used.
    pub(super) fn of(input: &ProvisionInput<'_>) -> Result<Self, ProviderError> {
        let settings = &input.bottle.provider;
        let refused = |key, problem: &str, hint: &str| {
            Err(ProviderError::Setting { key, problem: problem.to_owned(), hint: hint.to_owned() })
        };
        let hint = "write `forward_host_credentials: true` under agent_provider; codex then uses the login of the \
                    host's own codex, whose token stays outside; or `api_key: NAME`, where NAME is a variable of the \
                    host that holds an API key";
        if settings.auth_token.is_some() {
            let problem =
                "codex has no token to name; its login comes from forward_host_credentials, or from api_key";
            return refused("agent_provider.auth_token", problem, hint);
        }
        match (settings.forward_host_credentials, &settings.api_key, &settings.base_url) {
            (true, Some(_), _) => refused(
                "agent_provider.api_key",
                "it cannot be given together with forward_host_credentials",
                "keep one of the two",
            ),
            (true, None, Some(url)) => refused(
                "agent_provider.base_url",
                &format!("the host's own login is for OpenAI alone, and would go to {}", url.host()),
                "write `api_key: NAME` in place of forward_host_credentials",
            ),
            (true, None, None) => {
                HostLogin::read(input.credentials, input.now).map(Self::Host).map_err(|problem| {
                    let hint = login_hint(&problem).to_owned();
                    ProviderError::Credentials {
                        provider: NAME,
                        file: input.login_path.to_owned(),
                        hint,
                        problem,
                    }
                })
            }
            (false, key, Some(url)) => {
                let auth = key.as_ref().map(route::bearer);
                route::check_cleartext(url, auth.as_ref())?;
                Ok(Self::Other(url.clone(), key.clone()))
            }
            (false, Some(key), None) => Ok(Self::ApiKey(key.clone())),
            (false, None, None) => refused("agent_provider", "nothing says how codex logs in", hint),
        }
    }

    /// The ways that it needs.
    pub(super) fn routes(&self) -> Vec<Route> {
        let own = |host, reference: &SecretRef, requests| {
            route::own(NAME, host, Some(route::bearer(reference)), requests)
        };
        match self {
            Self::Host(_) => {
                let reference = SecretRef::new(HOST_TOKEN);
                vec![own(CHATGPT, &reference, chatgpt_requests()), own(API, &reference, api_requests())]
            }
            Self::ApiKey(key) => vec![own(API, key, api_requests())],
            Self::Other(url, key) => {
                vec![route::other(NAME, url, key.as_ref().map(route::bearer), other_requests(url.path()))]
            }
        }
    }

    /// What the bottle has as the program's file of its login.
    pub(super) fn login_file(&self, now: u64) -> Option<serde_json::Value> {
        match self {
            Self::Host(login) => Some(login.dummy(now)),
            Self::ApiKey(_) => Some(json!({"auth_mode": "apikey", "OPENAI_API_KEY": PLACEHOLDER})),
            Self::Other(..) => None,
        }
    }

    /// Whether that file is made of the host's own, and has to follow it.
    pub(super) fn follows_host(&self) -> bool {
        matches!(self, Self::Host(_))
    }

    /// Variables of the program.
    pub(super) fn variables(&self) -> BTreeMap<String, String> {
        match self {
            Self::Other(_, Some(_)) => [(KEY_VARIABLE.to_owned(), PLACEHOLDER.to_owned())].into(),
            _ => BTreeMap::new(),
        }
    }

    /// The settings that choose another service: what stands before the first table, and a table.
    pub(super) fn settings(&self) -> (String, String) {
        let Self::Other(url, key) = self else { return Default::default() };
        let key = if key.is_some() { format!("env_key = \"{KEY_VARIABLE}\"\n") } else { String::new() };
        let table = format!(
            "\n[model_providers.{OTHER}]\nname = \"{}\"\nbase_url = \"{url}\"\nwire_api = \"responses\"\n{key}",
            url.host()
        );
        (format!("model_provider = \"{OTHER}\"\n"), table)
    }

    /// What the operator should know.
    pub(super) fn notes(&self, now: u64) -> Vec<String> {
        match self {
            Self::Host(login) => vec![credentials::validity(NAME, login.expires, now)],
            Self::ApiKey(_) => Vec::new(),
            Self::Other(url, Some(_)) => vec![format!("codex asks {url}, and no service of OpenAI's")],
            Self::Other(url, None) => vec![format!("codex asks {url}, with no credential")],
        }
    }

    /// What goes to the gateway.
    pub(super) fn into_secret(self) -> Option<ProvisionedSecret> {
        match self {
            Self::Host(login) => Some(login.into_secret()),
            _ => None,
        }
    }
}

impl HostLogin {
    fn into_secret(self) -> ProvisionedSecret {
        let Self { access_token: value, expires, .. } = self;
        ProvisionedSecret { reference: SecretRef::new(HOST_TOKEN), value, expires }
    }
}

fn login_hint(problem: &CredentialError) -> &'static str {
    match problem {
        CredentialError::Missing => {
            "log in on the host with `codex login` (where codex keeps logins in a keyring, set \
             `cli_auth_credentials_store = \"file\"` in ~/.codex/config.toml first)"
        }
        CredentialError::ApiKeyOnly => {
            "log in on the host with `codex login` and a ChatGPT account; to use an API key instead, write `api_key: \
             NAME` in place of forward_host_credentials, where NAME is a variable of the host that holds it"
        }
        CredentialError::Malformed(_) => "log in again on the host with `codex logout` and `codex login`",
        CredentialError::Expired { .. } => {
            "run `codex exec hello` once on the host, which refreshes the login; if that fails, `codex login`"
        }
    }
}
