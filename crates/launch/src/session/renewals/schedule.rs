//! When a secret is asked for again: decisions alone, with the time given.

use std::time::{Duration, SystemTime};

use bot_bottle_core::gateway_config::RenewalCause;

/// How long before its end a secret is asked for. Codex asks for a new login five minutes before (0.169.0), and in a
/// bottle nobody answers that.
pub(super) const LEAD: Duration = Duration::from_secs(10 * 60);

/// How soon it is asked for again where there was no other value.
const RETRY: Duration = Duration::from_secs(60);

/// The times of one source.
#[derive(Debug)]
pub(super) struct Schedule {
    every: Option<Duration>,
    expires: Option<SystemTime>,
    /// `every` after the last value.
    due: Option<SystemTime>,
    /// Not before this, whatever is due.
    not_before: Option<SystemTime>,
    /// Why it is being asked for.
    asked: Option<RenewalCause>,
    /// Whether the operator was told that there is no other value.
    is_told: bool,
}

impl Schedule {
    pub(super) fn new(every: Option<Duration>, expires: Option<SystemTime>, now: SystemTime) -> Self {
        let due = every.map(|every| now + every);
        Self { every, expires, due, not_before: None, asked: None, is_told: false }
    }

    /// Whether it is being asked for.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// Until when the value is valid.
    pub(super) fn expires(&self) -> Option<SystemTime> {
        self.expires
    }

    /// When it has to be asked for next, unless something happens before.
    pub(super) fn next(&self) -> Option<SystemTime> {
        let near_end = self.expires.map(|expires| expires.checked_sub(LEAD).unwrap_or(expires));
        let next = [self.due, near_end].into_iter().flatten().min()?;
        match self.is_asked() {
            true => None,
            false => Some(self.not_before.map_or(next, |not_before| next.max(not_before))),
        }
    }

    /// Begins to ask if it is time to. Why.
    pub(super) fn begin_if_due(&mut self, now: SystemTime) -> Option<RenewalCause> {
        if self.next()? > now {
            return None;
        }
        let is_due = self.due.is_some_and(|due| due <= now);
        let cause = if is_due { RenewalCause::Due } else { RenewalCause::Expiring };
        self.begin(cause);
        Some(cause)
    }

    /// Begins to ask for another reason.
    pub(super) fn begin(&mut self, cause: RenewalCause) {
        self.asked = Some(cause);
    }

    /// There is a value, which may be the one that there was. Why it was asked for, and whether the operator has to be
    /// told that its end is near all the same.
    pub(super) fn answered(&mut self, expires: Option<SystemTime>, now: SystemTime) -> (RenewalCause, bool) {
        self.expires = expires;
        self.due = self.every.map(|every| now + every);
        let ends_soon = expires.is_some_and(|expires| expires <= now + LEAD);
        (self.end(now, ends_soon), self.tell_once(ends_soon))
    }

    /// There is none. Whether the operator has to be told.
    pub(super) fn failed(&mut self, now: SystemTime) -> bool {
        self.end(now, true);
        self.tell_once(true)
    }

    fn end(&mut self, now: SystemTime, waits: bool) -> RenewalCause {
        self.not_before = waits.then(|| now + RETRY);
        self.asked.take().unwrap_or(RenewalCause::Due)
    }

    /// Once, until there is a value again.
    fn tell_once(&mut self, is_bad: bool) -> bool {
        let tell = is_bad && !self.is_told;
        self.is_told = is_bad;
        tell
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const MINUTE: Duration = Duration::from_secs(60);

    fn start() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    /// Nine hours of a bottle, minute by minute: what is asked for when.
    #[test]
    fn nine_hours_with_an_hour_each_are_eight_renewals() {
        let mut schedule = Schedule::new(Some(HOUR), None, start());
        let mut asked = Vec::new();
        for minute in 0..9 * 60 {
            let now = start() + MINUTE * minute;
            if let Some(cause) = schedule.begin_if_due(now) {
                assert_eq!(schedule.next(), None, "it is being asked for");
                assert_eq!(schedule.answered(None, now), (cause, false));
                asked.push((minute, cause));
            }
        }
        let expected: Vec<_> = (1..9).map(|hour| (hour * 60, RenewalCause::Due)).collect();
        assert_eq!(asked, expected);
    }

    #[test]
    fn a_value_that_ends_is_asked_for_before_and_after_its_end_until_there_is_another() {
        let mut schedule = Schedule::new(None, Some(start() + HOUR), start());
        let near = start() + HOUR - LEAD;
        assert_eq!(schedule.begin_if_due(near - MINUTE), None);
        assert_eq!(schedule.begin_if_due(near), Some(RenewalCause::Expiring));
        assert!(schedule.answered(Some(start() + HOUR), near).1, "the host has no other yet: it is told");
        assert_eq!(schedule.begin_if_due(near + MINUTE / 2), None, "not at once again");
        assert_eq!(schedule.begin_if_due(near + MINUTE), Some(RenewalCause::Expiring));
        assert!(!schedule.failed(near + MINUTE), "told once");
        assert_eq!(schedule.begin_if_due(start() + 2 * HOUR), Some(RenewalCause::Expiring));
        assert!(!schedule.answered(Some(start() + 3 * HOUR), start() + 2 * HOUR).1);
        assert_eq!(schedule.next(), Some(start() + 3 * HOUR - LEAD));
        schedule.begin(RenewalCause::Changed);
        assert!(schedule.failed(start() + 2 * HOUR), "told again after it was well");
    }

    #[test]
    fn a_failure_is_tried_again_and_moves_no_other_time() {
        let mut schedule = Schedule::new(Some(HOUR), None, start());
        let due = start() + HOUR;
        assert_eq!(schedule.begin_if_due(due), Some(RenewalCause::Due));
        assert!(schedule.failed(due));
        assert_eq!(schedule.next(), Some(due + RETRY));
        // The host was asleep.
        let woken = due + 12 * HOUR;
        assert_eq!(schedule.begin_if_due(woken), Some(RenewalCause::Due));
        assert_eq!(schedule.answered(None, woken), (RenewalCause::Due, false));
        assert_eq!(schedule.next(), Some(woken + HOUR));
    }
}
