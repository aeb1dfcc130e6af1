//! What the first process of an agent's container is told before it serves.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::init::spec::{Confinement, NetworkSpec};

/// The first message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ContainerSetup {
    /// The bottle's network.
    pub(crate) network: NetworkSpec,
    /// Where the gateway takes the sockets; `None` where there is no gateway, and every connection is refused.
    pub(crate) hand_over: Option<PathBuf>,
    /// How each program is confined.
    pub(crate) confinement: Confinement,
}

/// The second message, once the gateway serves: what the agent cannot change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SystemFiles {
    /// The agent's home, for its line in `/etc/passwd` where the image has none for its user.
    pub(crate) home: PathBuf,
    /// Files that are written over what the image has.
    pub(crate) files: Vec<SystemFile>,
}

/// A file of root's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SystemFile {
    /// Absolute.
    pub(crate) path: PathBuf,
    /// Base64 of its content.
    pub(crate) content: String,
    /// Whether it is made where the image has none.
    pub(crate) create: bool,
}
