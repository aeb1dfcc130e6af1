//! What can go wrong with smolvm.

use std::{borrow::Cow, path::PathBuf, time::Duration};

use bot_bottle_core::{
    error::{Hint, IoError},
    printable::printable,
};

use crate::{Settings, Version, report::Report};

/// Why a call failed. `action` says what was asked for: `starting the machine x`.
#[derive(Debug, thiserror::Error)]
pub enum SmolvmError {
    /// There is no such program, or it cannot be executed.
    #[error("smolvm cannot be run as {}: {source}", .program.display())]
    NotExecutable {
        /// The program.
        program: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The program does not say that it is smolvm.
    #[error("{} is not smolvm: `--version` prints `{said}`", .program.display())]
    NotSmolvm {
        /// The program.
        program: PathBuf,
        /// What it printed instead.
        said: String,
    },
    /// The version lacks what is needed.
    #[error("smolvm {found} is too old: {} is needed", Version::OLDEST)]
    TooOld {
        /// Its version.
        found: Version,
    },
    /// This version cannot do it.
    #[error("smolvm {version} has no {what}")]
    Unsupported {
        /// What it lacks.
        what: &'static str,
        /// Its version.
        version: Version,
    },
    /// The state directory's path leaves no room for those of sockets.
    #[error(
        "smolvm cannot keep its state in {}: the path has to be absolute, and of at most {} bytes",
        .path.display(), Settings::MAX_STATE_DIR
    )]
    StateDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// A value that smolvm would refuse, or understand as something else.
    #[error("`{value}` cannot be {what}: {why}")]
    InvalidValue {
        /// What it was for: `the name of a machine`.
        what: &'static str,
        /// The value.
        value: String,
        /// The rule.
        why: &'static str,
    },
    /// A machine whose network nothing confines was to be started without an interceptor.
    #[error("the machine {machine} is not started: without an interceptor its network is open")]
    OpenNetwork {
        /// The machine.
        machine: String,
    },
    /// Another call on this machine did not end in time.
    #[error("{action}: another command on this machine did not end within {} s", .limit.as_secs())]
    Locked {
        /// What was asked for.
        action: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The program was killed at its deadline. What it was doing may have happened.
    #[error("{action}: smolvm did not end within {} s", .limit.as_secs())]
    TimedOut {
        /// What was asked for.
        action: String,
        /// The deadline.
        limit: Duration,
    },
    /// smolvm refuses, or fails; `message` is its own.
    #[error("{action}: {message}{}", quoted(.lines))]
    Refused {
        /// What was asked for.
        action: String,
        /// Which case it is.
        kind: RefusalKind,
        /// smolvm's code, such as `CONFIG_ERROR`. One code stands for different cases, and one case has
        /// different codes.
        code: Option<String>,
        /// smolvm's words.
        message: String,
        /// The last lines that it wrote before, oldest first.
        lines: Vec<String>,
    },
    /// smolvm reports success, and the machine is in another state than it then has.
    #[error("{action}: smolvm reports success, but {found}")]
    Disagreement {
        /// What was asked for.
        action: String,
        /// What is the case: `the machine is created`.
        found: String,
    },
    /// The answer is not what smolvm's documentation says.
    #[error("{action}: the answer of smolvm cannot be understood: {why}")]
    Unexpected {
        /// What was asked for.
        action: String,
        /// What was wrong.
        why: String,
    },
    /// Nothing could be run in the machine before the deadline, or its virtual machine ended.
    #[error(
        "the machine {machine} is not usable: exec channel not ready after {:.1} s: {last_error}{}",
        .waited.as_secs_f32(), quoted(.console)
    )]
    NotReady {
        /// The machine.
        machine: String,
        /// How long was waited.
        waited: Duration,
        /// Why the last attempt failed.
        last_error: String,
        /// The last lines of the machine's console and logs.
        console: Vec<String>,
    },
    /// A system call failed.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// The cases of [`SmolvmError::Refused`] that callers treat differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// There is no such machine.
    NotFound,
    /// The name is taken.
    NameTaken,
    /// The machine does not run.
    NotRunning,
    /// What smolvm runs in a machine was not ready in time.
    NotReady,
    /// The host has no KVM, or this user may not use it.
    NoKvm,
    /// The program does not know the arguments.
    Usage,
    /// Anything else.
    Other,
}

/// The exit code of a command line that clap refuses.
const USAGE: i32 = 2;

impl SmolvmError {
    /// The kind of a refusal; `None` for other errors.
    #[must_use]
    pub fn refusal(&self) -> Option<RefusalKind> {
        match self {
            Self::Refused { kind, .. } => Some(*kind),
            _ => None,
        }
    }

    pub(crate) fn invalid(what: &'static str, value: &str, why: &'static str) -> Self {
        Self::InvalidValue { what, value: printable(value), why }
    }

    pub(crate) fn refused(action: String, exit_code: Option<i32>, report: Report) -> Self {
        let Report { code, message, lines } = report;
        let kind = kind_of(exit_code, &message);
        let message = match (message.as_str(), exit_code) {
            ("", Some(code)) => format!("smolvm ended with exit code {code}"),
            ("", None) => "smolvm was killed by a signal".to_owned(),
            _ => message,
        };
        Self::Refused { action, kind, code, message, lines }
    }
}

/// The texts tell the cases apart, and the codes do not: an unknown machine is `NOT_FOUND` to most commands and
/// `CONFIG_ERROR` to `status`, and `NOT_FOUND` is also the code of a missing mount.
fn kind_of(exit_code: Option<i32>, message: &str) -> RefusalKind {
    let message = message.to_ascii_lowercase();
    let says = |text: &str| message.contains(text);
    if exit_code == Some(USAGE) {
        RefusalKind::Usage
    } else if says("kvm not available") || says("kvmopen") || says("/dev/kvm") {
        RefusalKind::NoKvm
    } else if says("vm not found") || (says("machine '") && says("' not found")) {
        RefusalKind::NotFound
    } else if says("already exists") {
        RefusalKind::NameTaken
    } else if says("did not become ready") {
        RefusalKind::NotReady
    } else if says("is not running") {
        RefusalKind::NotRunning
    } else {
        RefusalKind::Other
    }
}

fn quoted(lines: &[String]) -> String {
    lines.iter().fold(String::new(), |text, line| text + "\n  " + line)
}

impl Hint for SmolvmError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::Io(error) => return error.hint(),
            Self::NotExecutable { .. } => {
                "install smolvm, or name its program; the Python package `smolmachines` has it as `smol-vmm`".into()
            }
            Self::NotSmolvm { .. } => "name the program of smolvm".into(),
            Self::TooOld { .. } | Self::Unsupported { .. } => {
                format!("install smolvm {} or newer", Version::OLDEST_WITH_INTERCEPTOR).into()
            }
            Self::StateDirectory { .. } => "use a shorter path; unix(7) limits those of sockets".into(),
            Self::Refused { kind: RefusalKind::NoKvm, .. } => {
                "this user needs to be allowed to open /dev/kvm (on most distributions: be in the group `kvm`), \
                 and the processor's virtualisation has to be on; root has no access to it in smolvm, which \
                 gives up root's rights"
                    .into()
            }
            Self::Refused { kind: RefusalKind::Usage, .. } | Self::Unexpected { .. } => {
                format!("smolvm {} is the newest that was tested", Version::NEWEST_TESTED).into()
            }
            Self::TimedOut { .. } | Self::NotReady { .. } => {
                "give the machine more memory and processors, or look at what else the host does".into()
            }
            Self::Locked { .. } => "look whether a smolvm of this machine hangs (`ps`)".into(),
            Self::InvalidValue { .. }
            | Self::OpenNetwork { .. }
            | Self::Refused { .. }
            | Self::Disagreement { .. } => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_tell_the_cases_apart() {
        use RefusalKind::{NameTaken, NoKvm, NotFound, NotRunning, Other, Usage};
        for (exit_code, message, kind) in [
            (1, "vm not found: zz", NotFound),
            (1, "config operation failed: machine status: machine 'zz' not found", NotFound),
            (1, "mount source not found: /nonexistent", Other),
            (1, "create machine: machine 'b1' already exists or is being created", NameTaken),
            (1, "agent operation failed: connect: machine 'b1' is not running. Start it", NotRunning),
            (1, "kvm not available: /dev/kvm does not exist", NoKvm),
            (1, "starting microVM: KvmContext(KvmOpen(Error(13)))", NoKvm),
            (2, "invalid value '999' for '--cpus <N>'", Usage),
            (1, "memory must be at least 64 MiB (got 32 MiB)", Other),
        ] {
            let report = Report { message: message.to_owned(), ..Report::default() };
            let error = SmolvmError::refused("doing".to_owned(), Some(exit_code), report);
            assert_eq!(error.refusal(), Some(kind), "{message}");
            assert_eq!(error.to_string(), format!("doing: {message}"));
        }
    }
}
