//! Connections to upstreams that are kept for the next request.

use std::{
    collections::HashMap,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use hyper::client::conn::http1;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

use super::{
    Alpn, RequestBody, Sender,
    multiplexed::{Multiplexed, Party, Stream},
};
use crate::{
    host_port::Origin,
    limits::{
        MAX_IDLE_CONNECTIONS, MAX_IDLE_PER_UPSTREAM, POOL_IDLE_TIMEOUT, POOL_RETURN_TIMEOUT,
        POOL_SWEEP_INTERVAL,
    },
};

/// One gateway's, and so one bottle's, connections.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    kept: Mutex<HashMap<Arc<Origin>, Kept>>,
    idle_places: IdlePlaces,
}

/// Places for connections that nobody uses, whatever they speak. One that gets none is closed.
#[derive(Debug, Clone)]
pub(super) struct IdlePlaces(Arc<Semaphore>);

impl Default for IdlePlaces {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_IDLE_CONNECTIONS)))
    }
}

impl IdlePlaces {
    pub(super) fn take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_owned().ok()
    }
}

#[derive(Debug, Default)]
struct Kept {
    http1: Vec<Idle>,
    http2: Vec<Arc<Multiplexed>>,
    /// When the upstream last preferred HTTP/1.1.
    spoke_http1: Option<Instant>,
}

#[derive(Debug)]
struct Idle {
    sender: http1::SendRequest<RequestBody>,
    since: Instant,
    _place: OwnedSemaphorePermit,
}

/// A connection that a response comes through.
#[derive(Debug)]
pub(crate) struct PooledConnection {
    pool: Arc<Pool>,
    origin: Arc<Origin>,
    sender: Sender,
}

impl Pool {
    /// A pool, and what drops its connections when they are too old, for as long as it is there.
    pub(super) fn start() -> Arc<Self> {
        let pool = Arc::new(Self::default());
        tokio::spawn(sweep(Arc::downgrade(&pool)));
        pool
    }

    /// A connection that is ready for a request.
    pub(super) fn take(&self, origin: &Origin, alpn: Alpn, party: &Party) -> Option<Sender> {
        let mut pool = self.lock();
        let kept = pool.get_mut(origin)?;
        if alpn == Alpn::Any {
            kept.http2.retain(|connection| !connection.is_closed());
            if let Some(stream) = kept.http2.iter().find_map(|connection| connection.open(party)) {
                return Some(Sender::Http2(stream));
            }
        }
        // The one that was used last is the least likely to have been closed by the upstream.
        while let Some(idle) = kept.http1.pop() {
            if idle.sender.is_ready() && idle.since.elapsed() < POOL_IDLE_TIMEOUT {
                return Some(Sender::Http1(idle.sender));
            }
        }
        None
    }

    /// Lets other requests use a new HTTP/2 connection too.
    pub(super) fn share(&self, origin: &Arc<Origin>, stream: &Stream) {
        let mut pool = self.lock();
        pool.entry(Arc::clone(origin)).or_default().http2.push(Arc::clone(stream.connection()));
    }

    /// Remembers that the upstream prefers HTTP/1.1: nobody needs to wait for a connection to share.
    pub(super) fn note_http1(&self, origin: &Arc<Origin>) {
        self.lock().entry(Arc::clone(origin)).or_default().spoke_http1 = Some(Instant::now());
    }

    pub(super) fn prefers_http1(&self, origin: &Origin) -> bool {
        self.lock().get(origin).is_some_and(|kept| kept.spoke_http1.is_some())
    }

    pub(super) fn idle_places(&self) -> &IdlePlaces {
        &self.idle_places
    }

    /// Closes what is not in use; how many connections that were.
    pub(super) fn drop_idle(&self) -> usize {
        self.drop_older_than(Duration::ZERO)
    }

    fn put(&self, origin: Arc<Origin>, sender: http1::SendRequest<RequestBody>) {
        let mut pool = self.lock();
        let kept = pool.entry(origin).or_default();
        if kept.http1.len() < MAX_IDLE_PER_UPSTREAM
            && let Some(place) = self.idle_places.take()
        {
            kept.http1.push(Idle { sender, since: Instant::now(), _place: place });
        }
    }

    fn drop_older_than(&self, age: Duration) -> usize {
        let mut dropped = 0;
        self.lock().retain(|_, kept| {
            let before = kept.http1.len() + kept.http2.len();
            kept.http1.retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < age);
            kept.http2.retain(|connection| !connection.is_closed() && !connection.is_idle_for(age));
            kept.spoke_http1.take_if(|last| last.elapsed() >= age);
            dropped += before - kept.http1.len() - kept.http2.len();
            !kept.http1.is_empty() || !kept.http2.is_empty() || kept.spoke_http1.is_some()
        });
        dropped
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<Origin>, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn sweep(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(POOL_SWEEP_INTERVAL).await;
        match pool.upgrade() {
            Some(pool) => {
                pool.drop_older_than(POOL_IDLE_TIMEOUT);
            }
            None => return,
        }
    }
}

impl PooledConnection {
    pub(super) fn new(pool: Arc<Pool>, origin: Arc<Origin>, sender: Sender) -> Self {
        Self { pool, origin, sender }
    }

    /// Whether the client has yet to ask for what comes next of the response.
    pub(super) fn set_unread(&mut self, is_unread: bool) {
        if let Sender::Http2(stream) = &mut self.sender {
            stream.set_unread(is_unread);
        }
    }

    /// The response has ended: the connection can serve another request, once it is done with this one's.
    pub(crate) fn give_back(self) {
        let Self { pool, origin, sender } = self;
        match sender {
            Sender::Http1(sender) if sender.is_ready() => pool.put(origin, sender),
            Sender::Http1(mut sender) if !sender.is_closed() => {
                tokio::spawn(async move {
                    let ready =
                        timeout(POOL_RETURN_TIMEOUT, poll_fn(|context| sender.poll_ready(context))).await;
                    if matches!(ready, Ok(Ok(()))) {
                        pool.put(origin, sender);
                    }
                });
            }
            // Closed; or kept already, and a stream less on it.
            Sender::Http1(_) | Sender::Http2(_) => {}
        }
    }
}

const _: () = assert!(POOL_RETURN_TIMEOUT.as_millis() < POOL_IDLE_TIMEOUT.as_millis());
