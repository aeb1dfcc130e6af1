//! The messages between the launcher and the bottle's first process. Before them the launcher sends what the
//! process needs to make the sandbox, which is the backend's own.

use std::{io, os::fd::OwnedFd, path::PathBuf};

use bot_bottle_core::{error::IoError, gateway_config::ListenerKind, limits::ByteSize, provider::GuestFile};
use serde::{Deserialize, Serialize};

use crate::{
    backend::{SandboxEvent, SessionId, StartProgram, Streams},
    request::ProgramStatus,
};

/// From the launcher to the bottle's first process, once it is ready.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ToInit {
    /// Start a program.
    Start {
        /// The launcher's name for it.
        session: SessionId,
        /// What.
        program: StartProgram,
    },
    /// Send a signal to a program that was started, and to its whole session if it is SIGKILL or SIGHUP.
    Signal {
        /// Which.
        session: SessionId,
        /// Signal number.
        signal: i32,
    },
    /// Write a file of the agent's anew. [`FromInit::NotReplaced`] answers where that fails.
    Replace {
        /// The folder that it lies in, at whatever depth; no link below it is followed.
        home: PathBuf,
        /// What.
        file: GuestFile,
    },
    /// End every program, and then this process; what the programs wrote still arrives.
    End,
}

/// From the bottle's first process to the launcher.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FromInit {
    /// With the sockets that are for the gateway.
    Listening {
        /// What each of them is for.
        listeners: Vec<ListenerKind>,
    },
    /// The bottle is ready to start programs; with notes on what it lacks.
    Ready {
        /// One sentence each.
        notes: Vec<String>,
    },
    /// A step failed.
    Failed {
        /// What was being done.
        doing: String,
        /// Error number of the system, or 0.
        errno: i32,
    },
    /// A program runs. With its terminal's controlling side, or its input, output and error.
    Started {
        /// Which.
        session: SessionId,
    },
    /// A program could not be started.
    NotStarted {
        /// Which.
        session: SessionId,
        /// What was being done.
        doing: String,
        /// Error number of the system.
        errno: i32,
    },
    /// A program ended.
    Ended {
        /// Which.
        session: SessionId,
        /// How.
        status: ProgramStatus,
    },
    /// A file of the agent's is as it was.
    NotReplaced {
        /// What was being done.
        doing: String,
        /// Error number of the system.
        errno: i32,
    },
    /// The bottle used more memory than it may.
    MemoryExceeded {
        /// Bytes in use.
        used: u64,
    },
    /// The bottle's memory cannot be counted in time.
    MemoryUncounted,
}

impl FromInit {
    /// What a message means to the launcher, while programs run, with the descriptors that came with it.
    pub(crate) fn into_event(self, descriptors: Vec<OwnedFd>) -> SandboxEvent {
        match self {
            Self::Started { session } => match Streams::from_descriptors(descriptors) {
                Ok(streams) => SandboxEvent::Started { session, streams },
                Err(_) => SandboxEvent::Gone,
            },
            Self::NotStarted { session, doing, errno } => {
                let source = IoError::new(doing, io::Error::from_raw_os_error(errno));
                SandboxEvent::NotStarted { session, source }
            }
            Self::Ended { session, status } => SandboxEvent::Ended { session, status },
            Self::NotReplaced { doing, errno } => {
                SandboxEvent::NotReplaced(IoError::new(doing, io::Error::from_raw_os_error(errno)))
            }
            Self::MemoryExceeded { used } => {
                let used = ByteSize(used >> 20 << 20);
                SandboxEvent::LimitReached(format!(
                    "the bottle used {used} of memory, more than `limits.memory`"
                ))
            }
            Self::MemoryUncounted => SandboxEvent::LimitReached(
                "`limits.memory` cannot be watched any more: the bottle has too many processes and open files to be \
                 counted in time"
                    .to_owned(),
            ),
            Self::Failed { .. } | Self::Listening { .. } | Self::Ready { .. } => SandboxEvent::Gone,
        }
    }
}
