//! Credentials for a registry, as `docker login` leaves them in `~/.docker/config.json`.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bollard::auth::DockerCredentials;
use bot_bottle_core::error::Hint;
use serde::Deserialize;
use thiserror::Error;

/// The key of Docker Hub in the file.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// User name and password, or an identity token, for one registry.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryCredentials {
    registry: String,
    secret: Secret,
}

#[derive(Clone, PartialEq, Eq)]
enum Secret {
    Password { user: String, password: String },
    IdentityToken(String),
}

/// Why there are no credentials although the file speaks of some.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CredentialsError {
    /// The file is not what docker writes. What is wrong is not said: the text could quote a password.
    #[error("docker's configuration file is damaged")]
    Malformed,
    /// They are kept by a program.
    #[error("the credentials for {registry} are kept by `docker-credential-{helper}`, which is not asked")]
    Helper {
        /// For which registry.
        registry: String,
        /// The helper's name in the file.
        helper: String,
    },
}

impl Hint for CredentialsError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::Malformed => "log in again with `docker login`".into(),
            Self::Helper { .. } => {
                "pull the image with `docker pull` first; it is then used from there".into()
            }
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default)]
    creds_store: String,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
struct Entry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    identitytoken: String,
}

impl RegistryCredentials {
    /// The credentials for the registry of an image, out of the text of `config.json`; `None` if it has none, and
    /// the pull is anonymous.
    ///
    /// # Errors
    /// When the file is damaged, or a program keeps the credentials of this registry.
    pub fn from_docker_config(text: &str, reference: &str) -> Result<Option<Self>, CredentialsError> {
        let config: DockerConfig = serde_json::from_str(text).map_err(|_| CredentialsError::Malformed)?;
        let registry = registry_of(reference);
        let helped = |helper: &String| {
            Err(CredentialsError::Helper { registry: registry.to_owned(), helper: helper.clone() })
        };
        if let Some(helper) = config.cred_helpers.get(registry) {
            return helped(helper);
        }
        let Some(entry) = config.auths.get(registry) else { return Ok(None) };
        let secret = if !entry.identitytoken.is_empty() {
            Secret::IdentityToken(entry.identitytoken.clone())
        } else if !entry.auth.is_empty() {
            let decoded = BASE64_STANDARD.decode(&entry.auth).map_err(|_| CredentialsError::Malformed)?;
            let decoded = String::from_utf8(decoded).map_err(|_| CredentialsError::Malformed)?;
            let (user, password) = decoded.split_once(':').ok_or(CredentialsError::Malformed)?;
            Secret::Password { user: user.to_owned(), password: password.trim_end_matches('\0').to_owned() }
        } else if !config.creds_store.is_empty() {
            // A login that the store keeps leaves an empty entry.
            return helped(&config.creds_store);
        } else {
            return Ok(None);
        };
        Ok(Some(Self { registry: registry.to_owned(), secret }))
    }

    pub(crate) fn to_bollard(&self) -> DockerCredentials {
        let serveraddress = Some(self.registry.clone());
        match &self.secret {
            Secret::Password { user, password } => DockerCredentials {
                username: Some(user.clone()),
                password: Some(password.clone()),
                serveraddress,
                ..Default::default()
            },
            Secret::IdentityToken(token) => {
                DockerCredentials { identitytoken: Some(token.clone()), serveraddress, ..Default::default() }
            }
        }
    }
}

impl fmt::Debug for RegistryCredentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RegistryCredentials")
            .field("registry", &self.registry)
            .finish_non_exhaustive()
    }
}

/// The key in the file: the part before the first slash if it can be a host, else Docker Hub.
fn registry_of(reference: &str) -> &str {
    match reference.split_once('/') {
        Some((host, _)) if host == "docker.io" || host == "index.docker.io" => DOCKER_HUB,
        Some((host, _)) if host == "localhost" || host.contains(['.', ':']) => host,
        _ => DOCKER_HUB,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_of_the_registry_is_taken() {
        // `user:pa:ss`
        let text = r#"{"auths": {"https://index.docker.io/v1/": {"auth": "dXNlcjpwYTpzcw=="},
            "ghcr.io": {"identitytoken": "token"}, "kept.example": {}, "helped.example": {"auth": "dTpw"}},
            "credsStore": "desktop", "credHelpers": {"helped.example": "gcloud"}, "other": 1}"#;
        let read = |reference| RegistryCredentials::from_docker_config(text, reference);
        for reference in ["debian", "library/debian:12", "docker.io/library/debian"] {
            let credentials = read(reference).expect("read").expect("there are some");
            let bollard = credentials.to_bollard();
            assert_eq!(bollard.username.as_deref(), Some("user"));
            assert_eq!(bollard.password.as_deref(), Some("pa:ss"));
            assert!(!format!("{credentials:?}").contains("pa:ss"));
        }
        let token = read("ghcr.io/a/b").expect("read").expect("there are some").to_bollard().identitytoken;
        assert_eq!(token.as_deref(), Some("token"));
        assert_eq!(read("unknown.example/a"), Ok(None));
        assert_eq!(read("localhost/a"), Ok(None));
        for (reference, helper) in [("helped.example/a", "gcloud"), ("kept.example/a", "desktop")] {
            let error = read(reference).expect_err("a program keeps them");
            assert!(error.to_string().contains(&format!("docker-credential-{helper}")), "{error}");
        }
        assert_eq!(RegistryCredentials::from_docker_config("{", "debian"), Err(CredentialsError::Malformed));
        assert_eq!(RegistryCredentials::from_docker_config("{}", "debian"), Ok(None));
    }
}
