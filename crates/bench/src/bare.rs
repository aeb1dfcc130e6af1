//! hudsucker with nothing added: it terminates TLS, parses HTTP and relays, as the gateway does, and decides
//! and records nothing.

use std::{convert::Infallible, fs, future::ready, net::SocketAddr};

use anyhow::Result;
use hudsucker::{
    Proxy,
    certificate_authority::RcgenAuthority,
    rcgen::{Issuer, KeyPair},
    rustls::crypto::aws_lc_rs,
};
use hyper_util::client::legacy::connect::{HttpConnector, dns::Name};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use crate::authority::Files;

/// Serves until the process is killed. Every name is at the address of the upstream.
pub(crate) async fn serve(files: &Files, address: SocketAddr, upstream: SocketAddr) -> Result<()> {
    let authority = fs::read_to_string(files.authority())?;
    let key = KeyPair::from_pem(&fs::read_to_string(files.authority_key())?)?;
    let issuer = Issuer::from_ca_cert_pem(&authority, key)?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes())?)?;
    let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let resolver = tower::service_fn(move |_: Name| {
        ready(Ok::<_, Infallible>(std::iter::once(SocketAddr::new(upstream.ip(), 0))))
    });
    let mut http = HttpConnector::new_with_resolver(resolver);
    http.enforce_http(false);
    http.set_nodelay(true);
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .enable_http2()
        .wrap_connector(http);
    Proxy::builder()
        .with_addr(address)
        .with_ca(RcgenAuthority::new(issuer, 1_000, aws_lc_rs::default_provider()))
        .with_http_connector(connector)
        .build()?
        .start()
        .await?;
    Ok(())
}
