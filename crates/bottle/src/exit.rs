//! Exit codes, and the error type of every command.

use std::{borrow::Cow, error::Error, fmt, process::ExitCode};

use bot_bottle_core::{
    error::{Hint, IoError, causes},
    manifest::ManifestError,
};
use serde::{Serialize, Serializer};

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
    hint: Option<String>,
    /// The error behind the message, kept for its causes.
    #[serde(rename = "causes", serialize_with = "as_causes", skip_serializing_if = "Option::is_none")]
    error: Option<Box<dyn Error + Send + Sync>>,
    /// The manifest's own diagnostics, which have positions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) manifest: Option<ManifestError>,
}

impl CommandError {
    /// A failure without advice.
    pub(crate) fn new(failure: Failure, message: impl Into<String>) -> Self {
        Self { failure, message: message.into(), hint: None, error: None, manifest: None }
    }

    /// A refusal or an ordinary failure.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Failure::Failed, message)
    }

    /// The arguments are wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Failure::Usage, message)
    }

    /// An ordinary failure with the message, the advice and the causes of an error.
    pub(crate) fn from_error(error: impl Hint + Send + Sync + 'static) -> Self {
        let (message, hint) = (error.to_string(), error.hint().map(Cow::into_owned));
        Self { hint, error: Some(Box::new(error)), ..Self::failed(message) }
    }

    /// With another exit code.
    pub(crate) fn with_failure(mut self, failure: Failure) -> Self {
        self.failure = failure;
        self
    }

    /// With what to do next.
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for CommandError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.as_ref()?.source()
    }
}

impl Hint for CommandError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        self.hint.as_deref().map(Cow::Borrowed)
    }
}

impl From<IoError> for CommandError {
    fn from(error: IoError) -> Self {
        Self::from_error(error)
    }
}

impl From<ManifestError> for CommandError {
    fn from(error: ManifestError) -> Self {
        Self { manifest: Some(error.clone()), ..Self::new(Failure::Manifest, error.to_string()) }
    }
}

fn as_causes<S: Serializer>(
    error: &Option<Box<dyn Error + Send + Sync>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(error.iter().flat_map(|error| causes(error.as_ref())))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the bottle did not start")]
    struct NotStarted(#[source] IoError);

    impl Hint for NotStarted {
        fn hint(&self) -> Option<Cow<'_, str>> {
            Some("start it again".into())
        }
    }

    #[test]
    fn an_error_keeps_its_message_hint_and_causes() {
        let cause = IoError::new("opening /x", io::Error::other("no such device"));
        let error = CommandError::from_error(NotStarted(cause)).with_failure(Failure::Backend);
        assert_eq!(causes(&error), ["opening /x: no such device"]);
        assert_eq!(
            serde_json::to_value(&error).expect("it can be serialised"),
            serde_json::json!({
                "failure": "backend",
                "message": "the bottle did not start",
                "hint": "start it again",
                "causes": ["opening /x: no such device"],
            })
        );
    }

    #[test]
    fn a_message_has_no_causes() {
        let error = serde_json::to_value(CommandError::usage("no")).expect("it can be serialised");
        assert_eq!(error, serde_json::json!({"failure": "usage", "message": "no"}));
    }
}
