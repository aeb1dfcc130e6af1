//! The bottle's certificate authority: minted when the gateway starts, kept in memory alone.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use bot_bottle_core::host::{Host, HostName};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{ClientHello, ResolvesServerCert},
    sign::{CertifiedKey, SigningKey},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use thiserror::Error;

mod cache;

use cache::GenerationCache;

use crate::limits::LEAF_CACHE_BYTES;

/// Signs a certificate for whatever name a client asks for.
///
/// The authority's key exists in this process alone and is never written. Leaf certificates share one key,
/// which is another than the authority's: what serves traffic cannot sign.
pub(crate) struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
    fingerprint: String,
    leaf_key: KeyPair,
    leaf_signer: Arc<dyn SigningKey>,
    valid_from: SystemTime,
    leaves: Mutex<GenerationCache<Host, Arc<CertifiedKey>>>,
}

/// A certificate could not be made.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// The certificate itself.
    #[error("a certificate could not be made: {0}")]
    Mint(#[from] rcgen::Error),
    /// The key behind it.
    #[error("a certificate's key cannot be used: {0}")]
    Origin(#[from] rustls::Error),
    /// The digest.
    #[error("the certificate's fingerprint could not be computed")]
    Fingerprint,
}

/// Clocks differ: a certificate from "now" is not valid yet to a client that is a minute behind.
const BACKDATED: Duration = Duration::from_secs(24 * 60 * 60);

/// A bottle does not live that long.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Under the 398 days that clients accept at most.
const LEAF_LIFETIME: Duration = Duration::from_secs(364 * 24 * 60 * 60);

/// A common name longer than this is malformed (`ub-common-name`, RFC 5280 appendix A.1).
const MAX_COMMON_NAME: usize = 64;

impl CertificateAuthority {
    /// Makes the keys and the authority's certificate.
    pub(crate) fn mint(bottle: &str, now: SystemTime) -> Result<Self, CertificateError> {
        let valid_from = now - BACKDATED;
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::OrganizationName, "bot-bottle");
        params.distinguished_name.push(DnType::CommonName, common_name(&format!("bot-bottle {bottle}")));
        params.not_before = valid_from.into();
        params.not_after = (valid_from + AUTHORITY_LIFETIME).into();
        let certificate = params.self_signed(&key)?;
        let fingerprint = fingerprint(certificate.der())?;
        let certificate_pem = certificate.pem();

        let leaf_key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let leaf_der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
        let leaf_signer = aws_lc_rs::sign::any_ecdsa_type(&leaf_der)?;
        Ok(Self {
            issuer: Issuer::new(params, key),
            certificate_pem,
            fingerprint,
            leaf_key,
            leaf_signer,
            valid_from,
            leaves: Mutex::new(GenerationCache::new(LEAF_CACHE_BYTES / 2)),
        })
    }

    /// The authority's certificate, PEM.
    pub(crate) fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// SHA-256 of the authority's certificate, as colon-separated upper-case hex.
    pub(crate) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// A certificate for this host, from the cache or new.
    pub(crate) fn leaf(&self, host: &Host) -> Result<Arc<CertifiedKey>, CertificateError> {
        if let Some(found) = self.leaves.lock().unwrap_or_else(PoisonError::into_inner).get(host) {
            return Ok(found);
        }
        let leaf = Arc::new(self.mint_leaf(host)?);
        let bytes = bytes_of(host, &leaf);
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        leaves.insert(host.clone(), Arc::clone(&leaf), bytes);
        drop(leaves);
        Ok(leaf)
    }

    fn mint_leaf(&self, host: &Host) -> Result<CertifiedKey, CertificateError> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![match host {
            Host::Name(name) => SanType::DnsName(name.as_str().try_into()?),
            Host::Address(address) => SanType::IpAddress(*address),
        }];
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::CommonName, common_name(&host.to_string()));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // Python 3.13 and later refuse a chain without it (VERIFY_X509_STRICT).
        params.use_authority_key_identifier_extension = true;
        params.not_before = self.valid_from.into();
        params.not_after = (self.valid_from + LEAF_LIFETIME).into();
        let certificate = params.signed_by(&self.leaf_key, &self.issuer)?;
        Ok(CertifiedKey::new(vec![certificate.der().clone()], Arc::clone(&self.leaf_signer)))
    }
}

/// The configuration of TLS with clients. One for all: the certificate is found by the server name in the
/// handshake.
pub(crate) fn server_config(
    authority: Arc<CertificateAuthority>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(authority);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

impl std::fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificateAuthority").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

/// The certificate for the server name that the client sends.
impl ResolvesServerCert for CertificateAuthority {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = HostName::parse(hello.server_name()?).ok()?;
        self.leaf(&Host::Name(name)).ok()
    }
}

/// The certificate for one host, whatever server name the client sends, or none.
#[derive(Debug)]
pub(crate) struct FixedLeaf(pub(crate) Arc<CertifiedKey>);

impl ResolvesServerCert for FixedLeaf {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// What the cache holds because of one leaf; its key is shared by all. A hash table has room for twice its entries
/// at most.
fn bytes_of(host: &Host, leaf: &CertifiedKey) -> usize {
    let name = match host {
        Host::Name(name) => name.as_str().len(),
        Host::Address(_) => 0,
    };
    let entry = mem::size_of::<(Host, Arc<CertifiedKey>, usize)>();
    let chain: usize = leaf.cert.iter().map(|der| mem::size_of_val(der) + der.len()).sum();
    2 * entry + name + mem::size_of_val(leaf) + chain
}

fn common_name(wanted: &str) -> String {
    wanted.chars().take(MAX_COMMON_NAME).collect()
}

fn fingerprint(certificate: &CertificateDer<'_>) -> Result<String, CertificateError> {
    // The TLS library's own SHA-256, so that none other is linked.
    let suite =
        aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256.tls13().ok_or(CertificateError::Fingerprint)?;
    let digest = suite.common.hash_provider.hash(certificate);
    let pairs: Vec<String> = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    Ok(pairs.join(":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_are_kept_in_so_many_bytes_and_those_in_use_stay() {
        let authority = CertificateAuthority::mint("test-00000", SystemTime::now()).expect("minted");
        let host = |name: &str| Host::Name(HostName::parse(name).expect("a name"));
        let in_use = host("in-use.test");
        let first = authority.leaf(&in_use).expect("a leaf");
        let held = || authority.leaves.lock().expect("not poisoned").bytes();
        let mut most = 0;
        for number in 0..2500 {
            authority.leaf(&host(&format!("h{number}.dyn.test"))).expect("a leaf");
            assert!(Arc::ptr_eq(&first, &authority.leaf(&in_use).expect("a leaf")));
            assert!(held() <= LEAF_CACHE_BYTES, "{} bytes after {number}", held());
            most = most.max(held());
        }
        assert!(most > LEAF_CACHE_BYTES * 9 / 10, "it was filled: {most}");
    }
}
