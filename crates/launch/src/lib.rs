//! The effects of bot-bottle: turns a plan into a running bottle, keeps its state, and cleans up after it.
//!
//! [`launch()`] has the steps of a launch, and [`backend`] says what a backend does in them; [`native`] runs
//! a bottle in Linux namespaces. [`client`] runs commands in a running bottle and ends it. [`host`] looks at
//! the machine: what it offers, what it lacks, and where its agent programs are. [`home`] says where state
//! lies, and [`cleanup`] removes what dead runs left. Nothing here prints: what the operator should see comes
//! out as [`request::LaunchEvent`]s and errors, with a hint where something can be done.

use std::os::fd::{OwnedFd, RawFd};

pub mod agent_image;
pub mod backend;
pub mod cleanup;
pub mod client;
pub mod commit;
pub mod docker;
pub mod error;
pub mod home;
pub mod host;
pub mod init;
pub mod inspect;
pub mod kept;
pub mod native;
pub mod renewal;
pub mod request;
pub mod smolmachines;
pub mod state;
pub mod workspace;

mod active_run;
mod agent_folder;
mod archive;
mod channel;
mod child_process;
mod files;
mod gateway_process;
mod image_variables;
mod kernel_files;
mod launch;
mod log_tail;
mod program_run;
mod protocol;
mod relay;
mod resource;
mod sealed;
mod session;
mod static_program;
mod steps;
mod sys;
mod written;

pub use files::copy::CopyError;
pub use inspect::inspect;
pub use launch::launch;
pub use sys::{attempt_syscall, detach};
pub use written::written;

/// The first process inside a sandbox: what `bot-bottle sandbox-init FD` is. To be called before anything
/// else, while the process has one thread and has opened nothing.
pub fn sandbox_init(control: RawFd) -> ! {
    native::sandbox_init(control)
}

/// Takes the control socket that the launcher left open for its gateway (`--control-fd`). Once, at the start.
#[must_use]
pub fn take_control(descriptor: RawFd) -> OwnedFd {
    sys::take_control(descriptor)
}
