//! By which means each limit is enforced here.

use bot_bottle_core::limits::{ByteSize, Limits, WallTime};
use serde::{Deserialize, Serialize};

use super::render::SCRATCH_BYTES;

/// Most processes and threads of a bottle whose manifest names no limit: enough for every build, and an end
/// for a fork bomb.
const DEFAULT_PROCESSES: u64 = 8192;

/// By which means each limit is enforced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LimitMeans {
    /// `RLIMIT_NPROC` in the bottle's user namespace.
    pub processes: u64,
    /// Whole processors, by affinity.
    pub processors: Option<usize>,
    /// Resident memory, watched by the bottle's first process.
    pub memory_watch: Option<ByteSize>,
    /// Bytes on disk, watched by the launcher; also the longest file.
    pub disk: Option<ByteSize>,
    /// Wall-clock time, by the launcher's timer.
    pub time: Option<WallTime>,
    /// Size of each folder in memory, before its share.
    pub scratch: u64,
}

impl LimitMeans {
    /// Chooses the means. Gives the limits that cannot be enforced, one sentence each.
    pub fn choose(limits: &Limits, processors_of_host: usize) -> Result<Self, Vec<String>> {
        let mut impossible = Vec::new();
        let processors = limits.cpus.and_then(|cpus| {
            if cpus.fract() == 0.0 && cpus >= 1.0 {
                Some((cpus as usize).min(processors_of_host))
            } else {
                impossible.push(format!(
                    "`limits.cpus: {cpus}` cannot be enforced: a fraction of a processor needs a cgroup, and \
                     this user may not make one"
                ));
                None
            }
        });
        if !impossible.is_empty() {
            return Err(impossible);
        }
        let scratch = [limits.memory, limits.disk].into_iter().flatten().map(|size| size.0);
        Ok(Self {
            processes: limits.pids.map_or(DEFAULT_PROCESSES, u64::from),
            processors,
            memory_watch: limits.memory,
            disk: limits.disk,
            time: limits.time,
            scratch: scratch.fold(SCRATCH_BYTES, u64::min),
        })
    }
    /// Which means enforces each limit, one sentence each.
    #[must_use]
    pub fn describe(&self) -> Vec<String> {
        let mut sentences = vec![format!("processes: at most {}, counted by the kernel", self.processes)];
        if let Some(count) = self.processors {
            sentences.push(format!("cpus: programs run on {count} processors only"));
        }
        if let Some(bytes) = self.memory_watch {
            sentences.push(format!("memory: looked at twice a second, the bottle ends at {bytes}"));
        }
        if let Some(bytes) = self.disk {
            sentences.push(format!("disk: looked at every two seconds, the bottle ends at {bytes}"));
        }
        if let Some(time) = self.time {
            sentences.push(format!("time: the bottle ends after {time}"));
        }
        sentences
    }
}
