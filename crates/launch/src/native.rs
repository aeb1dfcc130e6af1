//! The native backend: a bottle in Linux namespaces, without a daemon, an image or root.
//!
//! A plan is [`render`]ed into [`steps`], which is pure. Then there are three processes: the launcher
//! (`launch`, and `attending` while the agent runs), the gateway, and the bottle's first process
//! (`init`), which makes the file system (`mounting`) and starts programs (`program`, `confine`,
//! `filter`). They talk in the words of `protocol`. How it holds together is told in
//! `docs/backends/native.md`.

use std::os::fd::{OwnedFd, RawFd};

use bot_bottle_core::{identity::Identity, limits::Limits};

use crate::{
    home::BotBottleHome,
    request::{AgentExit, ExecRequest, LaunchEvent, LaunchRequest, Terminal},
};

mod attending;
mod capture;
mod cgroup;
mod client;
mod confine;
mod error;
mod facts;
mod filter;
mod grouping;
mod hidden;
mod init;
mod launch;
mod limits;
mod mounting;
mod network;
mod parts;
mod probe;
mod program;
mod protocol;
mod render;
mod shares;
mod steps;
mod undo;
mod usage;

pub use cgroup::{Controller, Group, Parent, Setting, Version};
pub use error::{ExecError, LaunchError, Prerequisite};
pub use facts::{EntryKind, HostFacts};
pub use filter::system_calls_page;
pub(crate) use grouping::remove as remove_group;
pub use limits::{HostMeans, LimitMeans};
pub use probe::HostReport;
pub use render::{MountedFile, MountedProgram, RunFolders, render};
pub use shares::Shares;
pub use steps::{Access, Confinement, NativeSteps, Operation, Tree};

/// Runs a bottle from nothing to the end of its agent, and undoes all of it.
///
/// The calling thread has to live as long as the bottle: the kernel ends the bottle's processes with it. No
/// other thread is needed, and none should have been started.
///
/// # Errors
/// See [`LaunchError`]; nothing is left running then.
pub fn launch(
    request: LaunchRequest,
    on_event: &mut dyn FnMut(LaunchEvent),
) -> Result<AgentExit, LaunchError> {
    launch::launch(request, on_event)
}

/// The bottle's first process: what `bot-bottle sandbox-init FD` is. To be called before anything else, while
/// the process has one thread and has opened nothing.
pub fn sandbox_init(control: RawFd) -> ! {
    std::process::exit(init::run(control))
}

/// Takes the control socket that the launcher left open for its gateway (`--control-fd`). Once, at the start.
#[must_use]
pub fn take_control(descriptor: RawFd) -> OwnedFd {
    crate::sys::take_control(descriptor)
}

/// Runs a command in a running bottle, as confined as its agent.
///
/// # Errors
/// See [`ExecError`].
pub fn exec(
    home: &BotBottleHome,
    identity: &Identity,
    request: &ExecRequest,
    terminal: Terminal,
) -> Result<AgentExit, ExecError> {
    client::exec(home, identity, request, terminal)
}

/// Ends a running bottle, and waits until it is gone.
///
/// # Errors
/// See [`ExecError`].
pub fn stop(home: &BotBottleHome, identity: &Identity) -> Result<(), ExecError> {
    client::stop(home, identity)
}

/// Which means enforces each limit here, one sentence each.
///
/// # Errors
/// The limits that the host cannot enforce, one sentence each.
pub fn enforceable(limits: &Limits) -> Result<Vec<String>, Vec<String>> {
    LimitMeans::choose(limits, "", &HostMeans::gather(limits)).map(|means| means.describe())
}

/// Finds out what the host gives, by doing it. To be called while the process has one thread.
#[must_use]
pub fn probe() -> HostReport {
    probe::probe()
}
