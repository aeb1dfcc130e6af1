//! How the engine enforces the limits of a bottle.

use bot_bottle_core::limits::Limits;
use bot_bottle_engine::EngineInfo;

use crate::backend::Unmet;

/// Most processes and threads of a bottle whose manifest names no limit, as on the native backend.
const DEFAULT_PROCESSES: u64 = 8192;

/// Billionths of a processor, the unit in which an engine counts.
const NANO: f64 = 1e9;

/// How each limit is enforced by an engine, one sentence each.
///
/// # Errors
/// The limits that it does not enforce: it would ignore them without a word.
pub(super) fn check(limits: &Limits, info: &EngineInfo) -> Result<Vec<String>, Vec<Unmet>> {
    let (mut met, mut unmet) = (Vec::new(), Vec::new());
    let engine = format!("{} {}", info.kind, info.version);
    let mut decide = |name: &str, is_enforced: bool, sentence: String| {
        if is_enforced {
            met.push(sentence);
        } else {
            unmet.push(Unmet(format!("`limits.{name}` is not enforced by {engine} on this host")));
        }
    };
    let processes = processes(limits);
    if limits.pids.is_some() || info.limits.pids {
        decide("pids", info.limits.pids, format!("processes: at most {processes}, by the engine's cgroup"));
    }
    if let Some(cpus) = limits.cpus {
        decide(
            "cpus",
            info.limits.cpu,
            format!("cpus: the time of {cpus} processors, by the engine's cgroup"),
        );
    }
    if let Some(bytes) = limits.memory {
        let sentence =
            format!("memory: at most {bytes}, by the engine's cgroup; the bottle ends when it is full");
        decide("memory", info.limits.memory, sentence);
    }
    if limits.disk.is_some() {
        // A quota of the container's layer needs a storage driver on xfs with project quotas, and volumes have none.
        unmet.push(Unmet("`limits.disk` is not enforced by the docker backend".to_owned()));
    }
    if let Some(time) = limits.time {
        met.push(format!("time: the bottle ends after {time}"));
    }
    if unmet.is_empty() { Ok(met) } else { Err(unmet) }
}

/// Most processes and threads of a bottle.
pub(super) fn processes(limits: &Limits) -> u64 {
    limits.pids.map_or(DEFAULT_PROCESSES, u64::from)
}

/// Processor time as the engine counts it.
pub(super) fn nano_cpus(cpus: f64) -> u64 {
    // The manifest's limit is positive, and some thousand at most.
    (cpus * NANO).round() as u64
}
