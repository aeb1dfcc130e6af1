//! Where a request goes: one host and one port, whoever names them.

use bot_bottle_core::{
    decision::{Reason, Source},
    host::{Host, HostError},
};
use http::{HeaderValue, Method, Version, header, request::Parts, uri::Scheme};

use crate::{
    flow::{Flow, Target},
    refusal::Denial,
};

/// A destination that every part of the request agrees on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) host: Host,
    pub(crate) port: u16,
    /// Whether the request travels encrypted to the upstream.
    pub(crate) encrypted: bool,
}

const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// Finds out where a request goes, or refuses it where its parts contradict each other.
pub(crate) fn of(request: &Parts, flow: &Flow) -> Result<Destination, Denial> {
    if request.method == Method::CONNECT {
        // A tunnel inside a tunnel, or an extended CONNECT (RFC 8441): nothing in it could be seen.
        return Err(Denial::malformed());
    }
    if !request.uri.path().starts_with('/') {
        return Err(Denial::malformed());
    }
    let in_host_header = host_header(request)?;
    match &flow.tunnel {
        Some(tunnel) => in_tunnel(request, flow, tunnel, in_host_header),
        None => on_proxy_port(request, in_host_header),
    }
}

fn in_tunnel(
    request: &Parts,
    flow: &Flow,
    tunnel: &Target,
    in_host_header: Option<&str>,
) -> Result<Destination, Denial> {
    let expected_scheme = if flow.encrypted { Scheme::HTTPS } else { Scheme::HTTP };
    if request.uri.scheme().is_some_and(|scheme| *scheme != expected_scheme) {
        return Err(mismatch());
    }
    let in_uri = request.uri.authority().map(http::uri::Authority::as_str);
    if in_uri.is_some() && request.uri.scheme().is_none() {
        return Err(Denial::malformed());
    }
    // HTTP/1.0 has no Host header: the tunnel names the host.
    if in_uri.is_none() && in_host_header.is_none() && request.version != Version::HTTP_10 {
        return Err(Denial::malformed());
    }
    for named in in_uri.into_iter().chain(in_host_header) {
        let named = Target::parse(named, Some(default_port(flow.encrypted)))?;
        if (&named.host, named.port) != (&tunnel.host, tunnel.port) {
            return Err(mismatch());
        }
    }
    if flow.server_name.as_ref().is_some_and(|name| *name != tunnel.host) {
        return Err(mismatch());
    }
    Ok(Destination { host: tunnel.host.clone(), port: tunnel.port, encrypted: flow.encrypted })
}

fn on_proxy_port(request: &Parts, in_host_header: Option<&str>) -> Result<Destination, Denial> {
    // Requests in origin form are for this port itself, which serves nothing.
    let (Some(scheme), Some(authority)) = (request.uri.scheme(), request.uri.authority()) else {
        return Err(Denial::malformed());
    };
    let encrypted = *scheme == Scheme::HTTPS;
    if !encrypted && *scheme != Scheme::HTTP {
        return Err(Denial::malformed());
    }
    let target = Target::parse(authority.as_str(), Some(default_port(encrypted)))?;
    match in_host_header {
        Some(named) => {
            let named = Target::parse(named, Some(default_port(encrypted)))?;
            if (&named.host, named.port) != (&target.host, target.port) {
                return Err(mismatch());
            }
        }
        None if request.version == Version::HTTP_10 => {}
        None => return Err(Denial::malformed()),
    }
    Ok(Destination { host: target.host, port: target.port, encrypted })
}

/// The one `Host` header. A second one is how two servers are made to see two hosts.
fn host_header(request: &Parts) -> Result<Option<&str>, Denial> {
    let mut values = request.headers.get_all(header::HOST).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(Denial::malformed());
    }
    first.map(|value| value.to_str().map_err(|_| Denial::malformed())).transpose()
}

fn default_port(encrypted: bool) -> u16 {
    if encrypted { HTTPS_PORT } else { HTTP_PORT }
}

fn mismatch() -> Denial {
    Denial::new(Reason::HostMismatch, Source::Protocol)
}

impl Destination {
    /// The `Host` header.
    pub(crate) fn host_header(&self) -> Result<HeaderValue, Denial> {
        HeaderValue::from_str(&self.authority()).map_err(|_| Denial::internal())
    }

    /// As it is written in a `Host` header: the port only where it is not the scheme's.
    pub(crate) fn authority(&self) -> String {
        if self.port == default_port(self.encrypted) {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl Target {
    /// Reads `host:port`; without a port it is `default_port`, if there is one.
    pub(crate) fn parse(written: &str, default_port: Option<u16>) -> Result<Self, Denial> {
        let (host, port) = split_port(written).ok_or_else(Denial::malformed)?;
        let port = match port {
            Some(port) => parse_port(port).ok_or_else(Denial::malformed)?,
            None => default_port.ok_or_else(Denial::malformed)?,
        };
        // A literal in disguise is refused for what it is, not as a misspelled name.
        let host = Host::parse(host).map_err(|error| match error {
            HostError::DisguisedAddress(_) | HostError::Address(_) => {
                Denial::new(Reason::AddressLiteral, Source::Policy)
            }
            _ => Denial::new(Reason::MalformedHost, Source::Protocol),
        })?;
        Ok(Self { host, port })
    }
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
        let read =
            |written| Target::parse(written, Some(443)).map(|target| (target.host.to_string(), target.port));
        let reason = |written| Target::parse(written, Some(443)).map_err(|denial| denial.decision.reason);
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
