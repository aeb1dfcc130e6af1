//! How Claude Code logs in, and what the bottle has in the place of that.

use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{
    bottle::ProviderSettings,
    policy::{CredentialShape, RouteAuth, RouteCredential},
    provider::{CredentialError, ProviderError, ProvisionInput, ProvisionedSecret, credentials, route},
    secret::{PLACEHOLDER, SecretRef},
};

use super::NAME;

/// The reference of a login that the host's own program made.
const HOST_TOKEN: &str = "CLAUDE_HOST_CREDENTIAL_TOKEN_REF";

/// The header that has an API key.
const KEY_HEADER: &str = "x-api-key";

/// The variables in which the program looks for a token of a login, for one of another service, and for an API key.
pub(super) const TOKEN_VARIABLE: &str = "CLAUDE_CODE_OAUTH_TOKEN";
pub(super) const OTHER_TOKEN_VARIABLE: &str = "ANTHROPIC_AUTH_TOKEN";
pub(super) const KEY_VARIABLE: &str = "ANTHROPIC_API_KEY";

/// What the program sends to a service that wants no credential. The gateway removes it.
const NO_TOKEN: &str = "none";

/// How the program logs in.
pub(super) enum Login {
    /// By a token that a variable of the host has.
    Token(SecretRef),
    /// By the host's own login.
    Host(ProvisionedSecret),
    /// By an API key that a variable of the host has.
    ApiKey(SecretRef),
    /// Not at all.
    None,
}

impl Login {
    /// What the bottle says.
    ///
    /// # Errors
    /// When it says several things, or the host's login is to leave for another service.
    pub(super) fn of(input: &ProvisionInput<'_>) -> Result<Self, ProviderError> {
        let settings = &input.bottle.provider;
        let other_way = |key, problem: &str, hint: &str| {
            Err(ProviderError::Setting { key, problem: problem.to_owned(), hint: hint.to_owned() })
        };
        let keep_one = "keep one of them: auth_token and api_key name variables of the host, \
                        forward_host_credentials reads the host's own login";
        match (&settings.auth_token, settings.forward_host_credentials, &settings.api_key) {
            (Some(_), true, _) => other_way(
                "agent_provider.auth_token",
                "it cannot be given together with forward_host_credentials",
                keep_one,
            ),
            (Some(_), _, Some(_)) | (_, true, Some(_)) => other_way(
                "agent_provider.api_key",
                "it cannot be given together with another way to log in",
                keep_one,
            ),
            (Some(reference), false, None) => Ok(Self::Token(reference.clone())),
            (None, false, Some(reference)) => Ok(Self::ApiKey(reference.clone())),
            (None, false, None) => Ok(Self::None),
            (None, true, None) => match &settings.base_url {
                Some(url) => other_way(
                    "agent_provider.base_url",
                    &format!("the host's own login is for Anthropic alone, and would go to {}", url.host()),
                    "write `api_key: NAME` or `auth_token: NAME` in place of forward_host_credentials",
                ),
                None => Self::of_host(input),
            },
        }
    }

    fn of_host(input: &ProvisionInput<'_>) -> Result<Self, ProviderError> {
        let (value, expires) = host_token(input).map_err(|problem| ProviderError::Credentials {
            provider: NAME,
            file: input.login_path.to_owned(),
            hint: hint(&problem),
            problem,
        })?;
        Ok(Self::Host(ProvisionedSecret { reference: SecretRef::new(HOST_TOKEN), value, expires }))
    }

    /// What the gateway puts into requests.
    pub(super) fn auth(&self) -> Option<RouteAuth> {
        match self {
            Self::Token(reference) => Some(route::bearer(reference)),
            Self::Host(secret) => Some(route::bearer(&secret.reference)),
            Self::ApiKey(reference) => Some(RouteAuth::Inject(RouteCredential {
                shape: CredentialShape::Header(KEY_HEADER.to_owned()),
                token_ref: reference.clone(),
            })),
            Self::None => None,
        }
    }

    /// The variable in which the program finds its credential, and what it finds there. With another service it has one in
    /// any case, because it asks nothing without: where nothing takes its place, it is no placeholder.
    pub(super) fn variable(&self, settings: &ProviderSettings) -> Option<(&'static str, &'static str)> {
        match (self, &settings.base_url) {
            (Self::ApiKey(_), _) => Some((KEY_VARIABLE, PLACEHOLDER)),
            (Self::None, Some(_)) => Some((OTHER_TOKEN_VARIABLE, NO_TOKEN)),
            (_, Some(_)) => Some((OTHER_TOKEN_VARIABLE, PLACEHOLDER)),
            (Self::Token(_) | Self::Host(_), None) => Some((TOKEN_VARIABLE, PLACEHOLDER)),
            (Self::None, None) => None,
        }
    }

    /// What goes to the gateway.
    pub(super) fn into_secret(self) -> Option<ProvisionedSecret> {
        match self {
            Self::Host(secret) => Some(secret),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct CredentialFile {
    #[serde(rename = "claudeAiOauth")]
    login: Option<KeptLogin>,
    #[serde(rename = "primaryApiKey")]
    api_key: Option<Zeroizing<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeptLogin {
    access_token: Option<Zeroizing<String>>,
    /// Milliseconds since 1970, UTC.
    expires_at: Option<u64>,
}

/// The token, and when it ends: seconds since 1970, UTC.
fn host_token(input: &ProvisionInput<'_>) -> Result<(Zeroizing<String>, u64), CredentialError> {
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
    Ok((token, expires))
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
