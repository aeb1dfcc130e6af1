//! The effects of bot-bottle: turns a plan into a running bottle, keeps its state, and cleans up after it.
//!
//! [`native`] runs a bottle in Linux namespaces. [`host`] looks at the machine: what it offers, what it
//! lacks, and where its agent programs are. [`home`] says where state lies, and [`cleanup`] removes what dead
//! runs left. Nothing here prints: what the operator should see comes out as [`request::LaunchEvent`]s and
//! errors, with a hint where something can be done.

pub mod cleanup;
pub mod home;
pub mod host;
pub mod native;
pub mod request;
pub mod state;
pub mod workspace;

mod active_run;
mod channel;
mod files;
mod gateway_process;
mod relay;
mod resource;
mod sealed;
mod sys;
mod trust;

pub use files::copy::CopyError;
pub use sys::attempt_syscall;
