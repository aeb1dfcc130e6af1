//! Connections of programs that know nothing of a proxy, brought here on their way somewhere else.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bot_bottle_core::host::Host;
use rustix::net::sockopt::ip_original_dst;
use tokio::net::{TcpListener, TcpStream};

use crate::{
    bounded_stream::BoundedStream,
    flow::{self, Target},
    gateway::Gateway,
    limits::{SNIFF_TIMEOUT, UNLISTED_SNIFF_TIMEOUT},
    listen,
};

/// Serves captured connections for as long as the process lives.
pub(crate) async fn accept_captured(gateway: Arc<Gateway>, listener: TcpListener) {
    listen::accept(gateway, listener, |gateway, stream| {
        let Some(target) = destination(&gateway, &stream) else {
            tracing::debug!("a captured connection is gone, or was not captured");
            return;
        };
        listen::admit(gateway, stream, |gateway, stream| serve(gateway, stream, target));
    })
    .await;
}

async fn serve(gateway: Arc<Gateway>, stream: BoundedStream, target: Target) {
    let patience = patience(&gateway, &target);
    flow::serve_tunnel(gateway, stream, target, patience).await;
}

/// Where a client wanted to: the kernel knows. An address that the bottle's DNS gave out means the name.
fn destination(gateway: &Gateway, stream: &TcpStream) -> Option<Target> {
    let address = match ip_original_dst(stream) {
        Ok(address) => address.into(),
        // Not redirected, but accepted where it was going to: every address is this host's own in a bottle.
        Err(_) => stream.local_addr().ok()?,
    };
    let host = match address.ip() {
        IpAddr::V4(address) if address.is_loopback() => return None,
        IpAddr::V4(address) => {
            gateway.names.name_at(address).map_or(Host::Address(address.into()), Host::Name)
        }
        address @ IpAddr::V6(_) => Host::Address(address),
    };
    Some(Target { host, port: address.port() })
}

/// How long to wait for the client's first bytes. Whoever speaks TLS or HTTP begins at once; where nothing else
/// can come of it than a refusal, a client whose server would speak first is not left waiting for it.
fn patience(gateway: &Gateway, target: &Target) -> Duration {
    match gateway.policy.load().policy.decide_destination(&target.host, target.port) {
        Ok(_) => SNIFF_TIMEOUT,
        Err(_) => UNLISTED_SNIFF_TIMEOUT,
    }
}
