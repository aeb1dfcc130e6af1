//! References to secrets, where their values come from, and the placeholders that stand for them inside a bottle.
//!
//! No type in this crate holds the value of a secret, with one exception that says so in its name:
//! [`crate::provider::HostCredentials`], which a provider needs to look into and which is dropped before
//! anything is launched.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::limits::WallTime;

/// Names a secret that is resolved at launch, and again where its source can be asked, straight into the gateway's memory.
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

/// Where a secret comes from, and how often it is asked for again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretSource {
    /// Where from.
    #[serde(flatten)]
    pub origin: SecretOrigin,
    /// After this time it is asked for again, while a bottle runs that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_every: Option<WallTime>,
}

/// Where a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretOrigin {
    /// From the standard output of this program with its arguments. It is not empty.
    Command(Vec<String>),
    /// From this file, absolute.
    File(PathBuf),
}

impl fmt::Display for SecretSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.origin.fmt(formatter)?;
        self.renew_every.map_or(Ok(()), |every| write!(formatter, ", again every {every}"))
    }
}

impl fmt::Display for SecretOrigin {
    /// Without the arguments of a command, which may say more than they should.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(words) => {
                write!(formatter, "the command `{}`", words.first().map_or("", String::as_str))
            }
            Self::File(path) => write!(formatter, "the file {}", path.display()),
        }
    }
}
