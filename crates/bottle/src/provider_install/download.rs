//! Downloads from the registry.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use bot_bottle_core::{error::IoContext, provider::Package};
use ureq::{
    Agent, Proxy,
    tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem},
};

use super::{InstallError, Opened, Registry};

/// How this host reaches others.
#[derive(Debug, Clone, Default)]
pub(crate) struct Network {
    /// The proxy, with the hosts that it is not for.
    proxy: Option<Proxy>,
    /// Certificate authorities besides the system's, PEM.
    authorities: Vec<PathBuf>,
}

/// Time limit for connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Time limit until the response begins.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// Time limit between two reads of the archive.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// The most redirects that are followed, without the token.
const MAX_REDIRECTS: u32 = 5;

impl Network {
    /// From the environment: `HTTPS_PROXY`, `NO_PROXY` and the like, and `NODE_EXTRA_CA_CERTS`.
    /// (`SSL_CERT_FILE` and `SSL_CERT_DIR` replace the system's authorities.)
    pub(crate) fn from_environment() -> Self {
        let authorities = std::env::var_os("NODE_EXTRA_CA_CERTS").filter(|path| !path.is_empty());
        Self {
            proxy: Proxy::try_from_env(),
            authorities: authorities.map(PathBuf::from).into_iter().collect(),
        }
    }

    /// A direct connection that trusts these authorities too.
    #[cfg(test)]
    pub(super) fn direct(authority: PathBuf) -> Self {
        Self { proxy: None, authorities: vec![authority] }
    }
}

/// Asks the registry for the archive of a package.
pub(super) fn open(
    registry: &Registry,
    network: &Network,
    package: &Package,
) -> Result<Opened, InstallError> {
    let url = registry.archive_url(package.name, package.version);
    let agent: Agent = Agent::config_builder()
        .http_status_as_error(false)
        .proxy(network.proxy.clone())
        .tls_config(
            TlsConfig::builder()
                .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .root_certs(RootCerts::Specific(Arc::new(roots(registry, network)?)))
                .build(),
        )
        .max_redirects(MAX_REDIRECTS)
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_recv_response(Some(RESPONSE_TIMEOUT))
        .timeout_per_read(Some(READ_TIMEOUT))
        .user_agent(concat!("bot-bottle/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let mut request = agent.get(&url);
    if let Some(token) = &registry.token {
        request = request.header("authorization", format!("Bearer {}", token.as_str()));
    }
    let response = request
        .call()
        .map_err(|source| InstallError::Unreachable { url: url.clone(), source: Box::new(source) })?;
    if response.status() != 200 {
        return Err(InstallError::Status { url, status: response.status().as_u16() });
    }
    let body = response.into_body();
    let total = body.content_length();
    Ok(Opened { reader: Box::new(body.into_reader()), total, name: url })
}

/// The system's authorities, those of the environment and those of the registry's own configuration.
fn roots(registry: &Registry, network: &Network) -> Result<Vec<Certificate<'static>>, InstallError> {
    let native = rustls_native_certs::load_native_certs();
    let mut roots: Vec<Certificate<'static>> =
        native.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect();
    for path in network.authorities.iter().chain(&registry.authorities) {
        let pem = fs::read(path).io_context(|| format!("reading {}", path.display()))?;
        roots.extend(parse_pem(&pem).filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        }));
    }
    if roots.is_empty() {
        let problems: Vec<String> = native.errors.iter().map(ToString::to_string).collect();
        return Err(InstallError::Certificates(if problems.is_empty() {
            "there are none".to_owned()
        } else {
            problems.join("; ")
        }));
    }
    Ok(roots)
}
