//! The first bytes of each yamux stream: what it is for.

use std::{io, net::SocketAddr, time::Duration};

use futures_util::{AsyncReadExt, AsyncWriteExt};
use serde::{Deserialize, Serialize};
use yamux::Stream;

/// Largest header, in bytes.
const MAX_HEADER_BYTES: usize = 512;

/// How long a stream's header may take.
pub(crate) const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// What a stream is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Header {
    /// What the launcher's local socket says.
    FromLauncher,
    /// What the container's local socket says.
    FromContainer,
    /// Pings and their answers.
    Ping,
    /// A descriptor of a message, by its number: descriptors are counted by both ends.
    Descriptor(u64),
    /// What is read from a file in the container.
    File(String),
    /// What a connection in the container says to an address of the host. The one kind that the container's
    /// end opens.
    Dial {
        /// Names the connection.
        number: u64,
        /// Where to.
        address: SocketAddr,
    },
    /// What the host answers to that connection.
    Dialled(u64),
}

/// Writes the header of a stream that was opened.
pub(crate) async fn write(stream: &mut Stream, header: &Header) -> io::Result<()> {
    let json = serde_json::to_vec(header)?;
    let length = u16::try_from(json.len()).ok().filter(|_| json.len() <= MAX_HEADER_BYTES);
    let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "header too long"))?;
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend(json);
    stream.write_all(&bytes).await
}

/// Reads the header of a stream that the other end opened.
pub(crate) async fn read(stream: &mut Stream) -> io::Result<Header> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).await?;
    let length = usize::from(u16::from_le_bytes(length));
    if length > MAX_HEADER_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "header too long"));
    }
    let mut json = vec![0; length];
    stream.read_exact(&mut json).await?;
    Ok(serde_json::from_slice(&json)?)
}
