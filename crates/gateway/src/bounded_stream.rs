//! A connection with the bounds that every connection has.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep},
};

use crate::limits::{LINGER_IDLE_TIMEOUT, LINGER_TIMEOUT};

/// A connection of a client or to an upstream. Where a bottle has no network of its own to share, its clients
/// come over Unix sockets.
#[derive(Debug)]
pub(crate) enum StreamSocket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl StreamSocket {
    /// Small writes must not wait for acknowledgements: responses of models come word by word.
    pub(crate) fn set_nodelay(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nodelay(true),
            Self::Unix(_) => Ok(()),
        }
    }

    /// Writes as much as can be written without waiting.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Unix(stream) => stream.try_write(bytes),
        }
    }
}

/// Calls a method of the stream inside, whichever it is.
macro_rules! delegate {
    ($socket:expr, $method:ident($($argument:expr),*)) => {
        match $socket.get_mut() {
            StreamSocket::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            StreamSocket::Unix(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for StreamSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        delegate!(self, poll_read(context, buffer))
    }
}

impl AsyncWrite for StreamSocket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(self, poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, poll_shutdown(context))
    }
}

/// A connection that fails with [`io::ErrorKind::TimedOut`] when nothing passes for too long, can be given
/// back bytes that were read from it, and holds its place among the connections until it is dropped.
///
/// The bound sits here, below TLS and HTTP, because here it holds for all that a connection can become: a
/// stalled handshake, body, WebSocket or HTTP/2 connection is the same silence.
#[derive(Debug)]
pub(crate) struct BoundedStream {
    stream: StreamSocket,
    unread: Bytes,
    idle: Idle,
    lingering: Lingering,
    _permit: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
struct Idle {
    limit: Duration,
    activity: Activity,
    sleep: Pin<Box<Sleep>>,
}

/// When something last passed on a connection. A request that is held counts as something:
/// [`Activity::touch`].
#[derive(Debug, Clone)]
pub(crate) struct Activity(Arc<Mutex<Instant>>);

impl Activity {
    fn now() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    /// Begins the idle time anew.
    pub(crate) fn touch(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a closing connection is read on (see [`LINGER_TIMEOUT`]).
#[derive(Debug)]
enum Lingering {
    Never,
    WhenClosed,
    Reading { until: Instant, deadline: Pin<Box<Sleep>> },
}

impl BoundedStream {
    /// The connection of a client: its place is held, and it lingers when it is closed.
    pub(crate) fn of_client(stream: StreamSocket, limit: Duration, permit: OwnedSemaphorePermit) -> Self {
        Self { lingering: Lingering::WhenClosed, _permit: Some(permit), ..Self::new(stream, limit) }
    }

    /// A connection to an upstream: its place is held.
    pub(crate) fn of_upstream(stream: TcpStream, limit: Duration, permit: OwnedSemaphorePermit) -> Self {
        Self { _permit: Some(permit), ..Self::new(StreamSocket::Tcp(stream), limit) }
    }

    fn new(stream: StreamSocket, limit: Duration) -> Self {
        Self {
            stream,
            unread: Bytes::new(),
            idle: Idle { limit, activity: Activity::now(), sleep: Box::pin(tokio::time::sleep(limit)) },
            lingering: Lingering::Never,
            _permit: None,
        }
    }

    /// When something last passed.
    pub(crate) fn activity(&self) -> Activity {
        self.idle.activity.clone()
    }

    /// Gives back what was read, to be read again.
    pub(crate) fn unread(&mut self, bytes: Bytes) {
        self.unread = if self.unread.is_empty() {
            bytes
        } else {
            [bytes.as_ref(), self.unread.as_ref()].concat().into()
        };
    }
}

impl Idle {
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        while self.sleep.as_mut().poll(context).is_ready() {
            let deadline = self.activity.last() + self.limit;
            if deadline <= Instant::now() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "nothing passed for too long"));
            }
            self.sleep.as_mut().reset(deadline);
        }
        Ok(())
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.unread.is_empty() {
            let length = this.unread.len().min(buffer.remaining());
            buffer.put_slice(&this.unread[..length]);
            this.unread.advance(length);
            return Poll::Ready(Ok(()));
        }
        match Pin::new(&mut this.stream).poll_read(context, buffer) {
            Poll::Ready(done) => {
                this.idle.activity.touch();
                Poll::Ready(done)
            }
            Poll::Pending => {
                this.idle.check(context)?;
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_by(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_by(context, |stream, context| stream.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match &mut this.lingering {
                Lingering::Never => return Pin::new(&mut this.stream).poll_shutdown(context),
                Lingering::WhenClosed => {
                    ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
                    let now = Instant::now();
                    this.lingering = Lingering::Reading {
                        until: now + LINGER_TIMEOUT,
                        deadline: Box::pin(tokio::time::sleep_until(now + LINGER_IDLE_TIMEOUT)),
                    };
                }
                Lingering::Reading { until, deadline } => {
                    let mut scratch = [0; 16 * 1024];
                    let mut buffer = ReadBuf::new(&mut scratch);
                    if deadline.as_mut().poll(context).is_ready() {
                        return Poll::Ready(Ok(()));
                    }
                    match ready!(Pin::new(&mut this.stream).poll_read(context, &mut buffer)) {
                        Ok(()) if !buffer.filled().is_empty() => {
                            deadline.as_mut().reset((*until).min(Instant::now() + LINGER_IDLE_TIMEOUT));
                        }
                        Ok(()) | Err(_) => return Poll::Ready(Ok(())),
                    }
                }
            }
        }
    }
}

impl BoundedStream {
    fn poll_write_by(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut StreamSocket>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match write(Pin::new(&mut self.stream), context) {
            Poll::Ready(done) => {
                self.idle.activity.touch();
                Poll::Ready(done)
            }
            Poll::Pending => {
                self.idle.check(context)?;
                Poll::Pending
            }
        }
    }
}
