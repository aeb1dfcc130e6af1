//! What an agent wrote whose files are not on this host: objects of an engine hold them.
//!
//! The files of a native bottle are looked at when somebody wants to know. Here they are looked at once, by a program
//! in the bottle, before it ends ([`crate::written`]), and the answer is kept in the folder of the run.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};

use super::{Outcome, read_agent};
use crate::resource::{Resources, replace};

/// Its name in the folder of a run.
pub(crate) const WRITTEN_FILE: &str = "written.json";

/// What an agent wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Written {
    /// Whether anything in the workspace changed since the agent started.
    pub(crate) changed: bool,
    /// Whether anything lies in the workspace.
    pub(crate) holds_files: bool,
    /// Whether there is a conversation.
    pub(crate) conversation: bool,
}

impl Written {
    /// What is known of a run; `None` for one whose files are on this host, or that has none.
    pub(crate) fn of(run: &Path) -> Option<Self> {
        if !Resources::read(run).ok()?.has_work() {
            return None;
        }
        let read = fs::read(run.join(WRITTEN_FILE)).ok();
        let read = read.and_then(|text| serde_json::from_slice(&text).ok());
        // A launcher that was killed did not ask. What is not known may be there.
        let conversation = read_agent(run).is_ok_and(|agent| agent.is_some());
        Some(read.unwrap_or(Self { changed: true, holds_files: true, conversation }))
    }

    pub(crate) fn write(self, run: &Path) -> io::Result<()> {
        replace(&run.join(WRITTEN_FILE), &serde_json::to_vec(&self)?)
    }

    /// Forgets what was known: the agent is about to write.
    pub(crate) fn forget(run: &Path) -> io::Result<()> {
        match fs::remove_file(run.join(WRITTEN_FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    pub(super) fn has_work(self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::NotStarted => false,
            Outcome::Ran => self.changed && self.holds_files,
            // A copy that the agent emptied is its work too.
            Outcome::Worked => self.changed,
        }
    }
}
