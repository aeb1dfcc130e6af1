//! How the objects of a run are called, and the places in its containers.

use std::{os::unix::ffi::OsStrExt, path::Path};

use bot_bottle_engine::Labels;
use sha2::{Digest, Sha256};

use crate::steps::allocate::Run;

/// Where both containers have the volume with this binary, read-only.
pub(super) const PROGRAM_FOLDER: &str = bot_bottle_core::plan::AGENT_PROGRAM_FOLDER;

/// This binary in that volume.
pub(super) const PROGRAM: &str = "/opt/bot-bottle/agent/bot-bottle";

/// Where both containers have the volume in which the listening sockets are handed over.
pub const HAND_OVER_FOLDER: &str = "/run/bot-bottle/listeners";

/// Where the gateway's container has the certificates that its configuration names: the one place in memory that
/// every engine makes writable for any user.
pub(super) const CERTIFICATES_FOLDER: &str = "/dev/shm";

/// The end of the name of a workspace's volume.
pub(super) const WORKSPACE_SUFFIX: &str = "-workspace";

/// Label of every object of a run, with its identity.
pub(super) const RUN_LABEL: &str = "bot-bottle.run";

/// Label of every object of a run, with a name of the operator's folder of state: two of them share an engine.
pub(super) const HOME_LABEL: &str = "bot-bottle.home";

/// Labels by which `docker compose ls` and graphical tools show the objects of a run together.
pub(super) const COMPOSE_LABELS: [&str; 4] = [
    "com.docker.compose.project",
    "com.docker.compose.service",
    "com.docker.compose.container-number",
    "com.docker.compose.oneoff",
];

/// Hexadecimal digits of a hash that name a folder.
const HOME_DIGITS: usize = 16;

/// The value of [`HOME_LABEL`] for a folder of state, by its path without links.
pub(super) fn home_name(state: &Path) -> String {
    let hash = Sha256::digest(state.as_os_str().as_bytes());
    let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    digits[..HOME_DIGITS].to_owned()
}

/// The names of a run's objects, which no other run on this host has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    /// The agent's container.
    pub(super) agent: String,
    /// The gateway's container.
    pub(super) gateway: String,
    /// The gateway's network.
    pub(super) network: String,
    /// The volume with this binary.
    pub(super) program: String,
    /// The volume for handing over.
    pub(super) hand_over: String,
    /// The volume with the workspace.
    pub(super) workspace: String,
    identity: String,
    /// Of the folder of state.
    home: String,
}

impl Names {
    pub(super) fn of(run: &Run) -> Self {
        let name = &run.name;
        let object = |what: &str| format!("bot-bottle-{name}-{what}");
        Self {
            agent: object("agent"),
            gateway: object("gateway"),
            network: object("network"),
            program: object("program"),
            hand_over: object("listeners"),
            workspace: object("workspace"),
            identity: run.identity.to_string(),
            home: home_name(run.directory.parent().unwrap_or(&run.directory)),
        }
    }

    /// The labels of an object.
    pub(super) fn labels(&self, service: &str) -> Labels {
        let project = format!("bot-bottle-{}", self.identity);
        let own = [(RUN_LABEL, self.identity.as_str()), (HOME_LABEL, &self.home)];
        let compose = COMPOSE_LABELS.into_iter().zip([project.as_str(), service, "1", "False"]);
        own.into_iter().chain(compose).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}
