//! Pings, and how silence is measured.

use std::time::Duration;

use futures_util::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, MissedTickBehavior, interval};
use yamux::Stream;

use crate::LinkEnd;

/// How the end of the other end's life is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Liveness {
    /// Time between two pings, or between two looks at when the last one came.
    pub interval: Duration,
    /// Silence that ends the link.
    pub silence: Duration,
}

impl Liveness {
    /// Of the launcher's end: a busy container may answer late.
    pub const LAUNCHER: Self = Self { interval: Duration::from_secs(1), silence: Duration::from_secs(30) };
    /// Of the container's end: without a launcher nothing watches the bottle, so it ends soon.
    pub const CONTAINER: Self = Self { interval: Duration::from_secs(1), silence: Duration::from_secs(5) };
}

/// How long nothing was heard, in time during which this process ran.
#[derive(Debug)]
struct Silence {
    liveness: Liveness,
    silent_for: Duration,
    last_tick: Instant,
}

impl Silence {
    fn new(liveness: Liveness, now: Instant) -> Self {
        Self { liveness, silent_for: Duration::ZERO, last_tick: now }
    }

    fn heard(&mut self) {
        self.silent_for = Duration::ZERO;
    }

    /// Whether the other end has been silent for too long. A tick that comes late by more than an interval
    /// says that this machine slept or was stopped, and the other end may have been as well: counting starts
    /// again.
    fn tick(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.last_tick);
        self.last_tick = now;
        if elapsed > self.liveness.interval * 2 {
            self.silent_for = Duration::ZERO;
        } else {
            self.silent_for += elapsed;
        }
        self.silent_for >= self.liveness.silence
    }
}

/// The launcher's end: sends pings and waits for their answers.
pub(crate) async fn ping(mut stream: Stream, liveness: Liveness) -> Result<(), LinkEnd> {
    let mut silence = Silence::new(liveness, Instant::now());
    let mut ticks = ticks(liveness);
    let mut answers = [0; 64];
    let mut unanswered = 0;
    loop {
        tokio::select! {
            read = stream.read(&mut answers) => match read {
                Ok(0) | Err(_) => return Err(LinkEnd::Lost(None)),
                Ok(count) if count > unanswered => {
                    return Err(LinkEnd::violation("an answer to a ping that was not sent"));
                }
                Ok(count) => {
                    unanswered -= count;
                    silence.heard();
                }
            },
            _ = ticks.tick() => {
                if silence.tick(Instant::now()) {
                    return Err(LinkEnd::Silent(liveness.silence));
                }
                if stream.write_all(&[0]).await.is_err() {
                    return Err(LinkEnd::Lost(None));
                }
                unanswered += 1;
            }
        }
    }
}

/// The container's end: answers pings. The stream comes once the launcher's end has opened it.
pub(crate) async fn answer(
    stream: tokio::sync::oneshot::Receiver<Stream>,
    liveness: Liveness,
) -> Result<(), LinkEnd> {
    let mut silence = Silence::new(liveness, Instant::now());
    let mut ticks = ticks(liveness);
    tokio::pin!(stream);
    let mut stream = loop {
        tokio::select! {
            opened = &mut stream => break opened.map_err(|_| LinkEnd::Lost(None))?,
            _ = ticks.tick() => if silence.tick(Instant::now()) {
                return Err(LinkEnd::Silent(liveness.silence));
            },
        }
    };
    silence.heard();
    let mut pings = [0; 64];
    loop {
        tokio::select! {
            read = stream.read(&mut pings) => match read {
                Ok(0) | Err(_) => return Err(LinkEnd::Lost(None)),
                Ok(count) => {
                    silence.heard();
                    if stream.write_all(&pings[..count]).await.is_err() {
                        return Err(LinkEnd::Lost(None));
                    }
                }
            },
            _ = ticks.tick() => if silence.tick(Instant::now()) {
                return Err(LinkEnd::Silent(liveness.silence));
            },
        }
    }
}

fn ticks(liveness: Liveness) -> tokio::time::Interval {
    let mut ticks = interval(liveness.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_counts_only_while_this_process_runs() {
        let second = Duration::from_secs(1);
        let liveness = Liveness { interval: second, silence: second * 5 };
        let mut now = Instant::now();
        let mut silence = Silence::new(liveness, now);
        let mut after = |silence: &mut Silence, passed| {
            now += passed;
            silence.tick(now)
        };
        assert!((0..4).all(|_| !after(&mut silence, second)));
        assert!(!after(&mut silence, second * 3600), "a machine that slept");
        assert!((0..4).all(|_| !after(&mut silence, second)));
        silence.heard();
        assert!((0..4).all(|_| !after(&mut silence, second)));
        assert!(after(&mut silence, second), "five seconds of silence");
    }
}
