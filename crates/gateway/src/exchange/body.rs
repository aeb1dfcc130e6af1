//! Bodies of requests as they pass: never decoded, and held no longer than a stage needs to look at their beginning, or
//! until it is known that they are not sent again.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use bot_bottle_core::decision::Reason;
use bytes::Bytes;
use http::Version;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use thiserror::Error;
use tokio::{runtime::Handle, time::timeout};

use super::strip;
use crate::{
    in_flight::Share,
    kept_body::{Keeper, KeptBodies, KeptBody, Place, WholeBody},
    limits::{LINGER_IDLE_TIMEOUT, LINGER_TIMEOUT},
};

/// Looks at a body as it passes.
pub(super) trait Inspect: Send {
    /// The next bytes. After an error none of them goes on, nor anything behind them.
    fn data(&mut self, bytes: &[u8]) -> Result<(), Reason>;

    /// The body has ended.
    fn end(&mut self) -> Result<(), Reason>;
}

/// The body of a request on its way to an upstream, as the client sends it but for trailers that would act as
/// headers.
pub(super) struct RequestBody {
    incoming: Lingering,
    /// Frames that were read, and inspected, before anything of the request has left.
    window: VecDeque<Frame<Bytes>>,
    inspector: Option<Box<dyn Inspect>>,
    finding: Finding,
    /// Bytes that have passed.
    sent: Arc<AtomicU64>,
    in_flight: Option<Share>,
    /// Names of headers that the request was decided on: no trailer may have them.
    decided_on: Vec<String>,
    /// Keeps what passes.
    keeper: Option<Box<Keeper>>,
    /// Of a body that was kept, and is sent again.
    _place: Option<Place>,
}

/// The body of a client's request. Where it is a stream of HTTP/2 and is dropped before its end, the rest is
/// read and dropped for a while: a stream that is reset as its response ends is an error for curl, which then
/// shows no refusal. After that it is reset with NO_ERROR (RFC 9113 section 8.1).
#[derive(Debug)]
struct Lingering {
    incoming: Option<Incoming>,
    is_stream: bool,
}

impl Lingering {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        self.incoming.as_mut().map_or(Poll::Ready(None), |incoming| Pin::new(incoming).poll_frame(context))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let unread = self.incoming.take().filter(|incoming| self.is_stream && !incoming.is_end_stream());
        if let (Some(mut incoming), Ok(runtime)) = (unread, Handle::try_current()) {
            runtime.spawn(timeout(LINGER_TIMEOUT, async move {
                while let Ok(Some(Ok(_))) = timeout(LINGER_IDLE_TIMEOUT, incoming.frame()).await {}
            }));
        }
    }
}

/// What an inspector found in a body that was on its way already.
#[derive(Debug, Clone, Default)]
pub(super) struct Finding(Arc<OnceLock<Reason>>);

impl Finding {
    pub(super) fn reason(&self) -> Option<Reason> {
        self.0.get().copied()
    }
}

/// A body that may not go on. The upstream sees it break off, and so no whole request.
#[derive(Debug, Error)]
#[error("the body was refused: {0}")]
struct BodyRefused(Reason);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl RequestBody {
    pub(super) fn of(incoming: Incoming, version: Version) -> Self {
        Self::new(Lingering { incoming: Some(incoming), is_stream: version == Version::HTTP_2 })
    }

    /// A body that has passed once, and all checks with it.
    pub(super) fn again(WholeBody { pieces, place }: WholeBody) -> Self {
        let window = pieces.into_iter().map(Frame::data).collect();
        let nothing_more = Lingering { incoming: None, is_stream: false };
        Self { window, _place: Some(place), ..Self::new(nothing_more) }
    }

    fn new(incoming: Lingering) -> Self {
        Self {
            incoming,
            window: VecDeque::new(),
            inspector: None,
            finding: Finding::default(),
            sent: Arc::default(),
            in_flight: None,
            decided_on: Vec::new(),
            keeper: None,
            _place: None,
        }
    }

    /// Keeps what passes from now on, as far as there is room.
    pub(super) fn keep(&mut self, bodies: &KeptBodies) -> KeptBody {
        if self.is_end_stream() {
            return KeptBody::empty();
        }
        let (keeper, kept) = bodies.keep(self.size_hint().lower());
        self.keeper = Some(Box::new(keeper));
        kept
    }

    /// Keeps a frame. A body with trailers is not kept: whether they arrive depends on the connection.
    fn keep_frame(&mut self, frame: Option<&Result<Frame<Bytes>, BoxError>>) {
        match (frame, &mut self.keeper) {
            (Some(Ok(frame)), Some(keeper)) => match frame.data_ref() {
                Some(piece) => keeper.piece(piece),
                None => keeper.give_up(),
            },
            // It has broken off, and does not end.
            (Some(Err(_)), _) => self.keeper = None,
            (None, _) | (_, None) => {}
        }
        if (frame.is_none() || self.is_end_stream())
            && let Some(keeper) = self.keeper.take()
        {
            keeper.end();
        }
    }

    /// Has the body looked at, from its first byte.
    pub(super) fn inspect(&mut self, inspector: Box<dyn Inspect>) {
        self.inspector = Some(inspector);
    }

    /// What an inspector may find later.
    pub(super) fn finding(&self) -> Finding {
        self.finding.clone()
    }

    /// Reads until the window has so many bytes or the body has ended; whether it has.
    ///
    /// # Errors
    /// What the inspector found; `None` where the client broke off.
    pub(super) async fn fill_window(&mut self, bytes: usize) -> Result<bool, Option<Reason>> {
        let mut length = 0;
        while length < bytes && !self.incoming.is_end_stream() {
            let Some(frame) = poll_fn(|context| self.incoming.poll_frame(context)).await else { break };
            let frame = frame.map_err(|_| None)?;
            let data = frame.data_ref();
            length += data.map_or(0, Bytes::len);
            if let (Some(inspector), Some(data)) = (&mut self.inspector, data) {
                inspector.data(data).map_err(Some)?;
            }
            self.window.push_back(frame);
        }
        let is_whole = length < bytes || self.incoming.is_end_stream();
        if is_whole && let Some(mut inspector) = self.inspector.take() {
            inspector.end().map_err(Some)?;
        }
        Ok(is_whole)
    }

    /// The bytes of the window.
    pub(super) fn window(&self) -> Vec<u8> {
        self.window.iter().filter_map(Frame::data_ref).flatten().copied().collect()
    }

    fn poll_incoming(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = match ready!(self.incoming.poll_frame(context)) {
            Some(Ok(frame)) => Some(frame),
            Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            None => None,
        };
        if let Some(inspector) = &mut self.inspector {
            let mut inspected =
                frame.as_ref().and_then(Frame::data_ref).map_or(Ok(()), |data| inspector.data(data));
            if inspected.is_ok() && (frame.is_none() || self.incoming.is_end_stream()) {
                inspected = inspector.end();
                self.inspector = None;
            }
            if let Err(reason) = inspected {
                let _ = self.finding.0.set(reason);
                return Poll::Ready(Some(Err(BodyRefused(reason).into())));
            }
        }
        Poll::Ready(frame.map(Ok))
    }

    pub(super) fn forbid_trailers(&mut self, decided_on: Vec<String>) {
        self.decided_on = decided_on;
    }

    /// Has its bytes counted: those that pass, and those that wait to be written.
    pub(super) fn count_into(&mut self, sent: Arc<AtomicU64>, in_flight: Share) {
        self.sent = sent;
        self.in_flight = Some(in_flight);
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(in_flight) = &self.in_flight {
            ready!(in_flight.poll_room(context));
        }
        let mut frame = match self.window.pop_front() {
            Some(frame) => Some(Ok(frame)),
            None => ready!(self.poll_incoming(context)),
        };
        if self.keeper.is_some() {
            self.keep_frame(frame.as_ref());
        }
        if let Some(Ok(frame)) = &mut frame {
            if let Some(data) = frame.data_ref() {
                self.sent.fetch_add(data.len() as u64, Ordering::Relaxed);
            }
            if let Some(trailers) = frame.trailers_mut() {
                strip::trailers(trailers, &self.decided_on);
            }
        }
        Poll::Ready(frame.map(|frame| frame.map(|frame| counted(frame, self.in_flight.as_ref()))))
    }

    fn is_end_stream(&self) -> bool {
        self.window.is_empty() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let window: u64 = self.window.iter().filter_map(Frame::data_ref).map(|data| data.len() as u64).sum();
        let rest = self.incoming.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + window);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + window);
        }
        hint
    }
}

/// Counts the bytes of a frame until they are written.
pub(super) fn counted(frame: Frame<Bytes>, in_flight: Option<&Share>) -> Frame<Bytes> {
    match in_flight {
        Some(in_flight) => frame.map_data(|bytes| in_flight.count(bytes)),
        None => frame,
    }
}
