//! The HTTP proxy that gateways leave through, where the operator's network has no other way out.

use std::{fmt, net::IpAddr, net::Ipv4Addr, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    host::{Host, HostError},
    secret::SecretRef,
};

/// `egress.upstream_proxy`: an HTTP proxy that makes tunnels by CONNECT (RFC 9110 section 9.3.6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamProxy {
    /// Where it is.
    pub url: ProxyUrl,
    /// Who it is told that asks; `None`: nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<ProxyLogin>,
}

/// A login at a proxy, which is sent by the Basic scheme (RFC 7617).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyLogin {
    /// Without a colon or a control character.
    pub username: String,
    /// The password, by reference; `None`: an empty one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_ref: Option<SecretRef>,
}

/// `http://HOST:PORT`. `localhost` is written as the address that it means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProxyUrl {
    host: Host,
    port: u16,
}

/// Why a text is no URL of a proxy.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProxyUrlError {
    /// No scheme, or another one.
    #[error("it does not begin with `http://`")]
    Scheme,
    /// A password.
    #[error("it has a password, which no file of ours may hold")]
    Password,
    /// A user name that would have to be read with its escapes, or where none can be.
    #[error("its user name is empty, or has other characters than letters, digits and `-._~`")]
    User,
    /// The host.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The port.
    #[error("it has no port from 1 to 65535")]
    Port,
    /// A path, a query or a fragment.
    #[error("something follows its port")]
    Path,
}

impl ProxyUrl {
    /// Reads `http://[USER@]HOST:PORT`: the URL, and the user name that is in it.
    ///
    /// # Errors
    /// See [`ProxyUrlError`].
    pub fn parse(text: &str) -> Result<(Self, Option<String>), ProxyUrlError> {
        let rest = text.strip_prefix("http://").ok_or(ProxyUrlError::Scheme)?;
        // A password may have any character in it that its owner did not escape.
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user, _)) if user.contains(':') => return Err(ProxyUrlError::Password),
            Some((user, rest)) => (Some(user), rest),
            None => (None, rest),
        };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if user.is_some_and(|user| user.is_empty() || !user.bytes().all(is_plain)) {
            return Err(ProxyUrlError::User);
        }
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#']) {
            return Err(ProxyUrlError::Path);
        }
        let (host, port) = match authority.rsplit_once(':') {
            // A bracketed IPv6 literal has colons of its own.
            Some((host, port)) if !port.contains(']') => (host, port),
            _ => return Err(ProxyUrlError::Port),
        };
        if host.contains(':') && !host.starts_with('[') {
            // Which of the colons begins the port is a guess.
            return Err(HostError::Malformed(host.to_owned()).into());
        }
        if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ProxyUrlError::Port);
        }
        let port = port.parse().ok().filter(|port| *port > 0).ok_or(ProxyUrlError::Port)?;
        let host = match Host::parse(host)? {
            Host::Name(name) if name.as_str() == "localhost" => {
                Host::Address(IpAddr::V4(Ipv4Addr::LOCALHOST))
            }
            host => host,
        };
        Ok((Self { host, port }, user.map(str::to_owned)))
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for ProxyUrl {
    type Err = ProxyUrlError;

    fn from_str(text: &str) -> Result<Self, ProxyUrlError> {
        match Self::parse(text)? {
            (url, None) => Ok(url),
            (_, Some(_)) => Err(ProxyUrlError::User),
        }
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(IpAddr::V6(address)) => write!(f, "http://[{address}]:{}", self.port),
            host => write!(f, "http://{host}:{}", self.port),
        }
    }
}

impl TryFrom<String> for ProxyUrl {
    type Error = ProxyUrlError;

    fn try_from(text: String) -> Result<Self, ProxyUrlError> {
        text.parse()
    }
}

impl From<ProxyUrl> for String {
    fn from(url: ProxyUrl) -> Self {
        url.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_has_a_host_and_a_port_and_perhaps_a_user() {
        for (text, shown, user) in [
            ("http://proxy.corp:3128", "http://proxy.corp:3128", None),
            ("http://Proxy.Corp.:3128/", "http://proxy.corp:3128", None),
            ("http://me@proxy.corp:80", "http://proxy.corp:80", Some("me")),
            ("http://10.0.0.7:8080", "http://10.0.0.7:8080", None),
            ("http://[fd00::7]:8080", "http://[fd00::7]:8080", None),
            ("http://localhost:3128", "http://127.0.0.1:3128", None),
        ] {
            let (url, found) = ProxyUrl::parse(text).expect(text);
            assert_eq!((url.to_string().as_str(), found.as_deref()), (shown, user), "{text}");
            assert_eq!(shown.parse().as_ref(), Ok(&url));
        }
    }

    #[test]
    fn what_is_no_url_of_a_proxy_says_why() {
        for (text, error) in [
            ("proxy.corp:3128", ProxyUrlError::Scheme),
            ("https://proxy.corp:3128", ProxyUrlError::Scheme),
            ("socks5://proxy.corp:1080", ProxyUrlError::Scheme),
            ("http://me:secret@proxy.corp:3128", ProxyUrlError::Password),
            ("http://me:s/e#c@r?et@proxy.corp:3128", ProxyUrlError::Password),
            ("http://me:@proxy.corp:3128", ProxyUrlError::Password),
            ("http://@proxy.corp:3128", ProxyUrlError::User),
            ("http://corp%5Cme@proxy.corp:3128", ProxyUrlError::User),
            ("http://proxy.corp", ProxyUrlError::Port),
            ("http://proxy.corp:", ProxyUrlError::Port),
            ("http://proxy.corp:0", ProxyUrlError::Port),
            ("http://proxy.corp:+80", ProxyUrlError::Port),
            ("http://proxy.corp:65536", ProxyUrlError::Port),
            ("http://[fd00::7]", ProxyUrlError::Port),
            ("http://proxy.corp:3128/path", ProxyUrlError::Path),
            ("http://proxy.corp:3128?a", ProxyUrlError::Path),
        ] {
            assert_eq!(ProxyUrl::parse(text), Err(error), "{text}");
        }
        for text in ["http://:80", "http://fd00::7:80", "http://127.1:80", "http://a b:80", "http://[::1:80"]
        {
            assert!(matches!(ProxyUrl::parse(text), Err(ProxyUrlError::Host(_))), "{text}");
        }
        assert_eq!("http://me@proxy.corp:80".parse::<ProxyUrl>(), Err(ProxyUrlError::User));
    }
}
