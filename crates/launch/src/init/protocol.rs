//! The messages between the launcher and the bottle's first process. Before them the launcher sends what the
//! process needs to make the sandbox, which is the backend's own.

use bot_bottle_core::gateway_config::ListenerKind;
use serde::{Deserialize, Serialize};

use crate::{
    backend::{SessionId, StartProgram},
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
    /// The bottle used more memory than it may.
    MemoryExceeded {
        /// Bytes in use.
        used: u64,
    },
    /// The bottle's memory cannot be counted in time.
    MemoryUncounted,
}
