//! Exit codes, and the error type of every command.

use std::process::ExitCode;

use serde::Serialize;

/// The kind of a failure, which decides the exit code. The agent's own code passes through `start`, `run` and
/// `exec`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Failure {
    /// 1: refused, or failed.
    Failed,
    /// 2: the arguments are wrong.
    Usage,
    /// 3: a manifest is wrong.
    Manifest,
    /// 4: the backend is not available.
    Backend,
    /// 70: a bug in bot-bottle (`EX_SOFTWARE` of sysexits.h).
    Internal,
}

impl Failure {
    /// The number.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Manifest => 3,
            Self::Backend => 4,
            Self::Internal => 70,
        }
    }
}

impl From<Failure> for ExitCode {
    fn from(failure: Failure) -> Self {
        Self::from(failure.code())
    }
}

/// Why a command failed, with the advice apart.
#[derive(Debug, Serialize)]
pub(crate) struct CommandError {
    /// Which kind of failure; the exit code.
    pub(crate) failure: Failure,
    /// What happened, where.
    pub(crate) message: String,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
    /// The manifest's own diagnostics, which have places.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) manifest: Option<bot_bottle_core::manifest::ManifestError>,
}

impl CommandError {
    /// A failure without advice.
    pub(crate) fn new(failure: Failure, message: impl ToString) -> Self {
        Self { failure, message: message.to_string(), hint: None, manifest: None }
    }

    /// A refusal or an ordinary failure.
    pub(crate) fn failed(message: impl ToString) -> Self {
        Self::new(Failure::Failed, message)
    }

    /// The arguments are wrong.
    pub(crate) fn usage(message: impl ToString) -> Self {
        Self::new(Failure::Usage, message)
    }

    /// With what to do next; an empty hint is none.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into()).filter(|hint| !hint.is_empty());
        self
    }
}

impl From<bot_bottle_core::manifest::ManifestError> for CommandError {
    fn from(error: bot_bottle_core::manifest::ManifestError) -> Self {
        Self { manifest: Some(error.clone()), ..Self::new(Failure::Manifest, error) }
    }
}
