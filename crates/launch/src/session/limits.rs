//! Watches the limits that no kernel mechanism turns into the bottle's end: memory, time and disk.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bot_bottle_core::limits::{ByteSize, Limits, WallTime};

use crate::{backend::Sandbox, request::EndedBy, state::records_size};

/// How often it is asked whether the kernel has killed a program for memory.
const MEMORY_INTERVAL: Duration = Duration::from_millis(500);

/// How often the disk usage is measured at most; a measurement takes at most a tenth of the time.
const DISK_INTERVAL: Duration = Duration::from_secs(2);

/// One limit that is checked from time to time.
trait Watcher {
    /// When to check next.
    fn due(&self) -> Instant;
    /// Why the bottle has to end, if it has reached the limit.
    fn check(&mut self, sandbox: &dyn Sandbox) -> Option<EndedBy>;
}

/// The limits of one bottle that the launcher watches.
pub(crate) struct LimitWatchers {
    memory: Option<MemoryWatcher>,
    time: Option<TimeWatcher>,
    disk: Option<DiskWatcher>,
}

impl LimitWatchers {
    pub(crate) fn new(limits: &Limits, run: &Path) -> Self {
        let now = Instant::now();
        Self {
            memory: limits.memory.map(|limit| MemoryWatcher { limit, due: now }),
            time: limits.time.map(|limit| TimeWatcher { limit, due: now + limit.duration() }),
            disk: limits.disk.map(|limit| DiskWatcher { limit, due: now, run: run.to_owned() }),
        }
    }

    /// When the next check is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        let watchers: [Option<&dyn Watcher>; 3] =
            [as_watcher(&self.memory), as_watcher(&self.time), as_watcher(&self.disk)];
        watchers.into_iter().flatten().map(Watcher::due).min()
    }

    /// Makes the checks that are due, up to the first limit that is reached.
    pub(crate) fn check(&mut self, sandbox: &dyn Sandbox) -> Option<EndedBy> {
        let now = Instant::now();
        let watchers: [Option<&mut dyn Watcher>; 3] = [
            self.memory.as_mut().map(|watcher| watcher as _),
            self.time.as_mut().map(|watcher| watcher as _),
            self.disk.as_mut().map(|watcher| watcher as _),
        ];
        let mut due = watchers.into_iter().flatten().filter(|watcher| now >= watcher.due());
        due.find_map(|watcher| watcher.check(sandbox))
    }

    /// Checks memory at once: the OOM killer may be the reason why the agent or the sandbox ended.
    pub(super) fn check_memory(&mut self, sandbox: &dyn Sandbox) -> Option<EndedBy> {
        self.memory.as_mut().and_then(|watcher| watcher.check(sandbox))
    }
}

fn as_watcher<W: Watcher>(watcher: &Option<W>) -> Option<&dyn Watcher> {
    watcher.as_ref().map(|watcher| watcher as _)
}

/// The kernel kills some process of a bottle that has used its memory. A bottle with one process missing is
/// of no use, so all of it ends.
struct MemoryWatcher {
    limit: ByteSize,
    due: Instant,
}

impl Watcher for MemoryWatcher {
    fn due(&self) -> Instant {
        self.due
    }

    fn check(&mut self, sandbox: &dyn Sandbox) -> Option<EndedBy> {
        self.due = Instant::now() + MEMORY_INTERVAL;
        let limit = self.limit;
        sandbox
            .is_out_of_memory()
            .then(|| EndedBy::Limit(format!("the bottle used all of its memory, `limits.memory: {limit}`")))
    }
}

struct TimeWatcher {
    limit: WallTime,
    due: Instant,
}

impl Watcher for TimeWatcher {
    fn due(&self) -> Instant {
        self.due
    }

    fn check(&mut self, _sandbox: &dyn Sandbox) -> Option<EndedBy> {
        Some(EndedBy::Limit(format!("the bottle reached `limits.time: {}`", self.limit)))
    }
}

/// What the agent writes, and what is written about it: an agent can make the receipts grow.
struct DiskWatcher {
    limit: ByteSize,
    due: Instant,
    /// The folder of the run.
    run: PathBuf,
}

impl Watcher for DiskWatcher {
    fn due(&self) -> Instant {
        self.due
    }

    fn check(&mut self, sandbox: &dyn Sandbox) -> Option<EndedBy> {
        let started = Instant::now();
        let records = records_size(&self.run).map_err(|error| format!("{}: {error}", self.run.display()));
        let used = match sandbox.disk_usage().and_then(|used| Ok(used + records?)) {
            Ok(used) => used,
            Err(why) => {
                return Some(EndedBy::Limit(format!("`limits.disk` cannot be watched any more: {why}")));
            }
        };
        self.due = Instant::now() + DISK_INTERVAL.max(started.elapsed() * 10);
        let limit = self.limit;
        (used > limit.0).then(|| {
            let used = ByteSize(used >> 20 << 20);
            EndedBy::Limit(format!("the bottle wrote {used}, more than `limits.disk: {limit}`"))
        })
    }
}
