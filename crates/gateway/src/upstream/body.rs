//! Bodies to and from an upstream.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper::body::Incoming;

use super::pool::PooledConnection;

type BoxError = Box<dyn Error + Send + Sync>;

/// The body of a request, whatever it is made of.
pub(crate) struct RequestBody {
    body: UnsyncBoxBody<Bytes, BoxError>,
    progress: Progress,
}

/// How many frames of a body have passed: an upload may take as long as it moves.
pub(super) type Progress = Arc<AtomicU64>;

/// The body of a response, together with the connection that it comes through.
#[derive(Debug)]
pub(crate) struct Body {
    incoming: Incoming,
    /// Given back when the body has ended; dropped, which closes it, when the client goes before that.
    connection: Option<PooledConnection>,
}

impl RequestBody {
    pub(crate) fn new<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self { body: body.map_err(Into::into).boxed_unsync(), progress: Progress::default() }
    }

    pub(super) fn progress(&self) -> Progress {
        Arc::clone(&self.progress)
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").field("frames", &self.progress).finish_non_exhaustive()
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        self.progress.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Body {
    pub(super) fn new(incoming: Incoming, connection: PooledConnection) -> Self {
        let mut body = Self { incoming, connection: Some(connection) };
        if body.incoming.is_end_stream() {
            body.give_back();
        }
        body
    }

    fn give_back(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.give_back();
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(context);
        if let Some(connection) = &mut self.connection {
            connection.set_unread(polled.is_ready());
        }
        let frame = ready!(polled);
        match &frame {
            Some(Ok(_)) if !self.incoming.is_end_stream() => {}
            Some(Ok(_)) | None => self.give_back(),
            Some(Err(_)) => self.connection = None,
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
