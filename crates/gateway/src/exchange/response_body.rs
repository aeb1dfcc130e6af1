//! Bodies of responses on their way to a client.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bot_bottle_core::decision::{DecidedBy, Reason};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use super::{body::counted, record::Entry};
use crate::{in_flight::Share, upstream};

/// The body of a response on its way to a client.
#[derive(Debug)]
pub(crate) enum ResponseBody {
    /// One of our own, until it was sent.
    Own(Option<Bytes>),
    /// As the upstream sends it.
    Relayed(Relayed),
}

/// The body of an upstream's response. Its entry and its place among the requests end with it.
#[derive(Debug)]
pub(crate) struct Relayed {
    /// What was read of it before it was known whether it goes on.
    begun: Begun,
    body: upstream::Body,
    place: Option<Box<Place>>,
    in_flight: Share,
}

/// Frames of a response that were read already, and perhaps the error behind them.
pub(super) type Begun = VecDeque<hyper::Result<Frame<Bytes>>>;

#[derive(Debug)]
struct Place {
    entry: Entry,
    _permit: Option<OwnedSemaphorePermit>,
}

impl ResponseBody {
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self::Own((!bytes.is_empty()).then_some(bytes))
    }

    pub(crate) fn empty() -> Self {
        Self::Own(None)
    }

    pub(super) fn relayed(
        begun: Begun,
        body: upstream::Body,
        entry: Entry,
        permit: Option<OwnedSemaphorePermit>,
        in_flight: Share,
    ) -> Self {
        let place = if begun.is_empty() && body.is_end_stream() {
            entry.complete();
            None
        } else {
            Some(Box::new(Place { entry, _permit: permit }))
        };
        Self::Relayed(Relayed { begun, body, place, in_flight })
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
            Self::Relayed(relayed) => relayed.poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_none(),
            Self::Relayed(relayed) => relayed.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Relayed(relayed) => relayed.size_hint(),
        }
    }
}

impl Relayed {
    fn is_end_stream(&self) -> bool {
        self.begun.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let begun = self.begun.iter().filter_map(|frame| frame.as_ref().ok()?.data_ref());
        let begun: u64 = begun.map(|data| data.len() as u64).sum();
        let rest = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + begun);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + begun);
        }
        hint
    }

    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        ready!(self.in_flight.poll_room(context));
        let frame = match self.begun.pop_front() {
            Some(frame) => Some(frame),
            None => ready!(Pin::new(&mut self.body).poll_frame(context)),
        };
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(place), Some(data)) = (self.place.as_mut(), frame.data_ref()) {
                    place.entry.received(data.len() as u64);
                }
                if self.is_end_stream()
                    && let Some(place) = self.place.take()
                {
                    place.entry.complete();
                }
            }
            None => {
                if let Some(place) = self.place.take() {
                    place.entry.complete();
                }
            }
            Some(Err(error)) => {
                if let Some(place) = self.place.take() {
                    place.entry.failed(failure(error), DecidedBy::Upstream);
                }
            }
        }
        Poll::Ready(frame.map(|frame| frame.map(|frame| counted(frame, Some(&self.in_flight)))))
    }
}

/// Why a response broke off.
fn failure(error: &hyper::Error) -> Reason {
    if upstream::is_timeout(error) { Reason::Timeout } else { Reason::UpstreamProtocol }
}
