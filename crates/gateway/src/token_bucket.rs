//! A token bucket: how much of something may happen at once, and how fast more may follow.

use std::time::{Duration, Instant};

/// Bytes that may be spent: `burst` at once, and `per_second` more as time passes.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    burst: i64,
    per_second: u64,
    /// Fewer than none after [`TokenBucket::charge`].
    tokens: i64,
    /// Up to when tokens have been added.
    filled: Instant,
}

impl TokenBucket {
    /// A full one.
    pub(crate) fn new(burst: u64, per_second: u64, now: Instant) -> Self {
        let burst = i64::try_from(burst).unwrap_or(i64::MAX);
        Self { burst, per_second, tokens: burst, filled: now }
    }

    /// Takes so many tokens, or none where there are fewer.
    pub(crate) fn take(&mut self, tokens: u64, now: Instant) -> bool {
        self.fill(now);
        let is_enough = u64::try_from(self.tokens).is_ok_and(|left| left >= tokens);
        if is_enough {
            self.spend(tokens);
        }
        is_enough
    }

    /// Takes so many tokens where there is any, on credit beyond those: for what must not wait for ever while others
    /// take each token as it comes. The rate is kept all the same.
    pub(crate) fn charge(&mut self, tokens: u64, now: Instant) -> bool {
        self.fill(now);
        let is_any = self.tokens > 0;
        if is_any {
            self.spend(tokens);
        }
        is_any
    }

    fn spend(&mut self, tokens: u64) {
        self.tokens = self.tokens.saturating_sub_unsigned(tokens);
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled);
        let added = u64::try_from(passed.as_nanos() * u128::from(self.per_second) / 1_000_000_000);
        let added = added.unwrap_or(u64::MAX);
        if added > 0 {
            self.tokens = self.tokens.saturating_add_unsigned(added).min(self.burst);
            // The time of the tokens that were added, so that no fraction of one is lost.
            let spent = u128::from(added) * 1_000_000_000 / u128::from(self.per_second.max(1));
            self.filled += Duration::from_nanos(u64::try_from(spent).unwrap_or(u64::MAX)).min(passed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(100, 10, start);
        assert!(bucket.take(100, start) && !bucket.take(1, start));
        let later = start + Duration::from_millis(1_050);
        assert!(bucket.take(10, later) && !bucket.take(1, later));
        assert!(bucket.take(1, start + Duration::from_millis(1_100)), "the 50 ms before count");
        let soon = start + Duration::from_millis(1_200);
        assert!(bucket.charge(21, soon), "one on hand, twenty on credit");
        assert!(
            !bucket.charge(1, soon + Duration::from_secs(2))
                && !bucket.take(1, soon + Duration::from_secs(2))
        );
        assert!(bucket.take(1, soon + Duration::from_millis(2_100)));
        let much_later = start + Duration::from_secs(3600);
        assert!(bucket.take(100, much_later) && !bucket.take(1, much_later), "no more than the burst");
    }
}
