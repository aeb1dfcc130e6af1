//! Request bodies that are read, and answers that are written, while they travel.

use std::{
    future::Future,
    io::{self, Read, Write},
    pin::{Pin, pin},
    time::Duration,
};

use bot_bottle_core::error::{IoContext as _, IoError};
use bytes::Bytes;
use futures_util::{
    Stream, StreamExt as _,
    future::{Either, select},
    stream::poll_fn,
};
use tokio::sync::mpsc;

use crate::{EngineError, connection::BollardResult, engine::within, error::Purpose};

/// Bytes of a request body that are read at a time.
const CHUNK: usize = 64 * 1024;

/// Chunks that are read ahead of the connection.
const CHUNKS_AHEAD: usize = 4;

/// How long the engine may take or give nothing while a body travels.
pub(crate) const STALL_LIMIT: Duration = Duration::from_secs(120);

/// The body of a request, for [`bollard::body_try_stream`].
pub(crate) type Body = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// Makes a request whose body is read from `source` while it is sent. `answer_limit` is how long the engine may
/// take when it has the whole body; `None` is no limit.
///
/// The source is read on this thread: the connection stands still meanwhile, which harms nothing else, as the
/// runtime has no other work.
pub(crate) async fn send<T, F: Future<Output = Result<T, EngineError>>>(
    action: &str,
    source: &mut dyn Read,
    answer_limit: Option<Duration>,
    request: impl FnOnce(Body) -> F,
) -> Result<T, EngineError> {
    let (sender, mut receiver) = mpsc::channel::<io::Result<Bytes>>(CHUNKS_AHEAD);
    let request = pin!(request(Box::pin(poll_fn(move |context| receiver.poll_recv(context)))));
    let feed = pin!(feed(action, source, sender));
    match select(feed, request).await {
        // The engine may answer before it has everything: it refuses.
        Either::Right((answer, _)) => answer,
        Either::Left((fed, request)) => {
            fed?;
            match answer_limit {
                Some(limit) => within(action, limit, request).await?,
                None => request.await,
            }
        }
    }
}

/// Succeeds also when the engine takes no more: the answer says why.
async fn feed(
    action: &str,
    source: &mut dyn Read,
    sender: mpsc::Sender<io::Result<Bytes>>,
) -> Result<(), EngineError> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let size = match source.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(size) => size,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                // The body has to end with an error, or the engine takes what it has for the whole.
                let broken_off = io::Error::from(error.kind());
                let _ = sender.send(Err(broken_off)).await;
                return Err(IoError::new(format!("{action}: reading what is sent"), error).into());
            }
        };
        let chunk = Bytes::copy_from_slice(&buffer[..size]);
        if within(action, STALL_LIMIT, sender.send(Ok(chunk))).await?.is_err() {
            return Ok(());
        }
    }
}

/// Writes an answer's body to `target`. Returns its size in bytes.
pub(crate) async fn receive(
    action: &str,
    body: impl Stream<Item = BollardResult<Bytes>>,
    target: &mut dyn Write,
) -> Result<u64, EngineError> {
    let mut body = pin!(body);
    let mut size = 0;
    while let Some(chunk) = within(action, STALL_LIMIT, body.next()).await? {
        let chunk = chunk.map_err(|error| EngineError::new(action, Purpose::Other, error))?;
        target.write_all(&chunk).io_context(|| format!("{action}: writing what is received"))?;
        size += chunk.len() as u64;
    }
    target.flush().io_context(|| format!("{action}: writing what is received"))?;
    Ok(size)
}
