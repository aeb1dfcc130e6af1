//! The original destination of connections that were redirected here: their programs know of no proxy.

use std::{net::IpAddr, time::Duration};

use bot_bottle_core::host::Host;
use rustix::net::sockopt::ip_original_dst;

use crate::{
    bounded_stream::StreamSocket,
    host_port::HostPort,
    limits::{SNIFF_TIMEOUT, UNLISTED_SNIFF_TIMEOUT},
    state::State,
};

/// Where a client was connecting to, as the kernel tells (`SO_ORIGINAL_DST`). A fake IP means its name.
pub(super) fn destination(state: &State, stream: &StreamSocket) -> Option<HostPort> {
    let StreamSocket::Tcp(stream) = stream else { return None };
    let address = match ip_original_dst(stream) {
        Ok(address) => address.into(),
        // Not redirected, but accepted at its destination: inside a bottle every address is its own.
        Err(_) => stream.local_addr().ok()?,
    };
    let host = match address.ip() {
        IpAddr::V4(address) if address.is_loopback() => return None,
        IpAddr::V4(address) => {
            state.fake_ips.name_at(address).map_or(Host::Address(address.into()), Host::Name)
        }
        address @ IpAddr::V6(_) => Host::Address(address),
    };
    Some(HostPort { host, port: address.port() })
}

/// How long to wait for the client's first bytes. Clients of TLS and HTTP send at once. Where the destination
/// is refused anyway, a client whose server would speak first (SSH) is not left waiting for it.
pub(super) fn first_byte_timeout(state: &State, target: &HostPort) -> Duration {
    match state.policy.load().policy.decide_destination(&target.host, target.port) {
        Ok(_) => SNIFF_TIMEOUT,
        Err(_) => UNLISTED_SNIFF_TIMEOUT,
    }
}
