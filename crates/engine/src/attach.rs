//! The standard streams of a container.

use std::{fmt, io, pin::Pin};

use bollard::{container::LogOutput, query_parameters::AttachContainerOptions};
use futures_util::{StreamExt as _, future::ready};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::StreamReader;

use crate::{
    EngineAddress, EngineError,
    connection::{CALL_LIMIT, Connection},
    engine::within,
    error::Purpose,
    name,
};

/// The streams of a container without a terminal.
pub struct Attachment {
    /// Its standard output, until the container ends. While it is not read, the engine's buffers fill and the
    /// container's writes block, those to standard error too: both travel on one connection.
    pub stdout: Pin<Box<dyn AsyncRead + Send>>,
    /// Its standard input. To shut it down closes the container's, if it was created with `stdin_once`.
    pub stdin: Pin<Box<dyn AsyncWrite + Send>>,
}

impl fmt::Debug for Attachment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Attachment").finish_non_exhaustive()
    }
}

/// Attaches to the streams of a container, on the runtime of the caller. A container that is attached to before
/// it is started loses no output. `stderr` is called with pieces of standard error while `stdout` is read.
///
/// # Errors
/// When the engine does not answer, or there is no such container.
pub async fn attach(
    address: &EngineAddress,
    container: &str,
    mut stderr: impl FnMut(&[u8]) + Send + 'static,
) -> Result<Attachment, EngineError> {
    let container = name::object(container)?;
    let action = format!("attaching to the container {container}");
    let connection = Connection::open(address).await?;
    let options = AttachContainerOptions {
        stream: true,
        stdin: true,
        stdout: true,
        stderr: true,
        logs: false,
        detach_keys: None,
    };
    let attached = connection.docker.attach_container(container, Some(options));
    let attached = within(&action, CALL_LIMIT, attached).await?;
    let attached = attached.map_err(|error| EngineError::new(&action, Purpose::Other, error))?;
    let stdout = attached.output.filter_map(move |piece| {
        ready(match piece {
            Ok(LogOutput::StdErr { message }) => {
                stderr(&message);
                None
            }
            // An empty piece would be taken for the end.
            Ok(piece) => Some(piece.into_bytes()).filter(|bytes| !bytes.is_empty()).map(Ok),
            Err(error) => Some(Err(io::Error::other(error))),
        })
    });
    Ok(Attachment { stdout: Box::pin(StreamReader::new(stdout)), stdin: attached.input })
}
