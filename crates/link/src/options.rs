//! What each end is told when it starts.

use std::{io, net::SocketAddr, os::fd::OwnedFd};

use crate::Liveness;

/// What the local sockets of both ends carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalKind {
    /// Messages: four bytes of length, little endian, and as many bytes, with descriptors on the first byte.
    Messages,
    /// Bytes, each direction until its end.
    Bytes,
}

/// Takes what was read from one file in the container. Its error ends the link. It is called where it may
/// block.
pub type FileWriter = Box<dyn FnMut(&[u8]) -> io::Result<()> + Send>;

/// What the launcher's end is told.
pub struct LauncherOptions {
    /// What the local socket carries.
    pub local: LocalKind,
    /// The files that are carried to the host, each with its name.
    pub files: Vec<(String, FileWriter)>,
    /// The loopback addresses that the container may dial.
    pub dials: Vec<SocketAddr>,
    /// How the end of the other end's life is noticed.
    pub liveness: Liveness,
}

impl LauncherOptions {
    /// Carries what the local socket carries, and nothing else.
    #[must_use]
    pub fn new(local: LocalKind) -> Self {
        Self { local, files: Vec::new(), dials: Vec::new(), liveness: Liveness::LAUNCHER }
    }
}

/// What the container's end is told.
#[derive(Debug)]
pub struct ContainerOptions {
    /// What the local socket carries.
    pub local: LocalKind,
    /// Readable ends of pipes, each with the name under which the launcher's end writes it.
    pub files: Vec<(String, OwnedFd)>,
    /// Listening sockets, each with the loopback address of the host that its connections are carried to.
    pub dials: Vec<(std::net::TcpListener, SocketAddr)>,
    /// How the end of the other end's life is noticed.
    pub liveness: Liveness,
}

impl ContainerOptions {
    /// Carries what the local socket carries, and nothing else.
    #[must_use]
    pub fn new(local: LocalKind) -> Self {
        Self { local, files: Vec::new(), dials: Vec::new(), liveness: Liveness::CONTAINER }
    }
}
