//! The files that make programs in a bottle trust the gateway.

use std::{
    io,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bot_bottle_core::{error::IoContext, plan::BottlePlan, provider::GuestFile};

use crate::{error::LaunchError, files::rooted_dir::RootedDir, host::facts::system_roots};

mod java;

/// Name of the bundle in the trust folder.
pub(crate) const BUNDLE_NAME: &str = "ca-bundle.pem";

/// The folder of the bottle with the certificates and the settings that name them.
pub(crate) fn trust_folder(plan: &BottlePlan) -> PathBuf {
    plan.guest.ca_certificate.parent().unwrap_or(Path::new("/etc/bot-bottle")).to_owned()
}

/// Writes into `folder`, which the bottle sees as its [`trust_folder`]: the certificate of the bottle's CA,
/// the bundle of the host's own certificate authorities and it, and the settings that name them.
pub(crate) fn provision(plan: &BottlePlan, folder: &Path, certificate: &str) -> Result<(), LaunchError> {
    let written =
        RootedDir::open(folder, None).and_then(|folder| write(&folder, plan, &system_roots(), certificate));
    Ok(written.io_context(|| "writing the bottle's certificates")?)
}

fn write(folder: &RootedDir, plan: &BottlePlan, system_roots: &str, certificate: &str) -> io::Result<()> {
    let inside = trust_folder(plan);
    let bundle = format!("{}\n{certificate}", system_roots.trim_end());
    let certificates = decode(&bundle);
    let relative = |path: &Path| path.strip_prefix(&inside).ok().map(Path::to_owned);
    let put = |path: &Path, content: &[u8]| folder.file(path, content, 0o644);
    if let Some(path) = relative(&plan.guest.ca_certificate) {
        put(&path, certificate.as_bytes())?;
    }
    if let Some(path) = relative(&plan.guest.java_trust_store) {
        put(&path, &java::key_store(&certificates))?;
    }
    put(Path::new(BUNDLE_NAME), bundle.as_bytes())?;
    for GuestFile { path, content, mode: _ } in &plan.system_files {
        if let Some(path) = relative(path) {
            put(&path, content.as_bytes())?;
        }
    }
    Ok(())
}

/// The certificates of a PEM text, DER.
fn decode(pem: &str) -> Vec<Vec<u8>> {
    let mut certificates = Vec::new();
    let mut inside: Option<String> = None;
    for line in pem.lines().map(str::trim) {
        match (line, &mut inside) {
            ("-----BEGIN CERTIFICATE-----", _) => inside = Some(String::new()),
            ("-----END CERTIFICATE-----", Some(text)) => {
                certificates.extend(STANDARD.decode(text));
                inside = None;
            }
            (line, Some(text)) => text.push_str(line),
            (_, None) => {}
        }
    }
    certificates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_read_from_a_bundle_with_comments() {
        let pem = "# a root\n-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n\
                   -----BEGIN CERTIFICATE-----\nBAUG\n-----END CERTIFICATE-----";
        assert_eq!(decode(pem), [vec![1, 2, 3], vec![4, 5, 6]]);
    }
}
