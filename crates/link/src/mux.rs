//! The yamux connection, and who may open streams on it.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, oneshot},
};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};
use yamux::{Config, Connection, ConnectionError, DEFAULT_CREDIT, Mode, Stream};

use crate::{
    LinkEnd, MAX_DIALS, MAX_FILES, MAX_OPEN_DESCRIPTORS,
    header::{self, Header},
};

/// Most streams at a time: two for each dial, and those of the local socket and the pings.
const MAX_STREAMS: usize = MAX_OPEN_DESCRIPTORS + 2 * MAX_DIALS + MAX_FILES + 16;

/// Streams that yamux opens before the other end has acknowledged one of them; further ones wait.
const MAX_ACK_BACKLOG: usize = 256;

// A stream on which the other end only reads is acknowledged late. All that the launcher's end may open have to
// be possible at once, with those of the local socket and the pings, so that no opening waits for another's end.
const _: () = assert!(MAX_OPEN_DESCRIPTORS + MAX_DIALS + MAX_FILES + 3 <= MAX_ACK_BACKLOG);

/// Largest piece of a stream that is sent at once, in bytes. A ping waits for so many of each other stream.
const MAX_PIECE_BYTES: usize = 32 << 10;

/// Requests for a stream that wait.
const MAX_WAITING_REQUESTS: usize = 16;

/// Asks the connection for streams.
#[derive(Clone)]
pub(crate) struct Opener(mpsc::Sender<oneshot::Sender<Stream>>);

impl Opener {
    /// Opens a stream.
    pub(crate) async fn open(&self, header: &Header) -> Result<Stream, LinkEnd> {
        let (answer, stream) = oneshot::channel();
        self.0.send(answer).await.map_err(|_| LinkEnd::Lost(None))?;
        let mut stream = stream.await.map_err(|_| LinkEnd::Lost(None))?;
        header::write(&mut stream, header).await.map_err(|_| LinkEnd::Lost(None))?;
        Ok(stream)
    }
}

/// The connection. It moves only while [`Mux::next`] or [`Mux::close`] is polled.
pub(crate) struct Mux<S> {
    connection: Connection<Compat<S>>,
    requests: mpsc::Receiver<oneshot::Sender<Stream>>,
    /// The request that is served now.
    request: Option<oneshot::Sender<Stream>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Mux<S> {
    pub(crate) fn new(stream: S, mode: Mode) -> (Self, Opener) {
        let mut config = Config::default();
        // No stream gets a larger window than the 256 KiB that the specification gives it at first.
        config.set_max_num_streams(MAX_STREAMS);
        config.set_max_connection_receive_window(Some(MAX_STREAMS * DEFAULT_CREDIT as usize));
        config.set_split_send_size(MAX_PIECE_BYTES);
        let (opener, requests) = mpsc::channel(MAX_WAITING_REQUESTS);
        let connection = Connection::new(stream.compat(), config, mode);
        (Self { connection, requests, request: None }, Opener(opener))
    }

    /// The next stream that the other end opens; `Err` at the end of the connection.
    pub(crate) async fn next(&mut self) -> Result<Stream, LinkEnd> {
        poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Stream, LinkEnd>> {
        loop {
            if self.request.is_none()
                && let Poll::Ready(Some(request)) = self.requests.poll_recv(context)
            {
                self.request = Some(request);
            }
            let Some(request) = self.request.take() else { break };
            match self.connection.poll_new_outbound(context) {
                // The task that asked for the stream may be gone: the stream is dropped then.
                Poll::Ready(Ok(stream)) => drop(request.send(stream)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(lost(&error))),
                Poll::Pending => {
                    self.request = Some(request);
                    break;
                }
            }
        }
        self.connection.poll_next_inbound(context).map(|next| match next {
            None => Err(LinkEnd::Lost(None)),
            Some(Ok(stream)) => Ok(stream),
            Some(Err(error)) => Err(lost(&error)),
        })
    }

    /// Tells the other end that this one ends.
    pub(crate) async fn close(&mut self) {
        // The other end may be gone already.
        let _ = poll_fn(|context| self.connection.poll_close(context)).await;
    }
}

fn lost(error: &ConnectionError) -> LinkEnd {
    match error {
        ConnectionError::Closed => LinkEnd::Lost(None),
        ConnectionError::Decode(yamux::FrameDecodeError::Io(error)) => LinkEnd::Lost(Some(error.to_string())),
        ConnectionError::Io(error) => LinkEnd::Lost(Some(error.to_string())),
        ConnectionError::Decode(error) => LinkEnd::violation(error.to_string()),
        error => LinkEnd::violation(error.to_string()),
    }
}
