//! The native backend: a bottle in Linux namespaces, without a daemon, an image or root.

use std::os::fd::RawFd;

use bot_bottle_core::{identity::Identity, limits::Limits};
use serde::Serialize;
use thiserror::Error;

use crate::{
    home::BotBottleHome,
    request::{AgentExit, ExecRequest, LaunchEvent, LaunchRequest, Terminal},
};

/// What the host gives a native bottle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostReport {
    /// What has to be mended before any bottle starts here; empty where all is well.
    pub missing: Vec<Prerequisite>,
    /// What the host could not give and that a bottle does without, one sentence each.
    pub notes: Vec<String>,
}

/// Something that the host has to give and does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Error)]
#[error("{problem}")]
pub struct Prerequisite {
    /// One sentence.
    pub problem: String,
    /// The command that mends it.
    pub remedy: String,
}

/// Why a launch failed.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// A limit of the manifest cannot be enforced here.
    #[error("{0}")]
    Limit(String),
}

/// Why a command could not be run in a bottle, or a bottle not be stopped.
#[derive(Debug, Error)]
pub enum ExecError {
    /// No run of that name is alive.
    #[error("no bottle `{0}` is running")]
    NotRunning(Identity),
}

/// Runs a bottle from nothing to the end of its agent, and undoes all of it.
///
/// # Errors
/// See [`LaunchError`]; nothing is left running then.
pub fn launch(
    _request: LaunchRequest,
    _on_event: &mut dyn FnMut(LaunchEvent),
) -> Result<AgentExit, LaunchError> {
    unimplemented!()
}

/// The bottle's first process: what `bot-bottle sandbox-init` is. To be called before anything else.
pub fn sandbox_init(_control: RawFd) -> ! {
    unimplemented!()
}

/// Runs a command in a running bottle, as confined as its agent.
///
/// # Errors
/// See [`ExecError`].
pub fn exec(
    _home: &BotBottleHome,
    _identity: &Identity,
    _request: &ExecRequest,
    _terminal: Terminal,
) -> Result<AgentExit, ExecError> {
    unimplemented!()
}

/// Ends a running bottle, and waits until it is gone.
///
/// # Errors
/// See [`ExecError`].
pub fn stop(_home: &BotBottleHome, _identity: &Identity) -> Result<(), ExecError> {
    unimplemented!()
}

/// Which means enforces each limit here, one sentence each.
///
/// # Errors
/// The limits that the host cannot enforce.
pub fn enforceable(_limits: &Limits) -> Result<Vec<String>, Vec<String>> {
    unimplemented!()
}

/// Finds out what the host gives, by doing it.
#[must_use]
pub fn probe() -> HostReport {
    unimplemented!()
}
