//! TLS with clients: it ends here, with a certificate of the bottle's CA.

use std::sync::Arc;

use bot_bottle_core::{
    decision::{Decision, Reason, Source},
    host::{Host, HostName},
};
use rustls::{ServerConfig, crypto::aws_lc_rs, server::Acceptor};
use tokio::time::timeout;
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use crate::{
    bounded_stream::BoundedStream,
    certificates::{Authority, FixedLeaf},
    flow::{self, Flow, Target},
    gateway::Gateway,
    limits::CLIENT_HANDSHAKE_TIMEOUT,
};

/// One for all clients: the certificate is found by the server name in the handshake.
pub(crate) fn server_config(authority: Arc<Authority>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(authority);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Serves the requests that come through TLS in a tunnel.
pub(crate) async fn serve(gateway: &Arc<Gateway>, stream: BoundedStream, target: Target) {
    let (stream, server_name) =
        match timeout(CLIENT_HANDSHAKE_TIMEOUT, accept(gateway, stream, &target)).await {
            Ok(Ok(accepted)) => accepted,
            Ok(Err(why)) => {
                tracing::debug!(host = %target.host, %why, "a client's TLS failed");
                let decision = Decision::refuse(Reason::ClientTls, Source::Protocol);
                return gateway.refuse_tunnel(&target, &decision);
            }
            Err(_) => {
                let decision = Decision::refuse(Reason::Timeout, Source::Limits);
                return gateway.refuse_tunnel(&target, &decision);
            }
        };
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let flow = Arc::new(Flow { tunnel: Some(target), server_name, encrypted: true });
    if is_http2 {
        flow::serve_http2(gateway, &flow, stream).await;
    } else {
        flow::serve_http1(gateway, &flow, stream).await;
    }
}

async fn accept(
    gateway: &Gateway,
    stream: BoundedStream,
    target: &Target,
) -> Result<(TlsStream<BoundedStream>, Option<Host>), String> {
    let start =
        LazyConfigAcceptor::new(Acceptor::default(), stream).await.map_err(|error| error.to_string())?;
    let hello = start.client_hello();
    let (config, server_name) = match hello.server_name() {
        Some(written) => {
            let name = HostName::parse(written).map_err(|error| error.to_string())?;
            (Arc::clone(&gateway.tls), Some(Host::Name(name)))
        }
        // No server name: addresses have none, and old clients send none. Then the tunnel names the host.
        None => {
            let leaf = gateway.authority.leaf(&target.host).map_err(|error| error.to_string())?;
            let mut config = ServerConfig::clone(&gateway.tls);
            config.cert_resolver = Arc::new(FixedLeaf(leaf));
            (Arc::new(config), None)
        }
    };
    let stream = start.into_stream(config).await.map_err(|error| error.to_string())?;
    Ok((stream, server_name))
}
