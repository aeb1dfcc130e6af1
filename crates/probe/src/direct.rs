//! Connections and datagrams straight to an address, bypassing the proxy.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use rustix::net::{AddressFamily, Protocol, SocketType, sockopt};

use crate::{client, context::Context, errno, outcome::Observation};

/// The time limit for the reply to a datagram.
pub const DATAGRAM_TIMEOUT: Duration = Duration::from_millis(250);

/// Connects over TCP and requests a page. A bottle may redirect the connection to its gateway, so only a
/// response that is not the gateway's counts as reached.
#[must_use]
pub fn tcp(context: &Context, address: SocketAddr) -> Observation {
    match client::dial(address) {
        Err(error) => Observation::refused(errno::name(&error)),
        Ok(mut stream) => {
            // `Host` is the address, so that a transparent gateway finds no route for it.
            let request = client::get(context, &address.to_string(), "/");
            match client::exchange(context, &mut stream, &request) {
                Observation::Refused(how) => Observation::refused(format!("captured: {how}")),
                other => other,
            }
        }
    }
}

/// Sends a datagram and waits for a recorder's reply.
#[must_use]
pub fn udp(context: &Context, address: SocketAddr, payload: &[u8]) -> Observation {
    match datagram(address, payload) {
        Err(error) => Observation::refused(errno::name(&error)),
        Ok(None) => Observation::refused("no answer"),
        Ok(Some(answer)) if contains(&answer, context.mark.as_bytes()) => {
            Observation::reached(format!("the service at {address} answered"))
        }
        Ok(Some(answer)) => Observation::reached(format!("{} bytes came back from {address}", answer.len())),
    }
}

/// Sends a datagram and returns the reply, if one arrives within the time limit.
///
/// # Errors
/// Those of the socket, of which an ICMP refusal is one.
pub fn datagram(address: SocketAddr, payload: &[u8]) -> std::io::Result<Option<Vec<u8>>> {
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(DATAGRAM_TIMEOUT))?;
    socket.connect(address)?;
    socket.send(payload)?;
    let mut answer = [0; 4096];
    match socket.recv(&mut answer) {
        Ok(count) => Ok(Some(answer[..count].to_vec())),
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Makes a socket of a kind that no program in a bottle needs. Success alone counts as reached, because the
/// protocol's code is attack surface of the kernel or leads past the network namespace.
#[must_use]
pub fn socket(family: i32, kind: SocketType, protocol: i32) -> Observation {
    let family_raw = u16::try_from(family).unwrap_or(u16::MAX);
    let made = rustix::net::socket(AddressFamily::from_raw(family_raw), kind, protocol_of(protocol));
    errno::by_permission(made, "the socket was made")
}

/// Connects a stream socket of this protocol to a service of the host.
#[must_use]
pub fn stream(context: &Context, address: SocketAddr, kind: SocketType, protocol: i32) -> Observation {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = match rustix::net::socket(family, kind, protocol_of(protocol)) {
        Ok(socket) => socket,
        Err(error) => return Observation::refused(errno::name(&error.into())),
    };
    // Without a timeout, an unanswered SYN would hold the run for minutes.
    let limit = Some(client::CONNECT_TIMEOUT);
    if let Err(error) = sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, limit)
        .and_then(|()| sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, limit))
    {
        return Observation::inconclusive(errno::name(&error.into()));
    }
    if let Err(error) = rustix::net::connect(&socket, &address) {
        return Observation::refused(errno::name(&error.into()));
    }
    let mut stream = std::net::TcpStream::from(socket);
    match client::exchange(context, &mut stream, &client::get(context, &address.to_string(), "/")) {
        Observation::Refused(how) => Observation::refused(format!("captured: {how}")),
        other => other,
    }
}

/// Whether `needle` occurs in `bytes`.
#[must_use]
pub fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    !needle.is_empty() && bytes.windows(needle.len()).any(|window| window == needle)
}

fn protocol_of(number: i32) -> Option<Protocol> {
    u32::try_from(number).ok().and_then(std::num::NonZeroU32::new).map(Protocol::from_raw)
}
