//! Waits for what takes a moment.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::ensure;

/// A test that waits this long fails.
const LIMIT: Duration = Duration::from_secs(300);

/// How long to wait before it is looked again.
const PAUSE: Duration = Duration::from_millis(50);

/// Waits until it is so.
///
/// # Errors
/// When it cannot be looked, or it is not so in time.
pub fn eventually(what: &str, mut holds: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = Instant::now() + LIMIT;
    while !holds()? {
        ensure!(Instant::now() < deadline, "not in time: {what}");
        thread::sleep(PAUSE);
    }
    Ok(())
}
