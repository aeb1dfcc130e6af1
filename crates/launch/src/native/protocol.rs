//! The messages between the launcher, the bottle's first process and `exec` clients.

use std::{collections::BTreeMap, path::PathBuf};

use bot_bottle_core::gateway_config::ListenerKind;
use serde::{Deserialize, Serialize};

use crate::request::{EndedBy, ExecRequest, ProgramStatus, Terminal};

use super::steps::NativeSteps;

/// Name of the launcher's socket in the directory of a run.
pub(super) const CONTROL_SOCKET: &str = "control.sock";

/// Session of the agent; commands that are run beside it have higher numbers.
pub(super) const AGENT_SESSION: u64 = 0;

/// From the launcher to the bottle's first process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ToInit {
    /// Make the bottle. With one descriptor for each tree, or none if the first process opens them itself.
    Setup(Box<NativeSteps>),
    /// Start a program.
    Start {
        /// The launcher's name for it.
        session: u64,
        /// What.
        program: StartProgram,
    },
    /// Send a signal to a program that was started, and to its whole session if it is SIGKILL or SIGHUP.
    Signal {
        /// Which.
        session: u64,
        /// Signal number.
        signal: i32,
    },
}

/// A program that the bottle's first process starts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StartProgram {
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// The whole environment.
    pub(crate) environment: BTreeMap<String, String>,
    /// Absolute.
    pub(crate) working_directory: PathBuf,
    /// What its standard streams are.
    pub(crate) terminal: Terminal,
    /// Rows and columns of the operator's terminal.
    pub(crate) size: Option<(u16, u16)>,
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
        session: u64,
    },
    /// A program could not be started.
    NotStarted {
        /// Which.
        session: u64,
        /// What was being done.
        doing: String,
        /// Error number of the system.
        errno: i32,
    },
    /// A program ended.
    Ended {
        /// Which.
        session: u64,
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

/// From an `exec` or `stop` client to the launcher.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FromClient {
    /// Run a command. If the client goes, so does the command.
    Exec {
        /// What.
        request: ExecRequest,
        /// What its standard streams are.
        terminal: Terminal,
        /// Rows and columns of the client's terminal.
        size: Option<(u16, u16)>,
    },
    /// Send a signal to the command of this connection.
    Signal(i32),
    /// End the bottle.
    Stop,
}

/// From the launcher to an `exec` or `stop` client.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ToClient {
    /// It runs; with descriptors as of [`FromInit::Started`].
    Started,
    /// It could not be started.
    NotStarted {
        /// What was being done.
        doing: String,
        /// Error number of the system.
        errno: i32,
    },
    /// It ended.
    Ended {
        /// How.
        status: ProgramStatus,
        /// What ended the bottle, if the command ended with it.
        ended_by: Option<EndedBy>,
    },
    /// The bottle is being ended.
    Stopping,
}
