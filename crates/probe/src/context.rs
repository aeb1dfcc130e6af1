//! The facts about the outside that the attempts need. They hold no secret.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The facts of one run, made by [`Canaries`](crate::canaries::Canaries) and passed into the bottle as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// Where the gateway listens inside the bottle.
    pub proxy: SocketAddr,
    /// Roots that a program in the bottle trusts, PEM.
    pub ca_bundle: PathBuf,
    /// The reply of a recorder to anything that no policy allows. Random, so that it proves contact.
    pub mark: String,
    /// A host with a credential; only GET and POST below `/v1/` are allowed.
    pub allowed_host: String,
    /// A host without a credential, where everything but a push is allowed, over plain HTTP too.
    pub open_host: String,
    /// A host that no route names, but that the gateway could resolve and reach.
    pub unlisted_host: String,
    /// Services of the host, TCP and UDP on each of these addresses: loopback first, then others of its own.
    pub host_services: Vec<SocketAddr>,
    /// The host's own name.
    pub host_name: String,
    /// A unix socket of the host, with a path.
    pub unix_socket: PathBuf,
    /// A unix socket of the host in the abstract namespace, without the leading zero byte.
    pub abstract_socket: String,
    /// The operator's home.
    pub operator_home: PathBuf,
    /// Where bot-bottle keeps its files.
    pub bot_bottle_home: PathBuf,
    /// A file of the operator with the mark in it.
    pub secret_file: PathBuf,
    /// What `/proc/self/ns/*` links to on the host, by the name of the link.
    pub host_namespaces: BTreeMap<String, String>,
    /// Sockets that the operator's environment names (`SSH_AUTH_SOCK`, `DBUS_SESSION_BUS_ADDRESS`, …).
    pub operator_sockets: Vec<PathBuf>,
    /// Recognises the real credential.
    pub planted: PlantedSecret,
    /// The attempt that is being made.
    #[serde(default)]
    pub current: String,
}

/// Recognises a secret without holding it, by its digest, length and prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlantedSecret {
    /// The first bytes, which are a vendor's prefix and not secret.
    pub prefix: String,
    /// In bytes.
    pub length: usize,
    /// SHA-256, lower-case hex.
    pub sha256: String,
}

impl PlantedSecret {
    /// Describes a secret. The first `prefix_length` characters become the public prefix.
    #[must_use]
    pub fn describe(secret: &str, prefix_length: usize) -> Self {
        Self {
            prefix: secret.chars().take(prefix_length).collect(),
            length: secret.len(),
            sha256: hexadecimal_digest(secret.as_bytes()),
        }
    }

    /// Whether the secret occurs in these bytes.
    #[must_use]
    pub fn occurs_in(&self, bytes: &[u8]) -> bool {
        let prefix = self.prefix.as_bytes();
        bytes
            .windows(self.length.max(1))
            .any(|window| window.starts_with(prefix) && hexadecimal_digest(window) == self.sha256)
    }
}

impl Context {
    /// The same context for one attempt.
    #[must_use]
    pub fn during(mut self, attempt: &str) -> Self {
        attempt.clone_into(&mut self.current);
        self
    }

    /// The marker that an attempt puts into whatever it sends, so that a recorder can attribute it.
    #[must_use]
    pub fn tag(&self) -> String {
        format!("probe:{};", self.current)
    }

    /// The host's service on its loopback.
    #[must_use]
    pub fn host_loopback(&self) -> SocketAddr {
        self.host_services.first().copied().unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 9)))
    }
}

fn hexadecimal_digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planted_secret_is_recognised_and_not_told() {
        let planted = PlantedSecret::describe("demo_abcdefghijklmnop", 5);
        assert!(planted.occurs_in(b"TOKEN=demo_abcdefghijklmnop\0HOME=/"));
        assert!(!planted.occurs_in(b"TOKEN=demo_abcdefghijklmnoq\0"));
        assert!(!planted.occurs_in(b""));
        let told = serde_json::to_string(&planted).expect("it can be written");
        assert!(!told.contains("abcdefgh"), "{told}");
    }
}
