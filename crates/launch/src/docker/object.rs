//! An object that a run has in an engine.

use std::{fmt, io};

use bot_bottle_engine::{Engine, EngineAddress, EngineError};
use serde::{Deserialize, Serialize};

/// An object of an engine, by the name that the run gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineObject {
    /// Which engine.
    pub engine: EngineAddress,
    /// What it is.
    pub kind: ObjectKind,
    /// Its name.
    pub name: String,
}

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectKind {
    /// A container, running or not.
    Container,
    /// A network.
    Network,
    /// A volume.
    Volume,
    /// A reference to an image, and the image with its last one.
    Image,
}

impl EngineObject {
    /// An object of an engine, which need not exist.
    pub(super) fn new(engine: &EngineAddress, kind: ObjectKind, name: &str) -> Self {
        Self { engine: engine.clone(), kind, name: name.to_owned() }
    }

    /// Removes it, and ends what runs in it. Succeeds if it does not exist.
    pub(crate) fn remove(&self) -> io::Result<()> {
        self.try_remove().map_err(io::Error::other)
    }

    pub(super) fn try_remove(&self) -> Result<(), EngineError> {
        let engine = Engine::connect(&self.engine)?;
        match self.kind {
            ObjectKind::Container => engine.remove_container(&self.name),
            ObjectKind::Network => engine.remove_network(&self.name),
            ObjectKind::Volume => engine.remove_volume(&self.name),
            ObjectKind::Image => engine.remove_image(&self.name),
        }
    }
}

impl fmt::Display for EngineObject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ObjectKind::Container => "container",
            ObjectKind::Network => "network",
            ObjectKind::Volume => "volume",
            ObjectKind::Image => "image",
        };
        write!(formatter, "the {kind} {}", self.name)
    }
}
