//! Bodies of requests that are kept as they pass, to be sent once more where the upstream answers 401.

use std::{
    collections::VecDeque,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;

use crate::limits::{MAX_KEPT_BODIES, MAX_KEPT_BODY, MIN_SHARED_PIECE};

/// What all kept bodies of a gateway take.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeptBodies(Arc<AtomicUsize>);

/// Keeps one body as it passes, until it is too long or nobody needs it any more.
#[derive(Debug)]
pub(crate) struct Keeper {
    /// `None`: it is kept no longer.
    body: Option<WholeBody>,
    /// Small pieces that follow one another.
    small: Vec<u8>,
    slot: Weak<OnceLock<Passed>>,
}

/// Where a body is when it has passed. Dropped, nothing of the body is kept.
#[derive(Debug, Default)]
pub(crate) struct KeptBody(Arc<OnceLock<Passed>>);

/// How much of a body has passed.
#[derive(Debug)]
pub(crate) enum Passed {
    /// All of it, and here it is.
    Whole(WholeBody),
    /// All of it, and it was not kept.
    NotKept,
    /// There is more to come.
    Unfinished,
}

/// A whole body. Its bytes are counted as long as this is there.
#[derive(Debug, Default)]
pub(crate) struct WholeBody {
    pub(crate) pieces: VecDeque<Bytes>,
    pub(crate) place: Place,
}

/// Counts the bytes of a body among those of all.
#[derive(Debug, Default)]
pub(crate) struct Place {
    all: KeptBodies,
    bytes: usize,
}

impl KeptBodies {
    /// Keeps a body that has at least so many bytes, if that is not too many.
    pub(crate) fn keep(&self, at_least: u64) -> (Keeper, KeptBody) {
        let kept = KeptBody::default();
        let place = Place { all: self.clone(), bytes: 0 };
        let body = (at_least <= MAX_KEPT_BODY as u64).then(|| WholeBody { place, ..WholeBody::default() });
        (Keeper { body, small: Vec::new(), slot: Arc::downgrade(&kept.0) }, kept)
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

impl KeptBody {
    /// Of a request that has no body.
    pub(crate) fn empty() -> Self {
        Self(Arc::new(OnceLock::from(Passed::Whole(WholeBody::default()))))
    }

    pub(crate) fn passed(self) -> Passed {
        Arc::into_inner(self.0).and_then(OnceLock::into_inner).unwrap_or(Passed::Unfinished)
    }
}

impl Keeper {
    /// Keeps the next piece, if there is room.
    pub(crate) fn piece(&mut self, piece: &Bytes) {
        let Some(body) = &mut self.body else { return };
        if self.slot.strong_count() == 0 || !body.place.take(piece.len()) {
            self.give_up();
        } else if piece.len() < MIN_SHARED_PIECE {
            self.small.extend_from_slice(piece);
        } else {
            body.end_small(&mut self.small);
            body.pieces.push_back(piece.clone());
        }
    }

    /// Keeps nothing of it any more.
    pub(crate) fn give_up(&mut self) {
        self.body = None;
        self.small = Vec::new();
    }

    /// The body has passed.
    pub(crate) fn end(mut self) {
        if let Some(body) = &mut self.body {
            body.end_small(&mut self.small);
        }
        if let Some(slot) = self.slot.upgrade() {
            // Each body ends once.
            let _ = slot.set(self.body.map_or(Passed::NotKept, Passed::Whole));
        }
    }
}

impl WholeBody {
    fn end_small(&mut self, small: &mut Vec<u8>) {
        if !small.is_empty() {
            self.pieces.push_back(std::mem::take(small).into());
        }
    }
}

impl Place {
    /// Takes room for so many bytes more.
    fn take(&mut self, bytes: usize) -> bool {
        if self.bytes + bytes > MAX_KEPT_BODY {
            return false;
        }
        let before = self.all.0.fetch_add(bytes, Ordering::AcqRel);
        self.bytes += bytes;
        // What is too much goes with the place.
        before + bytes <= MAX_KEPT_BODIES
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.0.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body of these pieces, which has passed.
    fn passed(all: &KeptBodies, pieces: &[Bytes]) -> Passed {
        let (mut keeper, kept) = all.keep(0);
        pieces.iter().for_each(|piece| keeper.piece(piece));
        keeper.end();
        kept.passed()
    }

    #[test]
    fn a_body_that_has_passed_is_kept_and_its_large_pieces_are_shared() {
        let all = KeptBodies::default();
        let large = Bytes::from(vec![b'l'; MIN_SHARED_PIECE]);
        let small = Bytes::from_static(b"small");
        let pieces = [small.clone(), small.clone(), large.clone(), large.clone(), small.clone()];
        let Passed::Whole(whole) = passed(&all, &pieces) else { panic!("it was not kept") };
        assert_eq!(all.bytes(), pieces.concat().len());
        assert_eq!(whole.pieces.iter().flatten().copied().collect::<Vec<_>>(), pieces.concat());
        assert_eq!(whole.pieces.len(), 4, "small ones that follow one another are one");
        assert_eq!(whole.pieces[1].as_ptr(), large.as_ptr(), "a large one is not copied");
        drop(whole);
        assert_eq!(all.bytes(), 0);
        assert!(matches!(KeptBody::empty().passed(), Passed::Whole(whole) if whole.pieces.is_empty()));
    }

    #[test]
    fn a_body_that_has_not_ended_is_not_there() {
        let all = KeptBodies::default();
        let (mut keeper, kept) = all.keep(0);
        keeper.piece(&Bytes::from_static(b"begun"));
        assert!(matches!(kept.passed(), Passed::Unfinished));
        keeper.piece(&Bytes::from_static(b"more"));
        assert_eq!(all.bytes(), 0, "nobody needs it any more");
        let (keeper, kept) = all.keep(0);
        drop(keeper);
        assert!(matches!(kept.passed(), Passed::Unfinished), "it broke off");
    }

    #[test]
    fn one_body_and_all_together_have_a_bound() {
        let all = KeptBodies::default();
        let most = Bytes::from(vec![0; MAX_KEPT_BODY]);
        let one_more = Bytes::from_static(b"x");
        let (keeper, kept) = all.keep(MAX_KEPT_BODY as u64 + 1);
        keeper.end();
        assert!(matches!(kept.passed(), Passed::NotKept));
        assert!(matches!(passed(&all, &[most.clone(), one_more.clone()]), Passed::NotKept));
        assert_eq!(all.bytes(), 0, "what did not fit is not counted");
        let mut bodies: Vec<_> =
            (0..MAX_KEPT_BODIES / MAX_KEPT_BODY).map(|_| passed(&all, std::slice::from_ref(&most))).collect();
        assert!(bodies.iter().all(|body| matches!(body, Passed::Whole(_))));
        assert!(matches!(passed(&all, std::slice::from_ref(&one_more)), Passed::NotKept));
        bodies.pop();
        assert!(matches!(passed(&all, &[one_more]), Passed::Whole(_)));
    }
}
