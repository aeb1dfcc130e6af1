//! The files that make programs in a bottle trust the gateway.

use std::{io, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use bot_bottle_core::{plan::BottlePlan, provider::GuestFile};

use crate::files::rooted_dir::RootedDir;

mod java;

/// Writes the bottle's certificate, the bundle of the system's roots and it, and the settings that name them.
/// `folder` is what the bottle sees as `inside`.
pub(crate) fn write(
    folder: &RootedDir,
    inside: &Path,
    bundle_name: &str,
    plan: &BottlePlan,
    system_roots: &str,
    certificate: &str,
) -> io::Result<()> {
    let bundle = format!("{}\n{certificate}", system_roots.trim_end());
    let certificates = decode(&bundle);
    let relative = |path: &Path| path.strip_prefix(inside).ok().map(Path::to_owned);
    let put = |path: &Path, content: &[u8]| folder.file(path, content, 0o644);
    if let Some(path) = relative(&plan.guest.ca_certificate) {
        put(&path, certificate.as_bytes())?;
    }
    if let Some(path) = relative(&plan.guest.java_trust_store) {
        put(&path, &java::key_store(&certificates))?;
    }
    put(Path::new(bundle_name), bundle.as_bytes())?;
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
