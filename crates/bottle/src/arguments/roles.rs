//! The parts that this binary plays itself: commands that no operator types.

use std::{net::SocketAddr, path::PathBuf};

use bot_bottle_engine::EngineAddress;
use clap::{Args, ValueEnum};

/// Answers a question about an agent's work, in a throw-away bottle.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// Where the agent's home is.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) home: Option<PathBuf>,

    /// A folder on a disk that does not exist yet, for what git needs.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) scratch: PathBuf,
}

/// Says in a bottle what its agent wrote.
#[derive(Debug, Args)]
pub(crate) struct Written {
    /// What the launcher asks, as JSON.
    pub(crate) question: String,
}

/// The first process of a gateway's container.
#[derive(Debug, Args)]
pub(crate) struct ContainerGateway {
    /// Addresses to listen at, whose connections are carried to the same addresses of the host.
    #[arg(long = "dial", value_name = "ADDRESS")]
    pub(crate) dials: Vec<SocketAddr>,
}

/// Holds the link between the launcher and a container.
#[derive(Debug, Args)]
pub(crate) struct ContainerLink {
    /// The launcher's socket.
    #[arg(long, value_name = "FD")]
    pub(crate) control_fd: i32,

    /// Where the engine listens.
    #[arg(long, value_parser = EngineAddress::parse)]
    pub(crate) engine: EngineAddress,

    /// The container's name.
    #[arg(long)]
    pub(crate) container: String,

    /// What the launcher's socket carries.
    #[arg(long)]
    pub(crate) carries: LinkCarries,

    /// Where the gateway's receipts are written.
    #[arg(long, value_name = "FILE")]
    pub(crate) receipts: Option<PathBuf>,

    /// Bytes that they may take.
    #[arg(long, value_name = "BYTES", requires = "receipts")]
    pub(crate) receipts_bytes: Option<u64>,

    /// Loopback addresses of this host that the container may have dialled.
    #[arg(long = "dial", value_name = "ADDRESS")]
    pub(crate) dials: Vec<SocketAddr>,
}

/// What the launcher's socket of a link carries.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LinkCarries {
    /// Messages with descriptors.
    Messages,
    /// A stream of bytes.
    Bytes,
}

/// The scripted agent of the demo.
#[derive(Debug, Args)]
pub(crate) struct DemoAgent {
    /// What the demo on the host told it, as JSON.
    pub(crate) script: String,
}
