//! Whom the gateway believes to be an upstream.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use thiserror::Error;
use tokio::sync::watch;

/// The TLS settings for upstreams. The system's roots are read and parsed in a thread of their own, because
/// that takes longer than everything else at the start; the first handshake waits for it.
#[derive(Debug, Clone)]
pub(crate) struct Trust {
    loaded: watch::Receiver<Option<Arc<TlsSettings>>>,
}

#[derive(Debug)]
pub(crate) struct TlsSettings {
    /// Offers HTTP/2 and HTTP/1.1.
    pub(crate) any: Arc<ClientConfig>,
    /// Offers HTTP/1.1 alone, for what only it can do.
    pub(crate) http1: Arc<ClientConfig>,
}

/// A file of `extra_ca` cannot be used.
#[derive(Debug, Error)]
pub enum ExtraCaError {
    /// It cannot be read.
    #[error("the certificate authority {} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not PEM, or what is in it is not a certificate.
    #[error("{} is not a PEM file with certificates: {why}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

impl Trust {
    /// Reads `extra_ca` at once, since a mistake there is the operator's to mend, and the rest in the
    /// background.
    pub(crate) fn load(extra_ca: &[PathBuf]) -> Result<Self, ExtraCaError> {
        let mut extra = Vec::new();
        for path in extra_ca {
            extra.extend(read_certificates(path)?);
        }
        let (loaded, receiver) = watch::channel(None);
        // If no thread can be started, the sender is dropped and every handshake fails: closed.
        let spawned =
            std::thread::Builder::new().name("roots".into()).spawn(move || match TlsSettings::new(extra) {
                Ok(settings) => {
                    loaded.send_replace(Some(Arc::new(settings)));
                }
                Err(error) => tracing::error!(%error, "TLS to upstreams cannot be set up"),
            });
        if let Err(error) = spawned {
            tracing::error!(%error, "no thread to load the system's certificate authorities");
        }
        Ok(Self { loaded: receiver })
    }

    /// The settings, once they are there; `None` if they never will be.
    pub(crate) async fn settings(&self) -> Option<Arc<TlsSettings>> {
        let mut loaded = self.loaded.clone();
        loaded.wait_for(Option::is_some).await.ok()?.clone()
    }
}

impl TlsSettings {
    fn new(extra: Vec<CertificateDer<'static>>) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs();
        for error in &system.errors {
            tracing::warn!(%error, "some of the system's certificate authorities cannot be read");
        }
        roots.add_parsable_certificates(system.certs);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        roots.add_parsable_certificates(extra);
        let mut http1 = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut any = http1.clone();
        any.alpn_protocols.insert(0, b"h2".to_vec());
        Ok(Self { any: Arc::new(any), http1: Arc::new(http1) })
    }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ExtraCaError> {
    let malformed = |why: String| ExtraCaError::Malformed { path: path.to_owned(), why };
    let pem =
        std::fs::read(path).map_err(|source| ExtraCaError::Unreadable { path: path.to_owned(), source })?;
    let certificates = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| malformed(error.to_string()))?;
    if certificates.is_empty() {
        return Err(malformed("there is none in it".into()));
    }
    for certificate in &certificates {
        RootCertStore::empty().add(certificate.clone()).map_err(|error| malformed(error.to_string()))?;
    }
    Ok(certificates)
}
