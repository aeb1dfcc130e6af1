//! Finds and removes what dead runs left.

use std::{io, path::PathBuf};

use bot_bottle_core::identity::Identity;
use serde::Serialize;

use crate::home::BotBottleHome;

/// What one run left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leftover {
    /// Whose; `None` for a folder that is not named like a run.
    pub identity: Option<Identity>,
    /// The folder that is removed.
    pub folder: PathBuf,
    /// Processes that still run, by process id.
    pub processes: Vec<u32>,
    /// The kept copy of a workspace, with the agent's work, if there is one.
    pub workspace: Option<PathBuf>,
}

/// What dead runs left. Living runs are never in it.
///
/// # Errors
/// When the state directory cannot be read.
pub fn plan(_home: &BotBottleHome) -> io::Result<Vec<Leftover>> {
    unimplemented!()
}

/// Removes what was planned, after looking again whether each run is dead.
///
/// # Errors
/// The first thing that could not be removed; the others are removed all the same.
pub fn apply(_home: &BotBottleHome, _leftovers: &[Leftover]) -> io::Result<()> {
    unimplemented!()
}
