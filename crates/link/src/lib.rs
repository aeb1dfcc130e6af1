//! The link between the launcher and one container: everything that they share, over one byte stream.
//!
//! Both ends run in a process of their own. Each has a local socket to the process that it serves, and the two
//! are joined by a stream that yamux (<https://github.com/hashicorp/yamux/blob/master/spec.md>) multiplexes.
//! Flow control is per yamux stream, so a reader that does not read blocks its own stream alone.
//!
//! A direction of data is one yamux stream, on which only one side writes: a FIN is the end of the data, and a
//! RST says that the reader is gone. A terminal is one stream with both directions, because it has no half-close:
//! whichever side goes away hangs it up.
//!
//! The container's side is what an attacker may have taken over. The launcher's end therefore opens every stream
//! itself, but for dials, and the container's end can name neither a file nor a descriptor.

mod container;
mod end;
mod handshake;
mod header;
mod launcher;
mod liveness;
mod local;
mod messages;
mod mux;
mod options;
mod pump;
mod socket_half;
mod terminal;

pub use container::container_end;
pub use end::LinkEnd;
pub use handshake::{HANDSHAKE_TIMEOUT, MAX_SHOWN_BYTES};
pub use launcher::launcher_end;
pub use liveness::Liveness;
pub use local::{LocalMessage, MAX_DESCRIPTORS, MAX_MESSAGE_BYTES, receive, send};
pub use options::{ContainerOptions, FileWriter, LauncherOptions, LocalKind};

use std::time::Duration;

/// How long what is still to be carried may take once the process at one end has ended.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// How often it is looked whether a local socket that has ended in one direction is closed altogether.
const HANG_UP_INTERVAL: Duration = Duration::from_millis(200);

/// Most dials at a time. The container's end accepts no connection beyond.
pub const MAX_DIALS: usize = 32;

/// Most descriptors that are carried at a time. The launcher serves 64 programs of three streams each beside
/// the agent.
pub const MAX_OPEN_DESCRIPTORS: usize = 200;

/// Most files.
pub const MAX_FILES: usize = 16;
