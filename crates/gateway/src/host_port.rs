//! A host and a port, in the one spelling that the gateway accepts.

use std::net::SocketAddr;

use bot_bottle_core::{
    decision::{DecidedBy, Decision, Reason},
    host::{Host, HostError, HostName},
};

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostPort {
    pub(crate) host: Host,
    pub(crate) port: u16,
}

/// Scheme, host and port of an upstream (RFC 6454): what one connection can serve.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) host: HostName,
    pub(crate) port: u16,
    pub(crate) tls: bool,
}

/// Where a tunnel leads, as far as that is known before anything was said in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tunnel {
    /// To this host: all that is said inside has to agree.
    ToHost(HostPort),
    /// To an address that the client has from a name server which is not ours. It is not dialled and says nothing
    /// about the name: that is the TLS server name, or `Host` where there is no TLS.
    ToAddress(SocketAddr),
}

impl Tunnel {
    /// The host and port that it leads to if nothing inside names another.
    pub(crate) fn target(&self) -> HostPort {
        match self {
            Self::ToHost(target) => target.clone(),
            Self::ToAddress(address) => HostPort { host: Host::Address(address.ip()), port: address.port() },
        }
    }

    /// Where it leads now that its client has sent a TLS server name, or none.
    pub(crate) fn named(self, server_name: Option<&Host>) -> Self {
        match (self, server_name) {
            (Self::ToAddress(address), Some(name)) => {
                Self::ToHost(HostPort { host: name.clone(), port: address.port() })
            }
            (tunnel, _) => tunnel,
        }
    }
}

impl HostPort {
    /// Reads `host:port`; without a port it is `default_port`, if there is one.
    pub(crate) fn parse(written: &str, default_port: Option<u16>) -> Result<Self, Decision> {
        let (host, port) = split_port(written).ok_or_else(malformed)?;
        let port = match port {
            Some(port) => parse_port(port).ok_or_else(malformed)?,
            None => default_port.ok_or_else(malformed)?,
        };
        // A literal in disguise is refused for what it is, not as a misspelled name.
        let host = Host::parse(host).map_err(|error| match error {
            HostError::DisguisedAddress(_) | HostError::Address(_) => {
                Decision::refuse(Reason::AddressLiteral, DecidedBy::Policy)
            }
            _ => Decision::refuse(Reason::MalformedHost, DecidedBy::Protocol),
        })?;
        Ok(Self { host, port })
    }
}

fn malformed() -> Decision {
    Decision::refuse(Reason::MalformedRequest, DecidedBy::Protocol)
}

/// Host and port, where the host may be a bracketed IPv6 literal.
fn split_port(written: &str) -> Option<(&str, Option<&str>)> {
    let after_brackets = match written.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => 0,
    };
    let (brackets, rest) = written.split_at_checked(after_brackets)?;
    match rest.split_once(':') {
        Some((host, port)) if brackets.is_empty() => Some((host, Some(port))),
        Some(("", port)) => Some((brackets, Some(port))),
        Some(_) => None,
        None if brackets.is_empty() => Some((rest, None)),
        None => rest.is_empty().then_some((brackets, None)),
    }
}

/// A decimal port without sign or leading zeros, so that it has one spelling.
fn parse_port(written: &str) -> Option<u16> {
    let plain = !written.starts_with('0') && written.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| written.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_have_one_spelling() {
        let read = |written| {
            HostPort::parse(written, Some(443)).map(|target| (target.host.to_string(), target.port))
        };
        let reason = |written| HostPort::parse(written, Some(443)).map_err(|refusal| refusal.reason);
        assert_eq!(read("API.example.org.").ok(), Some(("api.example.org".into(), 443)));
        assert_eq!(read("api.example.org:8443").ok(), Some(("api.example.org".into(), 8443)));
        assert_eq!(read("[::1]:80").ok(), Some(("::1".into(), 80)));
        assert_eq!(read("[::1]").ok(), Some(("::1".into(), 443)));
        for malformed in ["a:", "a:0", "a:+1", "a:080", "a:65536", "a:b", "[::1", "[::1]x:1", "a:1:2"] {
            assert_eq!(reason(malformed).err(), Some(Reason::MalformedRequest), "{malformed}");
        }
        for malformed in ["", ":80", "user@a", "a b", "a/b", "[a]:1"] {
            assert_eq!(reason(malformed).err(), Some(Reason::MalformedHost), "{malformed}");
        }
        for literal in ["2130706433", "0x7f000001:80", "127.1", "0177.0.0.1"] {
            assert_eq!(reason(literal).err(), Some(Reason::AddressLiteral), "{literal}");
        }
    }
}
