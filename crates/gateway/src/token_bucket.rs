//! A token bucket: how much of something may happen at once, and how fast more may follow.

use std::time::{Duration, Instant};

/// Bytes that may be spent: `burst` at once, and `per_second` more as time passes.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    burst: u64,
    per_second: u64,
    tokens: u64,
    /// Up to when tokens have been added.
    filled: Instant,
}

impl TokenBucket {
    /// A full one.
    pub(crate) fn new(burst: u64, per_second: u64, now: Instant) -> Self {
        Self { burst, per_second, tokens: burst, filled: now }
    }

    /// Takes so many tokens, or none where there are fewer.
    pub(crate) fn take(&mut self, tokens: u64, now: Instant) -> bool {
        self.fill(now);
        let left = self.tokens.checked_sub(tokens);
        self.tokens = left.unwrap_or(self.tokens);
        left.is_some()
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled);
        let added = u64::try_from(passed.as_nanos() * u128::from(self.per_second) / 1_000_000_000);
        let added = added.unwrap_or(u64::MAX);
        if added > 0 {
            self.tokens = self.tokens.saturating_add(added).min(self.burst);
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
        let much_later = start + Duration::from_secs(3600);
        assert!(bucket.take(100, much_later) && !bucket.take(1, much_later), "no more than the burst");
    }
}
