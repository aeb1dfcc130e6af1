//! How a virtual machine enforces the limits of a bottle: what it does not have, nothing in it can use.

use bot_bottle_core::limits::{ByteSize, Limits};
use bot_bottle_smolvm::Resources;

use crate::backend::Unmet;

/// Memory of a machine whose manifest names no limit, in MiB. smolvm takes of the host what is in use.
const DEFAULT_MEMORY_MIB: u64 = 4096;

/// Least memory of a machine, in MiB: smolvm's own bound is 64, in which no image starts.
const LEAST_MEMORY_MIB: u64 = 256;

/// Processors of a machine whose manifest names no limit.
const DEFAULT_CPUS: u8 = 2;

/// Size of each of a machine's disks whose manifest names no limit, in GiB. They take of the host what is in use.
const DEFAULT_DISK_GIB: u32 = 20;

/// Most processes and threads of a bottle whose manifest names no limit, as on the native backend.
const DEFAULT_PROCESSES: u64 = 8192;

const MEBIBYTE: u64 = 1 << 20;
const GIBIBYTE: u64 = 1 << 30;

/// How each limit is enforced, one sentence each.
///
/// # Errors
/// The limits that no machine can have.
pub(super) fn check(limits: &Limits) -> Result<Vec<String>, Vec<Unmet>> {
    let (mut met, mut unmet) = (Vec::new(), Vec::new());
    let machine = resources(limits);
    if let Some(ByteSize(bytes)) = limits.memory
        && bytes < LEAST_MEMORY_MIB * MEBIBYTE
    {
        unmet.push(Unmet(format!("a virtual machine needs {LEAST_MEMORY_MIB} MiB: `limits.memory` is less")));
    }
    if let Some(ByteSize(bytes)) = limits.disk
        && bytes < GIBIBYTE
    {
        unmet.push(Unmet(
            "the disk of a virtual machine has 1 GiB at least: `limits.disk` is less".to_owned(),
        ));
    }
    met.push(format!("memory: the machine has {} MiB", machine.memory_mib));
    met.push(format!("cpus: the machine has {}", machine.cpus));
    met.push(format!("processes: at most {}, by the machine's kernel", processes(limits)));
    if limits.disk.is_some() {
        met.push(format!("disk: each of the machine's two disks has {} GiB", machine.storage_gib));
    }
    if let Some(time) = limits.time {
        met.push(format!("time: the bottle ends after {time}"));
    }
    if unmet.is_empty() { Ok(met) } else { Err(unmet) }
}

/// What the machine of a bottle has.
pub(super) fn resources(limits: &Limits) -> Resources {
    let memory = limits.memory.map_or(DEFAULT_MEMORY_MIB, |ByteSize(bytes)| bytes / MEBIBYTE);
    // Whole processors: a machine has no part of one. The manifest's limit is positive.
    let cpus = limits.cpus.map_or(DEFAULT_CPUS, |cpus| cpus.floor().clamp(1.0, 255.0) as u8);
    let disk = limits.disk.map(|ByteSize(bytes)| u32::try_from(bytes / GIBIBYTE).unwrap_or(u32::MAX));
    let disk = disk.unwrap_or(DEFAULT_DISK_GIB);
    Resources {
        cpus,
        memory_mib: u32::try_from(memory).unwrap_or(u32::MAX),
        storage_gib: disk,
        overlay_gib: disk,
    }
}

/// Most processes and threads of a bottle.
pub(super) fn processes(limits: &Limits) -> u64 {
    limits.pids.map_or(DEFAULT_PROCESSES, u64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_what_the_limits_say_and_no_more() {
        let limits = Limits {
            memory: Some(ByteSize(3 * GIBIBYTE + 1)),
            cpus: Some(2.7),
            disk: Some(ByteSize(5 * GIBIBYTE)),
            pids: Some(100),
            ..Limits::default()
        };
        let machine = resources(&limits);
        assert_eq!((machine.cpus, machine.memory_mib, machine.storage_gib), (2, 3072, 5));
        assert_eq!(processes(&limits), 100);
        assert_eq!(check(&limits).expect("enforced").len(), 4);
        let half = resources(&Limits { cpus: Some(0.5), ..Limits::default() });
        assert_eq!(half.cpus, 1, "a machine has one at least");
    }

    #[test]
    fn what_no_machine_can_have_is_refused() {
        let limits = Limits {
            memory: Some(ByteSize(100 * MEBIBYTE)),
            disk: Some(ByteSize(GIBIBYTE - 1)),
            ..Limits::default()
        };
        assert_eq!(check(&limits).expect_err("too small").len(), 2);
    }
}
