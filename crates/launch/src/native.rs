//! The native backend: a bottle in Linux namespaces, without a daemon, an image or root.
//!
//! A plan is [`render`]ed into [`steps`], which is pure. Then there are three processes: the launcher
//! (`launch`, and `session` while the agent runs), the gateway, and the bottle's first process (`init`),
//! which makes the file system (`rootfs`) and starts programs (`exec`, `confine`, `seccomp`). `protocol` has
//! the messages between them. How the confinement works is described in `docs/backends/native.md`.

use std::os::fd::{OwnedFd, RawFd};

use bot_bottle_core::{identity::Identity, limits::Limits};

use crate::{
    home::BotBottleHome,
    request::{AgentExit, ExecRequest, LaunchEvent, LaunchRequest, Terminal},
};

mod cgroup;
mod client;
mod confine;
mod error;
mod exec;
mod init;
mod launch;
mod limits;
mod network;
mod protocol;
mod redirect;
mod render;
mod rootfs;
mod seccomp;
mod session;
mod shares;
mod steps;
mod usage;

pub(crate) mod spawn;

pub(crate) use cgroup::fs::remove as remove_group;
pub use cgroup::{ControlFile, Controller, Group, Parent, Version};
pub use error::{ExecError, LaunchError};
pub use limits::{HostMeans, LimitMeans};
pub use render::{MountedFile, MountedProgram, RunFolders, render};
pub use seccomp::system_calls_page;
pub use shares::Shares;
pub use steps::{Access, Confinement, NativeSteps, Operation, Tree};

/// Starts the bottle, waits for the agent, and cleans up.
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
