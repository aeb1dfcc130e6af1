//! Where a model is asked: the provider's own service, or another one that speaks the same API.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::host::{HostError, HostName};

/// `agent_provider.base_url`: `https://HOST`, with a port and a path where it has them (RFC 3986, section 3).
///
/// Cleartext is for services of the operator's own machine or network, which take no credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl {
    is_encrypted: bool,
    host: HostName,
    port: u16,
    /// Empty, or from `/` on, without one at its end.
    path: String,
}

/// Why a text is no base URL.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BaseUrlError {
    /// No scheme, or another one.
    #[error("it begins with neither `https://` nor `http://`")]
    Scheme,
    /// A user name or a password.
    #[error("it has a user name or a password, which would be in the bottle in clear")]
    Credential,
    /// The host.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The port.
    #[error("its port is not a number from 1 to 65535")]
    Port,
    /// The path.
    #[error("its path has something else than plain segments of letters, digits and `-._~`")]
    Path,
}

impl BaseUrl {
    /// Whether what is sent there is encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> &HostName {
        &self.host
    }

    /// The port, the scheme's own where none is written.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What comes before the paths of the API: empty, or `/` and segments.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl FromStr for BaseUrl {
    type Err = BaseUrlError;

    fn from_str(text: &str) -> Result<Self, BaseUrlError> {
        let (is_encrypted, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return Err(BaseUrlError::Scheme),
        };
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        if authority.contains('@') {
            return Err(BaseUrlError::Credential);
        }
        let (host, port) = match authority.split_once(':') {
            None => (authority, if is_encrypted { 443 } else { 80 }),
            Some((host, port)) => (host, port.parse().map_err(|_| BaseUrlError::Port)?),
        };
        if port == 0 {
            return Err(BaseUrlError::Port);
        }
        let path = path.strip_suffix('/').unwrap_or(path);
        let is_plain = |segment: &str| {
            !matches!(segment, "" | "." | "..")
                && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
        };
        if !path.split('/').skip(1).all(is_plain) {
            return Err(BaseUrlError::Path);
        }
        Ok(Self { is_encrypted, host: HostName::parse(host)?, port, path: path.to_owned() })
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, usual) = if self.is_encrypted { ("https", 443) } else { ("http", 80) };
        write!(formatter, "{scheme}://{}", self.host)?;
        if self.port != usual {
            write!(formatter, ":{}", self.port)?;
        }
        formatter.write_str(&self.path)
    }
}

impl Serialize for BaseUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BaseUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_has_a_host_and_perhaps_a_port_and_a_path() {
        for (text, shown, port, path) in [
            ("https://llm.corp.example", "https://llm.corp.example", 443, ""),
            ("https://LLM.corp.example/", "https://llm.corp.example", 443, ""),
            ("https://llm.corp.example:443/v1", "https://llm.corp.example/v1", 443, "/v1"),
            ("https://llm.corp.example:8443/a/b.c/", "https://llm.corp.example:8443/a/b.c", 8443, "/a/b.c"),
            ("http://llm.local:11434", "http://llm.local:11434", 11434, ""),
        ] {
            let url: BaseUrl = text.parse().expect(text);
            assert_eq!((url.to_string().as_str(), url.port(), url.path()), (shown, port, path));
            assert_eq!(url.is_encrypted(), text.starts_with("https"));
            assert_eq!(shown.parse::<BaseUrl>().as_ref(), Ok(&url));
        }
    }

    #[test]
    fn what_is_no_base_url_says_why() {
        for (text, error) in [
            ("llm.corp.example", BaseUrlError::Scheme),
            ("ftp://llm.corp.example", BaseUrlError::Scheme),
            ("https://me:secret@llm.corp.example", BaseUrlError::Credential),
            ("https://llm.corp.example:0", BaseUrlError::Port),
            ("https://llm.corp.example:99999", BaseUrlError::Port),
            ("https://llm.corp.example:", BaseUrlError::Port),
            ("https://llm.corp.example/a//b", BaseUrlError::Path),
            ("https://llm.corp.example/../b", BaseUrlError::Path),
            ("https://llm.corp.example/a?b=c", BaseUrlError::Path),
            ("https://llm.corp.example/a%2fb", BaseUrlError::Path),
        ] {
            assert_eq!(text.parse::<BaseUrl>(), Err(error), "{text}");
        }
        for text in ["https://", "https://?", "https://[::1]", "https://127.0.0.1", "https://a b"] {
            assert!(text.parse::<BaseUrl>().is_err(), "{text}");
        }
    }
}
