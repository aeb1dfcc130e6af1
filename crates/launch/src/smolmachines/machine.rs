//! A machine as something that a run owns.

use std::{fmt, io, path::PathBuf, time::Duration};

use bot_bottle_smolvm::{MachineName, Smolvm};
use serde::{Deserialize, Serialize};

use crate::error::LaunchError;

/// How long what runs in a machine gets to end, once its agent has ended.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// A machine of smolvm, by the name under which it is found again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineObject {
    /// smolvm's program.
    pub(crate) program: PathBuf,
    /// Where it keeps the machine.
    pub(crate) state_dir: PathBuf,
    /// The machine's name.
    pub(crate) name: String,
}

impl MachineObject {
    /// Stops it and removes it with its disks. Succeeds if it does not exist.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let remove = || -> Result<(), LaunchError> {
            self.stop()?;
            let (smolvm, name) = self.open()?;
            Ok(smolvm.delete(&name)?)
        };
        remove().map_err(io::Error::other)
    }

    /// Stops it, with its disks kept.
    pub(crate) fn stop(&self) -> Result<(), LaunchError> {
        let (smolvm, name) = self.open()?;
        if smolvm.machine(&name)?.is_some_and(|machine| !machine.state.is_at_rest()) {
            smolvm.stop(&name, STOP_TIMEOUT)?;
        }
        Ok(())
    }

    fn open(&self) -> Result<(Smolvm, MachineName), LaunchError> {
        Ok((super::open(&self.program, self.state_dir.clone())?, MachineName::new(self.name.clone())?))
    }
}

impl fmt::Display for MachineObject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the machine {}", self.name)
    }
}
