//! A Java key store of trusted certificates, in the format JKS, which every Java reads.
//!
//! There is no specification but the source: `sun.security.provider.JavaKeyStore` of OpenJDK. A digest over
//! the password and the content guards against accidents; nothing is encrypted.

use sha1::{Digest, Sha1};

const MAGIC: u32 = 0xFEED_FEED;
const VERSION: u32 = 2;
const TRUSTED_CERTIFICATE: u32 = 2;

/// What every Java ships with, and what `JAVA_TOOL_OPTIONS` in the plan names.
const PASSWORD: &str = "changeit";

/// Goes into the digest, in the words of the JDK.
const WHITENER: &[u8] = b"Mighty Aphrodite";

/// A key store with these certificates, DER.
pub(super) fn key_store(certificates: &[Vec<u8>]) -> Vec<u8> {
    let mut store = Vec::new();
    for word in [MAGIC, VERSION, u32::try_from(certificates.len()).unwrap_or(0)] {
        store.extend(word.to_be_bytes());
    }
    for (index, certificate) in certificates.iter().enumerate() {
        store.extend(TRUSTED_CERTIFICATE.to_be_bytes());
        text(&mut store, &format!("root-{index}"));
        // The creation date, which no reader uses.
        store.extend(0_u64.to_be_bytes());
        text(&mut store, "X.509");
        store.extend(u32::try_from(certificate.len()).unwrap_or(0).to_be_bytes());
        store.extend(certificate);
    }
    let mut digest = Sha1::new();
    digest.update(PASSWORD.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<_>>());
    digest.update(WHITENER);
    digest.update(&store);
    store.extend(digest.finalize());
    store
}

/// `DataOutputStream.writeUTF`.
fn text(store: &mut Vec<u8>, text: &str) {
    store.extend(u16::try_from(text.len()).unwrap_or(0).to_be_bytes());
    store.extend(text.as_bytes());
}
