//! Bodies as they pass: never held whole, never decoded.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use bot_bottle_core::decision::{DecidedBy, Reason};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::{record::Entry, strip};
use crate::upstream;

/// The body of a request on its way to an upstream, as the client sends it but for trailers that would act as headers.
#[derive(Debug)]
pub(super) struct RequestBody {
    incoming: Incoming,
    /// Bytes that have passed.
    sent: Arc<AtomicU64>,
    /// Names of headers that the request was decided on: no trailer may have them.
    decided_on: Vec<String>,
}

/// The body of a response on its way to a client.
#[derive(Debug)]
pub(crate) enum ResponseBody {
    /// One of our own, until it was sent.
    Own(Option<Bytes>),
    /// As the upstream sends it. The entry is ended with it.
    Relayed(upstream::Body, Option<Box<Entry>>),
}

impl RequestBody {
    pub(super) fn of(incoming: Incoming) -> Self {
        Self { incoming, sent: Arc::default(), decided_on: Vec::new() }
    }

    pub(super) fn forbid_trailers(&mut self, decided_on: Vec<String>) {
        self.decided_on = decided_on;
    }

    pub(super) fn count_into(&mut self, sent: Arc<AtomicU64>) {
        self.sent = sent;
    }
}

impl ResponseBody {
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self::Own((!bytes.is_empty()).then_some(bytes))
    }

    pub(crate) fn empty() -> Self {
        Self::Own(None)
    }

    pub(super) fn relayed(body: upstream::Body, entry: Entry) -> Self {
        if body.is_end_stream() {
            entry.complete();
            return Self::Relayed(body, None);
        }
        Self::Relayed(body, Some(Box::new(entry)))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut frame = ready!(Pin::new(&mut self.incoming).poll_frame(context));
        if let Some(Ok(frame)) = &mut frame {
            if let Some(data) = frame.data_ref() {
                self.sent.fetch_add(data.len() as u64, Ordering::Relaxed);
            }
            if let Some(trailers) = frame.trailers_mut() {
                strip::trailers(trailers, &self.decided_on);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
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
            Self::Relayed(body, entry) => {
                let frame = ready!(Pin::new(&mut *body).poll_frame(context));
                match &frame {
                    Some(Ok(frame)) => {
                        if let (Some(entry), Some(data)) = (entry.as_mut(), frame.data_ref()) {
                            entry.received(data.len() as u64);
                        }
                        if body.is_end_stream()
                            && let Some(entry) = entry.take()
                        {
                            entry.complete();
                        }
                    }
                    None => {
                        if let Some(entry) = entry.take() {
                            entry.complete();
                        }
                    }
                    Some(Err(error)) => {
                        if let Some(entry) = entry.take() {
                            entry.failed(failure(error), DecidedBy::Upstream);
                        }
                    }
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_none(),
            Self::Relayed(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Relayed(body, _) => body.size_hint(),
        }
    }
}

/// Why a response broke off.
fn failure(error: &hyper::Error) -> Reason {
    if upstream::is_timeout(error) { Reason::Timeout } else { Reason::UpstreamProtocol }
}
