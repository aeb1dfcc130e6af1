//! Bytes of bodies that were handed to a connection and are not written yet.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;

use crate::limits::MAX_IN_FLIGHT;

/// What all bodies of a gateway have in flight.
#[derive(Debug, Clone, Default)]
pub(crate) struct InFlight(Arc<AtomicUsize>);

/// What one body has in flight. It may have one chunk in any case, and more while the gateway as a whole is
/// below [`MAX_IN_FLIGHT`]: a client that does not read slows others down at most, and cannot stop them.
#[derive(Debug)]
pub(crate) struct Share(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    all: InFlight,
    own: AtomicUsize,
    waker: AtomicWaker,
}

impl InFlight {
    pub(crate) fn share(&self) -> Share {
        Share(Arc::new(Shared {
            all: self.clone(),
            own: AtomicUsize::default(),
            waker: AtomicWaker::default(),
        }))
    }

    /// How many bytes there are now.
    pub(crate) fn bytes(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

impl Share {
    /// Whether the body may pass another chunk on.
    pub(crate) fn poll_room(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.has_room() {
            return Poll::Ready(());
        }
        // Where there is no room, a chunk of the body's own is in flight, and wakes it when it is written.
        self.0.waker.register(context.waker());
        if self.has_room() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn has_room(&self) -> bool {
        self.0.own.load(Ordering::Acquire) == 0 || self.0.all.bytes() < MAX_IN_FLIGHT
    }

    /// Counts these bytes until they are dropped, which a connection does when it has written them.
    pub(crate) fn count(&self, bytes: Bytes) -> Bytes {
        if bytes.is_empty() {
            return bytes;
        }
        self.0.own.fetch_add(bytes.len(), Ordering::AcqRel);
        self.0.all.0.fetch_add(bytes.len(), Ordering::AcqRel);
        Bytes::from_owner(Chunk { bytes, shared: Arc::clone(&self.0) })
    }
}

struct Chunk {
    bytes: Bytes,
    shared: Arc<Shared>,
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.shared.all.0.fetch_sub(self.bytes.len(), Ordering::AcqRel);
        self.shared.own.fetch_sub(self.bytes.len(), Ordering::AcqRel);
        self.shared.waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn one_chunk_passes_always_and_more_while_there_is_room() {
        let all = InFlight::default();
        let mut context = Context::from_waker(Waker::noop());
        let (stuck, other) = (all.share(), all.share());
        let mut held = Vec::new();
        while stuck.poll_room(&mut context).is_ready() {
            held.push(stuck.count(Bytes::from(vec![0; 16 * 1024])));
        }
        assert_eq!(all.bytes(), MAX_IN_FLIGHT);
        assert!(other.poll_room(&mut context).is_ready(), "another body has its one chunk");
        let chunk = other.count(Bytes::from_static(b"a"));
        assert!(other.poll_room(&mut context).is_pending(), "and not a second");
        // A part of a chunk holds the whole.
        let part = chunk.slice(..1);
        drop(chunk);
        assert!(other.poll_room(&mut context).is_pending());
        drop(part);
        assert!(other.poll_room(&mut context).is_ready(), "once that is written, the next");
        held.pop();
        assert!(stuck.poll_room(&mut context).is_ready());
        drop(held);
        assert_eq!(all.bytes(), 0);
    }
}
