//! The connection that an HTTP library reads.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

use super::Framing;

/// What the library reads in the place of bytes that are ambiguous: it answers them with 400 and closes.
const NO_REQUEST: &[u8] = b"\0\r\n\r\n";

/// Bytes that are read from the connection at one time while a head is put together.
const READ_BYTES: usize = 16 * 1024;

/// Bytes that are held back while the answer decides what they are.
const MAX_HELD_BACK: usize = 64 * 1024;

/// A connection from which nothing ambiguous can be read.
#[derive(Debug)]
pub(crate) struct StrictStream<S> {
    stream: S,
    framing: Framing,
    /// Read, and not yet passed on.
    pending: BytesMut,
    /// How many bytes of it may be passed on.
    passing: usize,
    /// Heads that passed.
    heads: usize,
    upgrades: UpgradeState,
    /// What the connection became, when it has.
    end: Option<End>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Another protocol: everything passes.
    Switched,
    /// Nothing more passes but what is left of [`NO_REQUEST`].
    Refused(&'static [u8]),
}

/// Tells a connection how its requests were answered: whether bytes that follow are another request, or another
/// protocol.
#[derive(Debug, Clone, Default)]
pub(crate) struct UpgradeState(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    answered: AtomicUsize,
    switched: AtomicBool,
    inside_a_head: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl UpgradeState {
    /// One more request was answered, in their order; `switched` if the client may go on with another protocol.
    pub(crate) fn answered(&self, switched: bool) {
        // Store `switched` first: `outcome` reads the count, then the flag.
        self.0.switched.store(switched, Ordering::Release);
        self.0.answered.fetch_add(1, Ordering::Release);
        if let Some(waker) = self.waker().take() {
            waker.wake();
        }
    }

    /// Whether the client has begun a request and not finished its head.
    pub(crate) fn is_inside_a_head(&self) -> bool {
        self.0.inside_a_head.load(Ordering::Relaxed)
    }

    /// Whether the last of so many requests is answered, and with what.
    fn outcome(&self, requests: usize) -> Option<bool> {
        let is_answered = self.0.answered.load(Ordering::Acquire) >= requests;
        is_answered.then(|| self.0.switched.load(Ordering::Acquire))
    }

    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.0.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> StrictStream<S> {
    /// A connection before its first request.
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            framing: Framing::message(),
            pending: BytesMut::new(),
            passing: 0,
            heads: 0,
            upgrades: UpgradeState::default(),
            end: None,
        }
    }

    /// The handle through which the connection is told of each response.
    pub(crate) fn upgrade_state(&self) -> UpgradeState {
        self.upgrades.clone()
    }

    /// The connection itself, and what was read from it and held back.
    pub(crate) fn into_parts(self) -> (S, Bytes) {
        (self.stream, self.pending.freeze())
    }

    /// Decides how much of what was read may pass.
    fn accept(&mut self, context: &Context<'_>) {
        if self.framing == Framing::Undecided {
            *self.upgrades.waker() = Some(context.waker().clone());
            match self.upgrades.outcome(self.heads) {
                None => return,
                Some(true) => {
                    self.end = Some(End::Switched);
                    return;
                }
                Some(false) => self.framing = Framing::message(),
            }
        }
        let was_head = matches!(self.framing, Framing::Head(_));
        match self.framing.advance(&self.pending) {
            Ok(passing) => {
                self.passing = passing;
                self.heads += usize::from(was_head && passing > 0);
                self.upgrades.0.inside_a_head.store(was_head && passing == 0, Ordering::Relaxed);
            }
            Err(_) => self.end = Some(End::Refused(NO_REQUEST)),
        }
    }
}

impl<S: AsyncRead + Unpin> StrictStream<S> {
    /// Reads more to decide about. `false`: the client has ended.
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        self.pending.reserve(READ_BYTES);
        let read = ready!(poll_read_buf(Pin::new(&mut self.stream), context, &mut self.pending))?;
        Poll::Ready(Ok(read > 0))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StrictStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match this.end {
                Some(End::Refused(rest)) => {
                    let length = rest.len().min(out.remaining());
                    out.put_slice(&rest[..length]);
                    this.end = Some(End::Refused(&rest[length..]));
                    return Poll::Ready(Ok(()));
                }
                Some(End::Switched) if this.pending.is_empty() => {
                    return Pin::new(&mut this.stream).poll_read(context, out);
                }
                Some(End::Switched) => this.passing = this.pending.len(),
                None => {}
            }
            if this.passing > 0 {
                let length = this.passing.min(out.remaining());
                out.put_slice(&this.pending[..length]);
                this.pending.advance(length);
                this.passing -= length;
                return Poll::Ready(Ok(()));
            }
            if !this.pending.is_empty() || this.framing == Framing::Undecided {
                this.accept(context);
                if this.passing > 0 || this.end.is_some() {
                    continue;
                }
                if this.pending.len() >= MAX_HELD_BACK && this.framing == Framing::Undecided {
                    return Poll::Pending;
                }
            }
            if !ready!(this.poll_more(context))? {
                // What was held back is no whole message, so there is no more.
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StrictStream<S> {
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
        slices: &[io::IoSlice<'_>],
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
