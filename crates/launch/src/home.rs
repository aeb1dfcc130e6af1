//! The layout of bot-bottle's folder: `~/.bot-bottle`, or where `BOT_BOTTLE_HOME` points.

use std::path::{Path, PathBuf};

use bot_bottle_core::identity::Identity;

/// The operator's folder. The caller reads the environment; this only knows the layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BotBottleHome(PathBuf);

impl BotBottleHome {
    /// Takes an absolute path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Bottles' manifests.
    #[must_use]
    pub fn bottles(&self) -> PathBuf {
        self.0.join("bottles")
    }

    /// Agents' manifests.
    #[must_use]
    pub fn agents(&self) -> PathBuf {
        self.0.join("agents")
    }

    /// The cache of agent programs.
    #[must_use]
    pub fn providers(&self) -> PathBuf {
        self.0.join("providers")
    }

    /// Where smolvm keeps the machines. The name is short: the paths of its sockets have a limit.
    #[must_use]
    pub fn machines(&self) -> PathBuf {
        self.0.join("vm")
    }

    /// Archives of images that machines are made of.
    #[must_use]
    pub fn machine_images(&self) -> PathBuf {
        self.0.join("images")
    }

    /// One folder per run.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    /// The folder of one run.
    #[must_use]
    pub fn run(&self, identity: &Identity) -> PathBuf {
        self.state().join(identity.as_str())
    }
}
