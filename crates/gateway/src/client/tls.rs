//! Terminates the TLS of clients, with a certificate of the bottle's CA.

use std::sync::Arc;

use bot_bottle_core::{
    decision::{DecidedBy, Decision, Reason},
    host::{Host, HostName},
};
use rustls::{ServerConfig, server::Acceptor};
use tokio::time::timeout;
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use crate::{
    bounded_stream::BoundedStream,
    certificates::FixedLeaf,
    host_port::HostPort,
    limits::{CLIENT_HANDSHAKE_TIMEOUT, TLS_BUFFER},
    state::State,
};

/// Terminates a client's TLS. Returns the stream and the server name that the client sent, or the refusal to
/// record.
pub(super) async fn terminate(
    state: &State,
    stream: BoundedStream,
    target: &HostPort,
) -> Result<(TlsStream<BoundedStream>, Option<Host>), Decision> {
    match timeout(CLIENT_HANDSHAKE_TIMEOUT, accept(state, stream, target)).await {
        Ok(Ok(accepted)) => Ok(accepted),
        Ok(Err(error)) => {
            tracing::debug!(host = %target.host, %error, "a client's TLS failed");
            Err(Decision::refuse(Reason::ClientTls, DecidedBy::Protocol))
        }
        Err(_) => Err(Decision::refuse(Reason::Timeout, DecidedBy::Limits)),
    }
}

async fn accept(
    state: &State,
    stream: BoundedStream,
    target: &HostPort,
) -> Result<(TlsStream<BoundedStream>, Option<Host>), String> {
    let start =
        LazyConfigAcceptor::new(Acceptor::default(), stream).await.map_err(|error| error.to_string())?;
    let hello = start.client_hello();
    let (config, sni) = match hello.server_name() {
        Some(written) => {
            let name = HostName::parse(written).map_err(|error| error.to_string())?;
            (Arc::clone(&state.server_config), Some(Host::Name(name)))
        }
        // No server name: addresses have none, and old clients send none. Then the tunnel names the host.
        None => {
            let leaf = state.authority.leaf(&target.host).map_err(|error| error.to_string())?;
            let mut config = ServerConfig::clone(&state.server_config);
            config.cert_resolver = Arc::new(FixedLeaf(leaf));
            (Arc::new(config), None)
        }
    };
    let stream = start
        .into_stream_with(config, |tls| tls.set_buffer_limit(Some(TLS_BUFFER)))
        .await
        .map_err(|error| error.to_string())?;
    Ok((stream, sni))
}
