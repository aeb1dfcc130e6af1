//! The certificates of a run: an authority that upstream and proxies sign with, and the upstream's own.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};

/// What every host of the bench lies below.
pub(crate) const DOMAIN: &str = "bench.test";

/// The PEM files of a run, in its folder.
pub(crate) struct Files(PathBuf);

impl Files {
    pub(crate) fn in_folder(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }

    pub(crate) fn authority(&self) -> PathBuf {
        self.0.join("authority.pem")
    }

    pub(crate) fn authority_key(&self) -> PathBuf {
        self.0.join("authority-key.pem")
    }

    pub(crate) fn upstream(&self) -> PathBuf {
        self.0.join("upstream.pem")
    }

    pub(crate) fn upstream_key(&self) -> PathBuf {
        self.0.join("upstream-key.pem")
    }

    /// Makes them.
    pub(crate) fn create(&self) -> Result<()> {
        let mut params = CertificateParams::default();
        // OpenSSL takes a certificate whose subject is its issuer's name for one that signed itself.
        params.distinguished_name.push(DnType::CommonName, "the bench's authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let leaf = CertificateParams::new([format!("*.{DOMAIN}")])?.signed_by(&key, &authority)?;
        fs::write(self.authority(), authority.pem())?;
        fs::write(self.authority_key(), authority.key().serialize_pem())?;
        fs::write(self.upstream(), leaf.pem())?;
        fs::write(self.upstream_key(), key.serialize_pem())?;
        Ok(())
    }
}
