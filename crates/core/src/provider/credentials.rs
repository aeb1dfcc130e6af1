//! The host's own login, and what can be wrong with it.

use std::{borrow::Cow, fmt, path::PathBuf};

use thiserror::Error;
use zeroize::Zeroizing;

use crate::{error::Hint, secret::SecretRef};

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
    /// Until when it is valid: seconds since 1970, UTC.
    pub expires: u64,
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

/// A login that is valid for less than this is not forwarded: programs refresh a token so shortly before it
/// expires (codex 0.169.0: five minutes), and in a bottle there is nothing to refresh it with.
pub const SHORTEST_VALIDITY: u64 = 5 * 60;

/// The longest file of a login that is looked at, in bytes. Real ones have a few kilobytes.
pub const MAX_CREDENTIAL_FILE_BYTES: usize = 256 * 1024;

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
    #[error("the host's login of `{provider}` in {} cannot be forwarded: {problem}", .file.display())]
    Credentials {
        /// The provider.
        provider: &'static str,
        /// Where it lies.
        file: PathBuf,
        /// What is wrong with it.
        problem: CredentialError,
        /// What to do.
        hint: String,
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
    /// It cannot be understood. The text never quotes the file.
    #[error("{0}")]
    Malformed(String),
    /// The token is no longer valid, or not for long enough.
    #[error("{}", expiry(*.seconds_left))]
    Expired {
        /// Seconds until then; negative where it has passed.
        seconds_left: i64,
    },
}

impl Hint for ProviderError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Setting { hint, .. } | Self::Credentials { hint, .. } => Some(hint.into()),
        }
    }
}

impl CredentialError {
    /// A file that is not the JSON that was expected. The parser's own message is left out because it quotes
    /// what it found, which may be a token.
    pub(super) fn json(error: &serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        Self::Malformed(match error.classify() {
            serde_json::error::Category::Data => {
                format!("a value in it is not of the expected kind (line {line}, column {column})")
            }
            serde_json::error::Category::Eof => "it breaks off: the JSON in it is not complete".to_owned(),
            serde_json::error::Category::Syntax | serde_json::error::Category::Io => {
                format!("it is not JSON (line {line}, column {column})")
            }
        })
    }

    /// Refuses a token that expires within [`SHORTEST_VALIDITY`]. Both are seconds since 1970, UTC.
    pub(super) fn check_expiry(expires: u64, now: u64) -> Result<(), Self> {
        if expires > now.saturating_add(SHORTEST_VALIDITY) {
            return Ok(());
        }
        let seconds = |from: u64, to: u64| i64::try_from(to - from).unwrap_or(i64::MAX);
        let seconds_left = if expires >= now { seconds(now, expires) } else { -seconds(expires, now) };
        Err(Self::Expired { seconds_left })
    }
}

impl HostCredentials {
    /// The text of the file, if it has a length that can be right.
    pub(super) fn text(&self) -> Result<&str, CredentialError> {
        match self {
            Self::NotForwarded | Self::Missing => Err(CredentialError::Missing),
            Self::Found(text) if text.len() > MAX_CREDENTIAL_FILE_BYTES => Err(CredentialError::Malformed(
                format!("it is longer than {} KiB", MAX_CREDENTIAL_FILE_BYTES / 1024),
            )),
            Self::Found(text) => Ok(text),
        }
    }
}

/// What the operator should know of a login that ends: its end and the time are seconds since 1970, UTC.
pub(super) fn validity(provider: &str, expires: u64, now: u64) -> String {
    let left = duration(expires.saturating_sub(now));
    format!(
        "the host's login of {provider} ends in {left}; the bottle follows when {provider} renews it on the host"
    )
}

/// A token goes into one header line (RFC 9110 section 5.5), and nothing but printable ASCII fits there.
pub(super) fn is_header_token(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())
}

fn expiry(seconds_left: i64) -> String {
    if seconds_left <= 0 {
        format!("its token expired {} ago", duration(seconds_left.unsigned_abs()))
    } else {
        format!(
            "its token expires in {}, and less than 5m is too short",
            duration(seconds_left.unsigned_abs())
        )
    }
}

/// A time to the unit that matters: `3d`, `5h`, `12m`, `40s`.
fn duration(seconds: u64) -> String {
    [(86_400, "d"), (3_600, "h"), (60, "m")]
        .into_iter()
        .find(|(factor, _)| seconds >= *factor)
        .map_or_else(|| format!("{seconds}s"), |(factor, unit)| format!("{}{unit}", seconds / factor))
}
