//! A client of the `smolvm` program, which runs micro virtual machines with libkrun.
//!
//! [`Smolvm`] is synchronous and runs the program once for each call, with a deadline, bounded output and an
//! environment of its own. The types are smolvm's terms and nothing of this project's: what a bottle is, the
//! caller knows.
//!
//! What a machine may get from its host is only what these types can say: there is no forwarded ssh agent, no
//! secret, no writable folder of the host and no published port in them.
//!
//! smolvm is trusted, as it runs with this user's rights. What a machine does is not: its output reaches the
//! caller only in bounded pieces.

mod call;
mod client;
mod console;
mod environment;
mod error;
mod exec;
mod interceptor;
mod lock;
mod machine;
mod name;
mod process;
mod ready;
mod report;
mod spec;
mod version;

pub use client::Smolvm;
pub use environment::{Environment, Limits, Settings};
pub use error::{RefusalKind, SmolvmError};
pub use exec::ExecSpec;
pub use interceptor::Interceptor;
pub use machine::{LastExit, Machine, MachineState};
pub use name::MachineName;
pub use spec::{AllowList, FileOwner, MachineSpec, Network, ReadOnlyMount, Resources, SocketMount, User};
pub use version::{EgressControl, Version};
