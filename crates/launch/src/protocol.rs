//! The messages between the launcher of a bottle and the clients that run commands in it or end it.

use serde::{Deserialize, Serialize};

use crate::request::{EndedBy, ExecRequest, ProgramStatus, Terminal};

/// Name of the launcher's socket in the directory of a run.
pub(crate) const CONTROL_SOCKET: &str = "control.sock";

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
    /// It runs; with the descriptors of its streams: its terminal, or input, output and error.
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
