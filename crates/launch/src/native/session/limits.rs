//! Watches the limits that no kernel mechanism turns into the bottle's end: memory, time and disk.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bot_bottle_core::limits::{ByteSize, WallTime};

use crate::{files::remove::measure_tree, request::EndedBy, state::WORKSPACE};

use super::super::{cgroup, limits::LimitMeans};

/// How often the OOM counters of the bottle's cgroups are read.
const MEMORY_INTERVAL: Duration = Duration::from_millis(500);

/// How often the disk usage is measured at most; a measurement takes at most a tenth of the time.
const DISK_INTERVAL: Duration = Duration::from_secs(2);

/// One limit that is checked from time to time.
trait Watcher {
    /// When to check next.
    fn due(&self) -> Instant;
    /// Why the bottle has to end, if it has reached the limit.
    fn check(&mut self) -> Option<EndedBy>;
}

/// The limits of one bottle that the launcher watches.
pub(super) struct LimitWatchers {
    memory: Option<MemoryWatcher>,
    time: Option<TimeWatcher>,
    disk: Option<DiskWatcher>,
}

impl LimitWatchers {
    pub(super) fn new(run: &Path, means: &LimitMeans) -> Self {
        let now = Instant::now();
        let events = || means.groups.iter().filter_map(|group| group.oom_events.clone()).collect();
        Self {
            memory: means.memory.map(|limit| MemoryWatcher { events: events(), limit, due: now }),
            time: means.time.map(|limit| TimeWatcher { limit, due: now + limit.duration() }),
            disk: means.disk.map(|limit| DiskWatcher {
                folders: [run.join("home"), run.join(WORKSPACE)],
                limit,
                due: now,
            }),
        }
    }

    /// When the next check is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let watchers: [Option<&dyn Watcher>; 3] =
            [as_watcher(&self.memory), as_watcher(&self.time), as_watcher(&self.disk)];
        watchers.into_iter().flatten().map(Watcher::due).min()
    }

    /// Makes the checks that are due, up to the first limit that is reached.
    pub(super) fn check(&mut self) -> Option<EndedBy> {
        let now = Instant::now();
        let watchers: [Option<&mut dyn Watcher>; 3] = [
            self.memory.as_mut().map(|watcher| watcher as _),
            self.time.as_mut().map(|watcher| watcher as _),
            self.disk.as_mut().map(|watcher| watcher as _),
        ];
        watchers.into_iter().flatten().filter(|watcher| now >= watcher.due()).find_map(Watcher::check)
    }

    /// Checks memory at once: the OOM killer may be the reason why the agent or the first process ended.
    pub(super) fn check_memory(&mut self) -> Option<EndedBy> {
        self.memory.as_mut().and_then(Watcher::check)
    }
}

fn as_watcher<W: Watcher>(watcher: &Option<W>) -> Option<&dyn Watcher> {
    watcher.as_ref().map(|watcher| watcher as _)
}

/// The kernel kills some process of a full cgroup. A bottle with one process missing is of no use, so all of
/// it ends.
struct MemoryWatcher {
    /// The files in which the kernel counts such kills.
    events: Vec<PathBuf>,
    limit: ByteSize,
    due: Instant,
}

impl Watcher for MemoryWatcher {
    fn due(&self) -> Instant {
        self.due
    }

    fn check(&mut self) -> Option<EndedBy> {
        self.due = Instant::now() + MEMORY_INTERVAL;
        let limit = self.limit;
        cgroup::fs::ran_out_of_memory(&self.events)
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

    fn check(&mut self) -> Option<EndedBy> {
        Some(EndedBy::Limit(format!("the bottle reached `limits.time: {}`", self.limit)))
    }
}

struct DiskWatcher {
    folders: [PathBuf; 2],
    limit: ByteSize,
    due: Instant,
}

impl Watcher for DiskWatcher {
    fn due(&self) -> Instant {
        self.due
    }

    fn check(&mut self) -> Option<EndedBy> {
        let started = Instant::now();
        let mut used = 0;
        for folder in &self.folders {
            match measure_tree(folder) {
                Ok(bytes) => used += bytes,
                Err((path, error)) => {
                    let path = path.display();
                    return Some(EndedBy::Limit(format!(
                        "`limits.disk` cannot be watched any more: {path} cannot be measured: {error}"
                    )));
                }
            }
        }
        self.due = Instant::now() + DISK_INTERVAL.max(started.elapsed() * 10);
        let limit = self.limit;
        (used > limit.0).then(|| {
            let used = ByteSize(used >> 20 << 20);
            EndedBy::Limit(format!("the bottle wrote {used}, more than `limits.disk: {limit}`"))
        })
    }
}
