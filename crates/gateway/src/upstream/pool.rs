//! Connections to upstreams that are kept for the next request.

use std::{
    collections::HashMap,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use hyper::client::conn::{http1, http2};
use tokio::time::{Instant, timeout};

use super::{Alpn, RequestBody, Sender};
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
}

#[derive(Debug, Default)]
struct Kept {
    http1: Vec<Idle>,
    http2: Option<Shared>,
}

#[derive(Debug)]
struct Idle {
    sender: http1::SendRequest<RequestBody>,
    since: Instant,
}

#[derive(Debug)]
struct Shared {
    sender: http2::SendRequest<RequestBody>,
    last_use: Instant,
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
    pub(super) fn take(&self, origin: &Origin, alpn: Alpn) -> Option<Sender> {
        let mut pool = self.lock();
        let kept = pool.get_mut(origin)?;
        if alpn == Alpn::Any
            && let Some(shared) = &mut kept.http2
        {
            if !shared.sender.is_closed() {
                shared.last_use = Instant::now();
                return Some(Sender::Http2(shared.sender.clone()));
            }
            kept.http2 = None;
        }
        // The one that was used last is the least likely to have been closed by the upstream.
        while let Some(idle) = kept.http1.pop() {
            if idle.sender.is_ready() && idle.since.elapsed() < POOL_IDLE_TIMEOUT {
                return Some(Sender::Http1(idle.sender));
            }
        }
        None
    }

    /// Lets other requests use a new HTTP/2 connection at the same time.
    pub(super) fn share(&self, origin: &Arc<Origin>, sender: &http2::SendRequest<RequestBody>) {
        let mut pool = self.lock();
        let shared = Shared { sender: sender.clone(), last_use: Instant::now() };
        pool.entry(Arc::clone(origin)).or_default().http2 = Some(shared);
    }

    fn put(&self, origin: Arc<Origin>, sender: http1::SendRequest<RequestBody>) {
        let mut pool = self.lock();
        if pool.values().map(|kept| kept.http1.len()).sum::<usize>() >= MAX_IDLE_CONNECTIONS {
            return;
        }
        let kept = pool.entry(origin).or_default();
        if kept.http1.len() < MAX_IDLE_PER_UPSTREAM {
            kept.http1.push(Idle { sender, since: Instant::now() });
        }
    }

    fn drop_old(&self) {
        let old = |since: Instant| since.elapsed() >= POOL_IDLE_TIMEOUT;
        self.lock().retain(|_, kept| {
            kept.http1.retain(|idle| !idle.sender.is_closed() && !old(idle.since));
            kept.http2.take_if(|shared| shared.sender.is_closed() || old(shared.last_use));
            !kept.http1.is_empty() || kept.http2.is_some()
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<Origin>, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn sweep(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(POOL_SWEEP_INTERVAL).await;
        match pool.upgrade() {
            Some(pool) => pool.drop_old(),
            None => return,
        }
    }
}

impl PooledConnection {
    pub(super) fn new(pool: Arc<Pool>, origin: Arc<Origin>, sender: Sender) -> Self {
        Self { pool, origin, sender }
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
            // Closed; or shared, and so kept already.
            Sender::Http1(_) | Sender::Http2(_) => {}
        }
    }
}

const _: () = assert!(POOL_RETURN_TIMEOUT.as_millis() < POOL_IDLE_TIMEOUT.as_millis());
