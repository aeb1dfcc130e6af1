//! Bodies as they pass: never held whole, never decoded.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::{request::strip, upstream::Lease};

/// The body of a request on its way to an upstream.
#[derive(Debug)]
pub(crate) enum RequestBody {
    /// As the client sends it.
    Relayed {
        /// The body.
        incoming: Incoming,
        /// A count of what has come.
        progress: Progress,
        /// Names of headers that the request was decided on, so that no trailer may have them.
        decided_on: Vec<String>,
    },
    /// None.
    Empty,
}

/// How many pieces of a body have passed.
pub(crate) type Progress = Arc<AtomicU64>;

/// The body of a response on its way to a client.
#[derive(Debug)]
pub(crate) enum ResponseBody {
    /// One of our own, until it was sent.
    Own(Option<Bytes>),
    /// As the upstream sends it, together with the connection that it comes through.
    Relayed {
        /// The body.
        incoming: Incoming,
        /// Given back when the body has ended; dropped, which closes it, when the client goes before that.
        lease: Option<Lease>,
    },
}

impl RequestBody {
    pub(crate) fn relayed(incoming: Incoming, decided_on: Vec<String>) -> Self {
        if incoming.is_end_stream() {
            return Self::Empty;
        }
        Self::Relayed { incoming, progress: Progress::default(), decided_on }
    }

    pub(crate) fn progress(&self) -> Option<Progress> {
        match self {
            Self::Relayed { progress, .. } => Some(Arc::clone(progress)),
            Self::Empty => None,
        }
    }
}

impl ResponseBody {
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self::Own((!bytes.is_empty()).then_some(bytes))
    }

    pub(crate) fn empty() -> Self {
        Self::Own(None)
    }

    pub(crate) fn relayed(incoming: Incoming, lease: Lease) -> Self {
        let mut lease = Some(lease);
        if incoming.is_end_stream() {
            return_lease(&mut lease);
        }
        Self::Relayed { incoming, lease }
    }
}

fn return_lease(lease: &mut Option<Lease>) {
    if let Some(lease) = lease.take() {
        lease.give_back();
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Self::Relayed { incoming, progress, decided_on } => {
                let mut frame = ready!(Pin::new(incoming).poll_frame(context));
                progress.fetch_add(1, Ordering::Relaxed);
                if let Some(trailers) =
                    frame.as_mut().and_then(|frame| frame.as_mut().ok()).and_then(Frame::trailers_mut)
                {
                    strip::trailers(trailers, decided_on);
                }
                Poll::Ready(frame)
            }
            Self::Empty => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Relayed { incoming, .. } => incoming.is_end_stream(),
            Self::Empty => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Relayed { incoming, .. } => incoming.size_hint(),
            Self::Empty => SizeHint::with_exact(0),
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Self::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Relayed { incoming, lease } => {
                let frame = ready!(Pin::new(&mut *incoming).poll_frame(context));
                match &frame {
                    Some(Ok(_)) if !incoming.is_end_stream() => {}
                    Some(Ok(_)) | None => return_lease(lease),
                    Some(Err(_)) => *lease = None,
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_none(),
            Self::Relayed { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Relayed { incoming, .. } => incoming.size_hint(),
        }
    }
}
