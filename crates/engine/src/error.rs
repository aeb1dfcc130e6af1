//! What can go wrong with an engine.

use std::{borrow::Cow, error::Error, time::Duration};

use bollard::errors::Error as BollardError;
use bot_bottle_core::error::{Hint, IoError};

use crate::{AddressError, ApiVersion, EngineAddress, connection::OLDEST_API};

/// Why a call to the engine failed. `action` says what was asked for: `creating the container x`.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The address is of a kind that is not supported.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// There is no socket at the address.
    #[error("no container engine runs: {0} does not exist")]
    NoSocket(EngineAddress),
    /// This user may not use the socket.
    #[error("the container engine at {0} may not be used by this user")]
    PermissionDenied(EngineAddress),
    /// There is a socket, and nobody listens.
    #[error("no container engine answers at {0}: connection refused")]
    ConnectionRefused(EngineAddress),
    /// Something else answers.
    #[error("what answers at {address} is not a container engine: {why}")]
    NotAnEngine {
        /// Where.
        address: EngineAddress,
        /// What was wrong with the answer.
        why: String,
    },
    /// The engine's API is older than 1.41.
    #[error("the container engine at {address} has API {found}, and {OLDEST_API} is needed")]
    TooOld {
        /// Where.
        address: EngineAddress,
        /// Its newest API.
        found: ApiVersion,
    },
    /// The engine ended or broke the connection.
    #[error("{action}: the container engine is gone: {why}")]
    Gone {
        /// What was asked for.
        action: String,
        /// What the connection ended with.
        why: String,
    },
    /// No answer within the limit.
    #[error("{action}: the container engine did not answer within {} s", .limit.as_secs())]
    TimedOut {
        /// What was asked for.
        action: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The engine refuses, or fails; `message` is its own.
    #[error("{action}: {message}")]
    Refused {
        /// What was asked for.
        action: String,
        /// Which case it is.
        kind: RefusalKind,
        /// The engine's words.
        message: String,
    },
    /// An image could not be built.
    #[error("the image could not be built: {message}{}", last_lines(.log))]
    Build {
        /// The engine's words.
        message: String,
        /// The last lines that the failing step wrote, oldest first.
        log: Vec<String>,
        /// Whether the engine's disk is full.
        is_out_of_space: bool,
    },
    /// The answer is not what the API promises.
    #[error("{action}: the answer of the container engine cannot be understood: {why}")]
    Unexpected {
        /// What was asked for.
        action: String,
        /// What was wrong.
        why: String,
    },
    /// A name with characters that no object of an engine can have.
    #[error("`{0}` cannot be the name of a container, image, volume or network")]
    InvalidName(String),
    /// The caller's own reader or writer, or the runtime of the client.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// The cases of [`EngineError::Refused`] that callers treat differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// The name is taken.
    Conflict,
    /// There is no such object.
    NotFound,
    /// A container is to be made of an image that the engine does not have.
    ImageMissing,
    /// It cannot be removed because it is in use.
    Busy,
    /// A signal is sent to a container that has ended, or did not start.
    NotRunning,
    /// The disk of the engine is full.
    NoSpace,
    /// Anything else, with the status of the answer.
    Other(u16),
}

/// What a call does, as far as the meaning of a status depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// 409 says that the name is taken.
    Create,
    /// 409 and 403 say that the object is in use.
    Remove,
    /// 409 says that the container does not run.
    Signal,
    /// Anything else.
    Other,
}

impl EngineError {
    /// The kind of a refusal; `None` for other errors.
    #[must_use]
    pub fn refusal(&self) -> Option<RefusalKind> {
        match self {
            Self::Refused { kind, .. } => Some(*kind),
            Self::Build { is_out_of_space: true, .. } => Some(RefusalKind::NoSpace),
            _ => None,
        }
    }

    pub(crate) fn new(action: &str, purpose: Purpose, error: BollardError) -> Self {
        let action = action.to_owned();
        match error {
            BollardError::DockerResponseServerError { status_code, message } => {
                Self::refused(action, purpose, status_code, message)
            }
            BollardError::DockerStreamError { error } => Self::refused(action, purpose, 500, error),
            BollardError::HyperLegacyError { .. }
            | BollardError::HyperResponseError { .. }
            | BollardError::IOError { .. }
            | BollardError::SocketNotFoundError(_) => Self::Gone { action, why: innermost(&error) },
            error => Self::Unexpected { action, why: error.to_string() },
        }
    }

    pub(crate) fn refused(action: String, purpose: Purpose, status: u16, message: String) -> Self {
        let kind = kind_of(purpose, status, &message);
        let message = match message.trim() {
            "" if status == 404 => "no such object".to_owned(),
            "" => format!("the container engine answers with status {status}"),
            message => message.to_owned(),
        };
        Self::Refused { action, kind, message }
    }
}

/// The engines use one status for several cases, and not the same ones; their texts tell them apart.
fn kind_of(purpose: Purpose, status: u16, message: &str) -> RefusalKind {
    let message = message.to_ascii_lowercase();
    let says = |texts: &[&str]| texts.iter().any(|text| message.contains(text));
    if is_out_of_space(&message) {
        return RefusalKind::NoSpace;
    }
    match (purpose, status) {
        (Purpose::Create, 404) if says(&["no such image", "image not known"]) => RefusalKind::ImageMissing,
        (_, 404) => RefusalKind::NotFound,
        (Purpose::Create, 409) => RefusalKind::Conflict,
        // podman 4 answers 500 where docker answers 409.
        (Purpose::Create, 500) if says(&["already exists", "already in use", "name is in use"]) => {
            RefusalKind::Conflict
        }
        (Purpose::Create, 500) if says(&["no such image", "image not known"]) => RefusalKind::ImageMissing,
        (Purpose::Remove, 409) => RefusalKind::Busy,
        (Purpose::Remove, 403) if says(&["active endpoints"]) => RefusalKind::Busy,
        // podman stops a container before it removes it, and cannot when it ends at that moment.
        (Purpose::Remove, 500) if says(&["being used", "in use", "container state improper"]) => {
            RefusalKind::Busy
        }
        (Purpose::Signal, 409) => RefusalKind::NotRunning,
        (Purpose::Signal, 500) if says(&["is not running", "can only kill running"]) => {
            RefusalKind::NotRunning
        }
        (_, status) => RefusalKind::Other(status),
    }
}

/// Whether a text of the engine, or of a program in a build, says that a disk is full: strerror(3) of ENOSPC and
/// EDQUOT.
pub(crate) fn is_out_of_space(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text.contains("no space left on device") || text.contains("disk quota exceeded")
}

/// The text of the innermost cause: the outer ones say only `client error (Connect)`.
pub(crate) fn innermost(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

fn last_lines(log: &[String]) -> String {
    log.iter().fold(String::new(), |text, line| text + "\n  " + line)
}

impl Hint for EngineError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::Address(error) => return error.hint(),
            Self::Io(error) => return error.hint(),
            Self::NoSocket(_) | Self::ConnectionRefused(_) => {
                "start docker (`systemctl start docker`), or rootless podman's socket (`systemctl --user start \
                 podman.socket`), or set DOCKER_HOST to the socket of a running engine"
                    .into()
            }
            Self::PermissionDenied(_) => {
                "use a rootless engine, or join the group `docker` and log in anew; its members are root on \
                 this host"
                    .into()
            }
            Self::NotAnEngine { .. } => "set DOCKER_HOST to the socket of docker or podman".into(),
            Self::TooOld { .. } => "docker 20.10 and podman 4 are new enough".into(),
            Self::Gone { .. } => "look at the engine's log (`journalctl -u docker`)".into(),
            Self::TimedOut { .. } => "look whether `docker ps` answers, and restart the engine if not".into(),
            Self::Refused { kind: RefusalKind::NoSpace, .. } | Self::Build { is_out_of_space: true, .. } => {
                "make room on the engine's disk; `docker system df` shows what takes it".into()
            }
            Self::Refused { kind: RefusalKind::ImageMissing, .. } => "pull the image, or build it".into(),
            Self::Refused { .. } | Self::Build { .. } | Self::Unexpected { .. } | Self::InvalidName(_) => {
                return None;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_status_means_different_things() {
        use RefusalKind::{Busy, Conflict, ImageMissing, NoSpace, NotFound, NotRunning, Other};
        for (purpose, status, message, kind) in [
            (Purpose::Create, 409, "Conflict. The container name \"/x\" is already in use", Conflict),
            (Purpose::Create, 500, "volume with name x already exists: volume already exists", Conflict),
            (Purpose::Create, 404, "No such image: x:latest", ImageMissing),
            (Purpose::Create, 404, "network x not found", NotFound),
            (Purpose::Remove, 409, "remove x: volume is in use - [y]", Busy),
            (Purpose::Remove, 403, "error while removing network: network x has active endpoints", Busy),
            (Purpose::Remove, 403, "bridge is a pre-defined network", Other(403)),
            (Purpose::Remove, 500, "volume x is being used by the following container(s)", Busy),
            (Purpose::Remove, 500, "sending SIGKILL to x: container state improper: stopped", Busy),
            (Purpose::Signal, 409, "Container x is not running", NotRunning),
            (Purpose::Other, 409, "anything", Other(409)),
            (Purpose::Other, 500, "write /x: no space left on device", NoSpace),
            (Purpose::Create, 500, "mkdir /x: Disk quota exceeded", NoSpace),
            (Purpose::Other, 500, "anything", Other(500)),
        ] {
            let error = EngineError::refused("doing".to_owned(), purpose, status, message.to_owned());
            assert_eq!(error.refusal(), Some(kind), "{message}");
            assert_eq!(error.to_string(), format!("doing: {message}"));
        }
    }
}
