//! Why a link ended.

use std::{io, time::Duration};

use thiserror::Error;

/// Why a link ended.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LinkEnd {
    /// The process in the container ended its part, and what it had written was carried to the end.
    #[error("the process in the container has ended")]
    Finished,
    /// The launcher closed its socket, and the process in the container did not end in time.
    #[error("the launcher has closed the link")]
    LauncherGone,
    /// The byte stream ended or failed: the engine, the container or the other end died.
    #[error("the byte stream of the link ended{}", .0.as_ref().map(|why| format!(": {why}")).unwrap_or_default())]
    Lost(Option<String>),
    /// What came is not what the other end says first.
    #[error("the other end is not the counterpart of this link; it began with `{}`", .0.escape_ascii())]
    NotALink(Vec<u8>),
    /// The other end said too little in time.
    #[error("the other end did not begin the link within {limit:?}; it said `{}`", .said.escape_ascii())]
    HandshakeTimeout {
        /// The time that it had.
        limit: Duration,
        /// What it said.
        said: Vec<u8>,
    },
    /// The other end is alive no more.
    #[error("the other end of the link has been silent for {0:?}")]
    Silent(Duration),
    /// The other end did what it may not do.
    #[error("the other end broke the protocol of the link: {0}")]
    Violation(String),
    /// The container's end has no descriptor for a file that the launcher's end writes.
    #[error("the container has no file named `{0}`")]
    UnknownFile(String),
    /// What was read in the container could not be written on the host.
    #[error("writing `{name}` failed: {source}")]
    File {
        /// The file's name on the link.
        name: String,
        /// The writer's error.
        source: io::Error,
    },
    /// The local socket failed, or what came over it is not a message that may be carried.
    #[error("the local socket of the link failed: {0}")]
    Local(#[source] io::Error),
    /// An address that is not on the loopback interface was to be dialled.
    #[error("{0} is not a loopback address")]
    NotLoopback(std::net::SocketAddr),
    /// More names or addresses than there may be.
    #[error("too many {0} for one link")]
    TooMany(&'static str),
}

impl LinkEnd {
    /// The other end broke the protocol.
    pub(crate) fn violation(what: impl Into<String>) -> Self {
        Self::Violation(what.into())
    }
}
