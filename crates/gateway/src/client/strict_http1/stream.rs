//! The connection that an HTTP library reads.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use http::Response;
use http_body::{Body, Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};
use tokio_util::io::poll_read_buf;

use super::{Framing, Unreadable};
use crate::limits::HALF_CLOSE_TIMEOUT;

/// What the library reads in the place of bytes that cannot be read: a request that is answered with the
/// refusal of [`UpgradeState::unreadable`], so that the client gets it in the words of all refusals.
const IN_ITS_PLACE: &[u8] = b"GET / HTTP/1.1\r\nHost: unreadable.invalid\r\nConnection: close\r\n\r\n";

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
    /// The client has ended its side; until when its end is kept from the library.
    half_closed: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Another protocol: everything passes.
    Switched,
    /// Nothing more passes but what is left of [`IN_ITS_PLACE`].
    Refused(&'static [u8]),
}

/// Tells a connection how its requests were answered: whether bytes that follow are another request, or
/// another protocol.
#[derive(Debug, Clone, Default)]
pub(crate) struct UpgradeState(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    answered: AtomicUsize,
    switched: AtomicBool,
    /// Responses that have passed whole, or were given up.
    finished: AtomicUsize,
    inside_a_head: AtomicBool,
    /// Which request stands in the place of bytes that could not be read, counted from 1, and why.
    unreadable: OnceLock<(usize, Unreadable)>,
    waker: Mutex<Option<Waker>>,
}

impl UpgradeState {
    /// One more request was answered, in their order; `switched` if the client may go on with another
    /// protocol.
    pub(crate) fn answered(&self, switched: bool) {
        // Store `switched` first: `outcome` reads the count, then the flag.
        self.0.switched.store(switched, Ordering::Release);
        self.0.answered.fetch_add(1, Ordering::Release);
        if let Some(waker) = self.waker().take() {
            waker.wake();
        }
    }

    /// Why the request that is to be answered next stands in the place of bytes that could not be read, if it
    /// does.
    pub(in crate::client) fn unreadable(&self) -> Option<Unreadable> {
        let next = self.0.answered.load(Ordering::Acquire) + 1;
        self.0.unreadable.get().filter(|(number, _)| *number == next).map(|(_, why)| *why)
    }

    /// A response that tells when its body has ended.
    pub(in crate::client) fn track<B>(&self, response: Response<B>) -> Response<Tracked<B>> {
        response.map(|body| Tracked { body, upgrades: self.clone() })
    }

    fn finished(&self) {
        self.0.finished.fetch_add(1, Ordering::Release);
        if let Some(waker) = self.waker().take() {
            waker.wake();
        }
    }

    /// Whether so many requests have their whole responses.
    fn is_idle(&self, requests: usize) -> bool {
        self.0.finished.load(Ordering::Acquire) >= requests
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

/// The body of a response, whose end is told to the connection.
#[derive(Debug)]
pub(in crate::client) struct Tracked<B> {
    body: B,
    upgrades: UpgradeState,
}

impl<B> Drop for Tracked<B> {
    fn drop(&mut self) {
        self.upgrades.finished();
    }
}

impl<B: Body + Unpin> Body for Tracked<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
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
            half_closed: None,
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
            Err(why) => {
                // Ignored where a request was refused before: there is one end.
                self.heads += 1;
                let _ = self.upgrades.0.unreadable.set((self.heads, why));
                self.end = Some(End::Refused(IN_ITS_PLACE));
            }
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

impl<S> StrictStream<S> {
    /// The client has ended its side. The library would take that for the end of the connection and drop the
    /// requests that wait for a response; but a client may only be done with asking (`shutdown(SHUT_WR)`, `nc
    /// -N`). Which of the two it is shows when something is written to it, so the end is kept back for a
    /// while.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        *self.upgrades.waker() = Some(context.waker().clone());
        let is_between_messages = self.pending.is_empty() && matches!(self.framing, Framing::Head(_));
        if !is_between_messages || self.upgrades.is_idle(self.heads) {
            return Poll::Ready(Ok(()));
        }
        let deadline = self.half_closed.get_or_insert_with(|| Box::pin(sleep(HALF_CLOSE_TIMEOUT)));
        deadline.as_mut().poll(context).map(Ok)
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
                    if rest.is_empty() {
                        *this.upgrades.waker() = Some(context.waker().clone());
                        // Until the refusal has been sent: the library drops what it does at the end of the
                        // stream.
                        let is_sent = this.upgrades.is_idle(this.heads);
                        return if is_sent { Poll::Ready(Ok(())) } else { Poll::Pending };
                    }
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
            if this.half_closed.is_none() && ready!(this.poll_more(context))? {
                continue;
            }
            // What was held back is no whole message, so there is no more.
            return this.poll_end(context);
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
