//! How a run's machine is called, and the places in it.

use std::path::{Path, PathBuf};

use bot_bottle_core::error::IoError;
use bot_bottle_smolvm::{MachineName, SmolvmError};

use crate::steps::allocate::Run;

/// Where the machine has the folder with this binary, read-only.
pub(super) const PROGRAM_FOLDER: &str = bot_bottle_core::plan::AGENT_PROGRAM_FOLDER;

/// This binary in there.
pub(super) const PROGRAM: &str = "/opt/bot-bottle/agent/bot-bottle";

/// The socket in the machine whose other end the launcher holds as long as it lives.
pub(super) const LIFE_SOCKET: &str = "/run/bot-bottle/life";

/// Label of a machine, with the identity of its run.
pub(super) const RUN_LABEL: &str = "bot-bottle.run";

/// What belongs to a run's machine on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    /// The machine.
    pub(super) machine: MachineName,
    /// Its run.
    pub(super) identity: String,
    /// The folder with this binary.
    pub(super) program_folder: PathBuf,
    /// The launcher's socket.
    pub(super) life_socket: PathBuf,
}

impl Names {
    /// Of a run's machine. What is mounted in a machine lies in the folder of the run that it was made for.
    pub(super) fn new(machine: String, run: &Run, folder: &Path) -> Result<Self, SmolvmError> {
        Ok(Self {
            machine: MachineName::new(machine)?,
            identity: run.identity.to_string(),
            program_folder: folder.join("program"),
            life_socket: folder.join("life"),
        })
    }

    /// An error about the run's part on the host.
    pub(super) fn making(&self, what: &str, source: std::io::Error) -> IoError {
        IoError::new(format!("making {what} for the machine {}", self.machine), source)
    }
}
