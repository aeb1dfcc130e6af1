//! One destination out of the tunnel, the TLS server name, the request's target and `Host`.
//!
//! All of them have to agree: a destination that is decided on by one and routed by another is how requests
//! reach hosts that no route allows (CWE-350, domain fronting).

use std::net::IpAddr;

use bot_bottle_core::{
    decision::{DecidedBy, Reason},
    host::Host,
};
use http::{
    HeaderValue, Method, Uri, Version, header,
    request::Parts,
    uri::{self, Scheme},
};

use super::{ClientConnection, refuse::Refusal};
use crate::host_port::{HostPort, Origin, Tunnel};

/// A destination that every part of the request agrees on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Destination {
    pub(super) host: Host,
    pub(super) port: u16,
    /// Whether the request goes over TLS to the upstream.
    pub(super) tls: bool,
}

const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// Finds the destination and writes it into the request, or refuses a request whose parts contradict each
/// other.
pub(super) fn normalise(parts: &mut Parts, client: &ClientConnection) -> Result<Destination, Refusal> {
    let destination = destination(parts, client)?;
    destination.write_into(parts)?;
    Ok(destination)
}

fn destination(request: &Parts, client: &ClientConnection) -> Result<Destination, Refusal> {
    if request.method == Method::CONNECT {
        // A tunnel inside a tunnel, or an extended CONNECT (RFC 8441): nothing in it could be seen.
        return Err(Refusal::malformed());
    }
    if !request.uri.path().starts_with('/') {
        return Err(Refusal::malformed());
    }
    let in_host_header = host_header(request)?;
    match &client.tunnel {
        Some(tunnel) => in_tunnel(request, client, tunnel, in_host_header),
        None => on_proxy_port(request, in_host_header),
    }
}

fn in_tunnel(
    request: &Parts,
    client: &ClientConnection,
    tunnel: &Tunnel,
    in_host_header: Option<&str>,
) -> Result<Destination, Refusal> {
    let expected_scheme = if client.tls { Scheme::HTTPS } else { Scheme::HTTP };
    if request.uri.scheme().is_some_and(|scheme| *scheme != expected_scheme) {
        return Err(mismatch());
    }
    let in_uri = request.uri.authority().map(http::uri::Authority::as_str);
    if in_uri.is_some() && request.uri.scheme().is_none() {
        return Err(Refusal::malformed());
    }
    // HTTP/1.0 has no Host header: the tunnel names the host.
    if in_uri.is_none() && in_host_header.is_none() && request.version != Version::HTTP_10 {
        return Err(Refusal::malformed());
    }
    let named = in_uri.into_iter().chain(in_host_header);
    let named = named.map(|written| HostPort::parse(written, Some(default_port(client.tls))));
    let named: Vec<HostPort> = named.collect::<Result<_, _>>()?;
    let target = match (tunnel, named.first()) {
        // The address is not dialled: only its port has to agree.
        (Tunnel::ToAddress(address), Some(named)) => HostPort { port: address.port(), ..named.clone() },
        _ => tunnel.target(),
    };
    let agrees = named.iter().all(|named| *named == target);
    if !agrees || client.sni.as_ref().is_some_and(|name| *name != target.host) {
        return Err(mismatch());
    }
    Ok(Destination { host: target.host, port: target.port, tls: client.tls })
}

fn on_proxy_port(request: &Parts, in_host_header: Option<&str>) -> Result<Destination, Refusal> {
    // Requests in origin form are for this port itself, which serves nothing.
    let (Some(scheme), Some(authority)) = (request.uri.scheme(), request.uri.authority()) else {
        return Err(Refusal::malformed());
    };
    let tls = *scheme == Scheme::HTTPS;
    if !tls && *scheme != Scheme::HTTP {
        return Err(Refusal::malformed());
    }
    let target = HostPort::parse(authority.as_str(), Some(default_port(tls)))?;
    match in_host_header {
        Some(named) => {
            let named = HostPort::parse(named, Some(default_port(tls)))?;
            if (&named.host, named.port) != (&target.host, target.port) {
                return Err(mismatch());
            }
        }
        None if request.version == Version::HTTP_10 => {}
        None => return Err(Refusal::malformed()),
    }
    Ok(Destination { host: target.host, port: target.port, tls })
}

/// The one `Host` header. With two of them, two servers can see two hosts (RFC 9112 section 3.2).
fn host_header(request: &Parts) -> Result<Option<&str>, Refusal> {
    let mut values = request.headers.get_all(header::HOST).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(Refusal::malformed());
    }
    first.map(|value| value.to_str().map_err(|_| Refusal::malformed())).transpose()
}

fn default_port(tls: bool) -> u16 {
    if tls { HTTPS_PORT } else { HTTP_PORT }
}

fn mismatch() -> Refusal {
    Refusal::new(Reason::HostMismatch, DecidedBy::Protocol)
}

impl Destination {
    /// Scheme, host and port for the upstream.
    pub(super) fn origin(&self) -> Result<Origin, Refusal> {
        // The policy has refused address literals already; without a name there is nothing to dial.
        let host = self.host.name().cloned().ok_or_else(Refusal::internal)?;
        Ok(Origin { host, port: self.port, tls: self.tls })
    }

    /// As it is written in a `Host` header: the port only where it is not the scheme's.
    fn authority(&self) -> String {
        let host = match &self.host {
            Host::Address(IpAddr::V6(address)) => format!("[{address}]"),
            host => host.to_string(),
        };
        if self.port == default_port(self.tls) { host } else { format!("{host}:{}", self.port) }
    }

    /// Writes the destination into the request's target and `Host`, in its one spelling.
    fn write_into(&self, parts: &mut Parts) -> Result<(), Refusal> {
        let authority = self.authority();
        parts
            .headers
            .insert(header::HOST, HeaderValue::from_str(&authority).map_err(|_| Refusal::internal())?);
        let mut target = uri::Parts::default();
        target.scheme = Some(if self.tls { Scheme::HTTPS } else { Scheme::HTTP });
        target.authority = Some(authority.parse().map_err(|_| Refusal::internal())?);
        let written = parts.uri.path_and_query().cloned();
        target.path_and_query = Some(written.unwrap_or_else(|| uri::PathAndQuery::from_static("/")));
        parts.uri = Uri::from_parts(target).map_err(|_| Refusal::malformed())?;
        Ok(())
    }
}
