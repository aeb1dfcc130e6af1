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
