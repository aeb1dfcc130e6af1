//! By which means each limit is enforced here.

use bot_bottle_core::limits::{ByteSize, Limits, WallTime};
use serde::{Deserialize, Serialize};

use crate::backend::Unmet;

use super::{
    cgroup::{self, Controller, Group, Parent, Wanted},
    render::SCRATCH_BYTES,
};

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
    /// Processor time, by a control group.
    pub cpus: Option<f64>,
    /// Resident memory, watched by the bottle's first process.
    pub memory_watch: Option<ByteSize>,
    /// Memory of every kind, by a control group.
    pub memory: Option<ByteSize>,
    /// The control groups.
    pub groups: Vec<Group>,
    /// Bytes on disk, watched by the launcher; also the longest file.
    pub disk: Option<ByteSize>,
    /// Wall-clock time, by the launcher's timer.
    pub time: Option<WallTime>,
    /// Size of each folder in memory, before its share.
    pub scratch: u64,
}

/// What a host has to enforce limits with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostMeans {
    /// Processors that this process may use.
    pub processors: usize,
    /// Control groups below which this user can make others.
    pub parents: Vec<Parent>,
}

impl HostMeans {
    /// Looks at the host, as far as these limits need it.
    #[must_use]
    pub fn gather(limits: &Limits) -> Self {
        let wants_groups = limits.memory.is_some() || limits.cpus.is_some();
        Self {
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            parents: if wants_groups { cgroup::fs::usable_parents() } else { Vec::new() },
        }
    }
}

impl LimitMeans {
    /// Chooses the means for a run of this name. Gives the limits that cannot be enforced, one sentence each.
    pub fn choose(limits: &Limits, name: &str, host: &HostMeans) -> Result<Self, Vec<Unmet>> {
        let wanted = Wanted { memory: limits.memory.map(|size| size.0), cpus: limits.cpus };
        let groups = cgroup::plan(name, wanted, &host.parents);
        let counts = |controller: Controller| {
            groups.iter().flat_map(|group| &group.counts).any(|counted| *counted == controller)
        };
        let (memory_in_group, cpus_in_group) = (counts(Controller::Memory), counts(Controller::Cpu));
        let processors = match limits.cpus.filter(|_| !cpus_in_group) {
            None => None,
            Some(cpus) if cpus.fract() == 0.0 && cpus >= 1.0 => Some((cpus as usize).min(host.processors)),
            Some(cpus) => {
                return Err(vec![Unmet(format!(
                    "`limits.cpus: {cpus}` cannot be enforced: a fraction of a processor needs a cgroup, and \
                     this user may not make one"
                ))]);
            }
        };
        let scratch = [limits.memory, limits.disk].into_iter().flatten().map(|size| size.0);
        Ok(Self {
            processes: limits.pids.map_or(DEFAULT_PROCESSES, u64::from),
            processors,
            cpus: limits.cpus.filter(|_| cpus_in_group),
            memory_watch: limits.memory.filter(|_| !memory_in_group),
            memory: limits.memory.filter(|_| memory_in_group),
            groups,
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
        if let Some(cpus) = self.cpus {
            sentences.push(format!("cpus: the time of {cpus} processors, by a cgroup"));
        }
        if let Some(bytes) = self.memory_watch {
            sentences.push(format!("memory: looked at twice a second, the bottle ends at {bytes}"));
        }
        if let Some(bytes) = self.memory {
            sentences.push(format!("memory: at most {bytes}, by a cgroup; the bottle ends when it is full"));
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
