//! HTTP/2 connections to upstreams: who may have a stream on them, and how much an upstream may send on them
//! before it is taken.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper::client::conn::http2;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::{RequestBody, pool::IdlePlaces};
use crate::limits::{
    CONNECTION_WINDOW, MAX_UPSTREAM_STREAMS, MIN_WINDOW, STREAM_WINDOW, STREAMS_IN_A_WINDOW,
    STREAMS_IN_MIN_WINDOW, UPSTREAM_WINDOWS,
};

/// The requests of one connection of a client. Only they share a connection to an upstream while it is in use:
/// all streams of a connection share its window (RFC 9113 section 5.2), and a client that does not read must
/// make nobody wait but itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Party(Arc<Dialling>);

#[derive(Debug, Default)]
pub(super) struct Dialling {
    /// Held while a connection is made that the others may share.
    pub(super) gate: tokio::sync::Mutex<()>,
    /// Whether the last one could not be made. Then nobody waits for another's attempt.
    pub(super) has_failed: AtomicBool,
}

impl Party {
    pub(super) fn dialling(&self) -> &Dialling {
        &self.0
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// What upstreams may send over HTTP/2 before it is taken, over all connections in use.
#[derive(Debug, Clone)]
pub(super) struct Windows(Arc<Semaphore>);

/// The windows of one connection.
#[derive(Debug)]
pub(super) struct Window {
    pub(super) connection: u32,
    pub(super) stream: u32,
    lease: Option<OwnedSemaphorePermit>,
}

impl Default for Windows {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(UPSTREAM_WINDOWS)))
    }
}

impl Windows {
    /// A part of what is left, so that there is always something for the next connection; where too little is
    /// left, the least that the protocol has.
    pub(super) fn lease(&self) -> Window {
        let left = u32::try_from(self.0.available_permits()).unwrap_or(u32::MAX);
        let wanted = (left / 4).clamp(MIN_WINDOW, CONNECTION_WINDOW);
        let lease = self.take(wanted);
        if lease.is_none() {
            // More streams on fewer connections: what a connection takes besides its window is more than that.
            let stream = MIN_WINDOW / STREAMS_IN_MIN_WINDOW;
            return Window { connection: MIN_WINDOW, stream, lease };
        }
        let stream = (wanted / STREAMS_IN_A_WINDOW).clamp(MIN_WINDOW, STREAM_WINDOW);
        Window { connection: wanted, stream, lease }
    }

    fn take(&self, bytes: u32) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_many_owned(bytes).ok()
    }
}

/// How many streams the upstream allows, as it last said.
pub(super) struct Allowed(pub(super) Box<dyn Fn() -> usize + Send + Sync>);

impl fmt::Debug for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Allowed")
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Multiplexed {
    allowed: Allowed,
    connection_window: u32,
    stream_window: u32,
    /// Whether its window is no part of the budget. It is closed as soon as it is idle.
    is_minimal: bool,
    windows: Windows,
    idle_places: IdlePlaces,
    /// Streams whose client has not asked for what comes next: the upstream may have filled their windows.
    unread: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Until it is closed for want of a place among the idle ones.
    sender: Option<http2::SendRequest<RequestBody>>,
    streams: usize,
    /// Whose streams they are.
    party: Option<Party>,
    /// Held while there are streams: without them nothing is sent.
    lease: Option<OwnedSemaphorePermit>,
    /// Held while there are none.
    idle_place: Option<OwnedSemaphorePermit>,
    last_use: Instant,
}

/// A stream's place on a connection.
#[derive(Debug)]
pub(crate) struct Stream {
    connection: Arc<Multiplexed>,
    pub(super) sender: http2::SendRequest<RequestBody>,
    is_unread: bool,
}

impl Multiplexed {
    /// A new connection, with its first stream.
    pub(super) fn start(
        sender: http2::SendRequest<RequestBody>,
        allowed: Allowed,
        window: Window,
        windows: &Windows,
        idle_places: &IdlePlaces,
        party: &Party,
    ) -> Stream {
        let connection = Arc::new(Self {
            allowed,
            connection_window: window.connection,
            stream_window: window.stream,
            is_minimal: window.lease.is_none(),
            windows: windows.clone(),
            idle_places: idle_places.clone(),
            unread: AtomicUsize::default(),
            state: Mutex::new(State {
                sender: Some(sender.clone()),
                streams: 1,
                party: Some(party.clone()),
                lease: window.lease,
                idle_place: None,
                last_use: Instant::now(),
            }),
        });
        Stream { connection, sender, is_unread: false }
    }

    /// Another stream, if there is room for it.
    pub(super) fn open(self: &Arc<Self>, party: &Party) -> Option<Stream> {
        let mut state = self.lock();
        let sender = state.sender.clone().filter(|sender| !sender.is_closed())?;
        if state.streams == 0 {
            state.lease = Some(self.windows.take(self.connection_window)?);
            state.idle_place = None;
            state.party = Some(party.clone());
        } else if !state.party.as_ref().is_some_and(|owner| owner.is(party)) || !self.has_room(state.streams)
        {
            return None;
        }
        state.streams += 1;
        Some(Stream { connection: Arc::clone(self), sender, is_unread: false })
    }

    fn has_room(&self, streams: usize) -> bool {
        // One until the upstream has said how many (`INITIAL_UPSTREAM_STREAMS`): beyond its number they wait.
        let allowed = (self.allowed.0)().min(MAX_UPSTREAM_STREAMS);
        let unread = u32::try_from(self.unread.load(Ordering::Acquire)).unwrap_or(u32::MAX);
        let filled = self.stream_window.saturating_mul(unread.saturating_add(1));
        streams < allowed && filled <= self.connection_window
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().sender.as_ref().is_none_or(http2::SendRequest::is_closed)
    }

    /// Whether it has not been used for so long.
    pub(super) fn is_idle_for(&self, duration: Duration) -> bool {
        let state = self.lock();
        state.streams == 0 && state.last_use.elapsed() >= duration
    }

    /// A place among the idle connections.
    fn idle_place(&self) -> Option<OwnedSemaphorePermit> {
        if self.is_minimal { None } else { self.idle_places.take() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream {
    pub(super) fn connection(&self) -> &Arc<Multiplexed> {
        &self.connection
    }

    /// Whether the client has yet to ask for what comes next.
    pub(super) fn set_unread(&mut self, is_unread: bool) {
        if self.is_unread != is_unread {
            self.is_unread = is_unread;
            if is_unread {
                self.connection.unread.fetch_add(1, Ordering::AcqRel);
            } else {
                self.connection.unread.fetch_sub(1, Ordering::AcqRel);
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.set_unread(false);
        let mut state = self.connection.lock();
        state.streams -= 1;
        if state.streams == 0 {
            state.party = None;
            state.lease = None;
            state.idle_place = self.connection.idle_place();
            if state.idle_place.is_none() {
                // Without a sender the connection ends.
                state.sender = None;
            }
            state.last_use = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_have_a_budget_and_no_connection_takes_the_rest() {
        let windows = Windows::default();
        let mut leases = Vec::new();
        let first = windows.lease();
        assert_eq!((first.connection, first.stream), (CONNECTION_WINDOW, STREAM_WINDOW));
        leases.push(first);
        while windows.0.available_permits() >= usize::try_from(MIN_WINDOW).expect("a number") {
            let next = windows.lease();
            assert!(next.connection >= MIN_WINDOW && next.stream >= MIN_WINDOW);
            leases.push(next);
        }
        let beyond = windows.lease();
        assert_eq!(
            (beyond.connection, beyond.stream, beyond.lease.is_none()),
            (MIN_WINDOW, MIN_WINDOW / STREAMS_IN_MIN_WINDOW, true)
        );
        drop(leases);
        assert_eq!(windows.0.available_permits(), UPSTREAM_WINDOWS);
    }
}
