//! A client of the container engine of this host: docker, or podman through its compatible socket.
//!
//! It speaks the Engine API over a unix socket and needs no `docker` program. [`Engine`] is synchronous, for a
//! caller without an async runtime; [`attach`] is async, for the process that carries a container's streams.
//! The types are the engine's terms and nothing of this project's: what a bottle is, the caller knows.
//!
//! The engine is trusted, as whoever can use its socket is root on its host. What containers do is not: their
//! output reaches the caller only in bounded pieces.

mod address;
mod archive;
mod attach;
mod body;
mod connection;
mod container;
mod credentials;
mod engine;
mod error;
mod image;
mod info;
mod json;
mod name;
mod network;
mod progress;
mod volume;

pub use address::{AddressError, EngineAddress, EngineEnvironment};
pub use archive::{PathKind, PathStat};
pub use attach::{Attachment, attach};
pub use container::{
    ContainerSpec, ContainerState, ContainerStatus, ContainerSummary, Limits, Mount, MountKind, Ulimit,
};
pub use credentials::{CredentialsError, RegistryCredentials};
pub use engine::Engine;
pub use error::{EngineError, RefusalKind};
pub use image::{BuildSpec, Image, ImageConfig, ImageSummary};
pub use info::{ApiVersion, EnforcedLimits, EngineInfo, EngineKind};
pub use network::{Network, NetworkSpec};
pub use volume::Volume;

/// Labels of an object, by which its owner finds it again.
pub type Labels = std::collections::BTreeMap<String, String>;
