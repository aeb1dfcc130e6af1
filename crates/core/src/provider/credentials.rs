//! The host's own login, and what can be wrong with it.

use std::fmt;

use thiserror::Error;
use zeroize::Zeroizing;

use crate::secret::SecretRef;

/// What was found where the host's own login should be. The one type of this crate that holds secrets; it is
/// dropped, and its memory overwritten, before anything is launched.
#[derive(Default)]
pub enum HostCredentials {
    /// The bottle does not forward a login, so nothing was read.
    #[default]
    NotForwarded,
    /// There is no such file.
    Missing,
    /// The text of the file.
    Found(Zeroizing<String>),
}

/// A credential that a provider took from the host's own login, on its way to the gateway.
#[derive(Clone, PartialEq, Eq)]
pub struct ProvisionedSecret {
    /// The reference that routes use.
    pub reference: SecretRef,
    /// The value.
    pub value: Zeroizing<String>,
}

impl fmt::Debug for HostCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotForwarded => "NotForwarded",
            Self::Missing => "Missing",
            Self::Found(_) => "Found(…)",
        })
    }
}

impl fmt::Debug for ProvisionedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProvisionedSecret({} = …)", self.reference)
    }
}

/// Why a provider cannot serve a bottle.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProviderError {
    /// Something in the bottle's file contradicts the provider.
    #[error("{key}: {problem}")]
    Setting {
        /// The key in the manifest.
        key: &'static str,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        hint: String,
    },
    /// The host's own login cannot be used.
    #[error("the host's login of `{provider}` in ~/{file} cannot be forwarded: {problem}")]
    Credentials {
        /// The provider.
        provider: &'static str,
        /// Relative to the operator's home.
        file: &'static str,
        /// What is wrong with it.
        problem: CredentialError,
    },
}

/// What is wrong with the host's own login.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CredentialError {
    /// There is no such file.
    #[error("there is no such file")]
    Missing,
    /// Only an API key is in it, and a bottle forwards logins alone.
    #[error("it holds an API key, not a login")]
    ApiKeyOnly,
    /// It cannot be understood.
    #[error("{0}")]
    Malformed(String),
    /// The token is no longer valid.
    #[error("its token expired {} ago", crate::limits::WallTime(*.seconds_ago))]
    Expired {
        /// Seconds since then.
        seconds_ago: u64,
    },
}
