//! How much is read at once of a connection to an upstream.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Semaphore,
};

use crate::limits::{FEW_UPSTREAM_CONNECTIONS, MAX_UPSTREAM_CONNECTIONS, SMALL_READ_BYTES};

/// A connection of which [`SMALL_READ_BYTES`] bytes are read at once while there are many. hyper's buffer grows with what
/// it reads, and every connection has one, whether or not its client takes what is in it.
#[derive(Debug)]
pub(super) struct Reads<S> {
    stream: S,
    /// The permits for connections that are left.
    connections: Arc<Semaphore>,
}

impl<S> Reads<S> {
    pub(super) fn new(stream: S, connections: &Arc<Semaphore>) -> Self {
        Self { stream, connections: Arc::clone(connections) }
    }

    fn are_small(&self) -> bool {
        MAX_UPSTREAM_CONNECTIONS - self.connections.available_permits() > FEW_UPSTREAM_CONNECTIONS
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Reads<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() <= SMALL_READ_BYTES || !self.are_small() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(SMALL_READ_BYTES));
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut part))?;
        let length = part.filled().len();
        buffer.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Reads<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
