//! Refusals that say the same as one that has just been written.

use std::{collections::HashMap, time::Instant};

use bot_bottle_core::{
    decision::Decision,
    receipt::{Repeated, RequestSummary},
};

use crate::limits::{MAX_REPEATED_REFUSALS, REPEAT_WINDOW};

/// Everything that a refusal's line says, but for its number and time.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Refused {
    method: String,
    host: String,
    port: u16,
    path: String,
    decision: Decision,
    status: Option<u16>,
}

impl Refused {
    pub(super) fn new(request: RequestSummary<'_>, decision: &Decision, status: Option<u16>) -> Self {
        Self {
            method: request.method.to_owned(),
            host: request.host.to_owned(),
            port: request.port,
            path: request.path.to_owned(),
            decision: decision.clone(),
            status,
        }
    }
}

/// The refusals of the last moments, with how often each came again since its last line.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    refusals: HashMap<Refused, Count>,
    /// When the counts are written next; `None` where there is nothing to remember.
    due: Option<Instant>,
}

#[derive(Debug)]
struct Count {
    exchange: u64,
    again: u64,
}

impl Repeats {
    /// Counts a refusal that came again. False if it is the first of its kind.
    pub(super) fn count(&mut self, refused: &Refused) -> bool {
        let known = self.refusals.get_mut(refused);
        known.map(|count| count.again += 1).is_some()
    }

    /// Whether there is room to remember another refusal. Where there is none, the next one like it has a line of
    /// its own too.
    pub(super) fn has_room(&self) -> bool {
        self.refusals.len() < MAX_REPEATED_REFUSALS
    }

    /// Remembers a refusal that has a line of its own, so that the next ones like it are counted.
    pub(super) fn remember(&mut self, refused: Refused, exchange: u64, now: Instant) {
        self.refusals.insert(refused, Count { exchange, again: 0 });
        self.due.get_or_insert(now + REPEAT_WINDOW);
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// The counts are written. A refusal that did not come again is forgotten.
    pub(super) fn written(&mut self, now: Instant) {
        self.refusals.retain(|_, count| std::mem::take(&mut count.again) > 0);
        self.due = (!self.refusals.is_empty()).then(|| now + REPEAT_WINDOW);
    }

    /// The counts are not written yet.
    pub(super) fn postpone(&mut self, now: Instant) {
        self.due = Some(now + REPEAT_WINDOW);
    }

    /// All counts. Everything is forgotten.
    pub(super) fn take_all(&mut self) -> Vec<Repeated> {
        let repeated = self.counts();
        *self = Self::default();
        repeated
    }

    /// Those that came again, in order.
    pub(super) fn counts(&self) -> Vec<Repeated> {
        let counts = self.refusals.values().filter(|count| count.again > 0);
        let mut repeated: Vec<_> =
            counts.map(|count| Repeated { exchange: count.exchange, again: count.again }).collect();
        repeated.sort_by_key(|repeated| repeated.exchange);
        repeated
    }
}
