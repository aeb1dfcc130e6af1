//! The process on the host that holds the link to a container.
//!
//! The link is the container's standard input and output: what [`crate::init::link_process`] holds inside.

use std::{
    collections::BTreeSet,
    ffi::{CString, OsString},
    io,
    net::SocketAddr,
    os::unix::ffi::OsStringExt,
    path::PathBuf,
};

use bot_bottle_core::limits::ByteSize;
use bot_bottle_engine::EngineAddress;

/// `bot-bottle container-link`: it attaches to the container, starts it, and ends with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkCommand {
    /// Whose container.
    pub engine: EngineAddress,
    /// Its name.
    pub container: String,
    /// What its local socket carries.
    pub carries: Carries,
    /// Where receipts go, and the bytes that they may take.
    pub receipts: Option<(PathBuf, Option<ByteSize>)>,
    /// Addresses of the host's loopback that the container may have dialled.
    pub dials: BTreeSet<SocketAddr>,
}

/// What the local socket of a link carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carries {
    /// Messages with descriptors, for the first process of a sandbox.
    Messages,
    /// A stream of bytes, for a gateway.
    Bytes,
}

impl LinkCommand {
    /// The command line, whose control socket is descriptor 3.
    pub(crate) fn arguments(&self) -> io::Result<Vec<CString>> {
        let carries = match self.carries {
            Carries::Messages => "messages",
            Carries::Bytes => "bytes",
        };
        let mut arguments: Vec<OsString> = vec![
            "bot-bottle".into(),
            "container-link".into(),
            "--control-fd=3".into(),
            format!("--engine={}", self.engine).into(),
            format!("--container={}", self.container).into(),
            format!("--carries={carries}").into(),
        ];
        if let Some((path, bytes)) = &self.receipts {
            arguments.extend(["--receipts".into(), path.clone().into_os_string()]);
            arguments.extend(bytes.map(|bytes| format!("--receipts-bytes={}", bytes.0).into()));
        }
        arguments.extend(self.dials.iter().map(|address| format!("--dial={address}").into()));
        arguments.into_iter().map(|text| Ok(CString::new(text.into_vec())?)).collect()
    }
}
