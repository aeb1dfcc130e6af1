//! References to secrets, and the placeholders that stand for them inside a bottle.
//!
//! No type in this crate holds the value of a secret, with one exception that says so in its name:
//! [`crate::provider::HostCredentials`], which a provider needs to look into and which is dropped before
//! anything is launched.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Names a secret that is resolved once, at launch, straight into the gateway's memory.
///
/// For a route of a manifest it is the name of a variable of the host's environment (`token_ref`). For a
/// credential that a provider brings, it is a name that the provider chose, such as
/// `CODEX_HOST_CREDENTIAL_TOKEN_REF`, and that is resolved from
/// [`crate::provider::AgentProvisionPlan::provisioned_env`] before the host's environment is looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretRef(String);

impl SecretRef {
    /// Takes a reference by its name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name of the variable, never its value.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the agent holds in place of a credential: it looks like a value, opens nothing, and is replaced
/// (in fact: stripped, before the real one is injected) by the gateway.
pub const PLACEHOLDER: &str = "egress-placeholder";
