//! The effects of bot-bottle: what turns a plan into a running bottle, keeps its state, and clears up after it.
//!
//! [`native`] runs a bottle in Linux namespaces. [`home`] says where state lies, [`cleanup`] finds what dead
//! runs left, and [`programs`] finds the agent programs. Nothing here prints: what the person should see
//! comes out as [`request::LaunchEvent`]s and errors, each with a hint where there is something to do.

pub mod cleanup;
pub mod home;
pub mod native;
pub mod programs;
pub mod request;
pub mod state;
pub mod workspace;

mod channel;
mod copying;
mod place;
mod relay;
mod sealed;
mod sys;
mod trust;

pub use copying::CopyError;
pub use sys::attempt_syscall;
