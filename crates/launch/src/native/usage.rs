//! How much memory a bottle uses, where no cgroup counts it.

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt, path::Path};

use super::render::SCRATCH;

/// Most open files that are looked at in one process, so that a program that opens very many does not keep the
/// count from ending.
const MAX_FILES_PER_PROCESS: usize = 4096;

/// Bytes of memory: each process's share of what is resident, its page tables, and files in memory, mapped or
/// not. None if it cannot be looked at, which is no reason to go on.
///
/// Not counted are what the kernel holds in pipes and sockets, and files without a name that are in flight
/// between processes: a cgroup counts those, and `docs/backends/native.md` says so.
pub(super) fn memory() -> Option<u64> {
    let scratch: u64 = SCRATCH.iter().map(|(path, _, _)| used_of(Path::new(path))).sum();
    let mut nameless = BTreeSet::new();
    let (mut private, mut shared) = (0, 0);
    for entry in fs::read_dir("/proc").ok()? {
        let entry = entry.ok()?;
        if entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()) {
            collect_nameless(&entry.path().join("fd"), &mut nameless);
            let share = share_of(&entry.path());
            private += share.private;
            shared += share.shared;
        }
    }
    let files = scratch + nameless.iter().map(|(_, _, bytes)| bytes).sum::<u64>() + segments();
    Some(private + shared.max(files))
}

/// One process's share of memory, in bytes.
#[derive(Default)]
struct Share {
    private: u64,
    /// Of files in memory, which are counted as files too.
    shared: u64,
}

fn used_of(path: &Path) -> u64 {
    rustix::fs::statvfs(path).map_or(0, |stat| (stat.f_blocks - stat.f_bfree) * stat.f_frsize)
}

/// A process that has just ended has no share.
fn share_of(process: &Path) -> Share {
    let read = |name: &str| fs::read_to_string(process.join(name)).unwrap_or_default();
    let (resident, status) = (read("smaps_rollup"), read("status"));
    let bytes = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        number.unwrap_or(0) * 1024
    };
    let private = ["Pss_Anon:", "Pss_File:", "SwapPss:", "Private_Hugetlb:", "Shared_Hugetlb:"];
    Share {
        private: private.iter().map(|name| bytes(&resident, name)).sum::<u64>() + bytes(&status, "VmPTE:"),
        shared: bytes(&resident, "Pss_Shmem:"),
    }
}

/// What shared memory of System V holds, attached or not; shmctl(2), proc_sysvipc_shm(5).
fn segments() -> u64 {
    let table = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    let column = |line: &str, index: usize| line.split_whitespace().nth(index)?.parse::<u64>().ok();
    // The columns `rss` and `swap`, in bytes.
    let lines = table.lines().skip(1);
    lines.map(|line| column(line, 14).unwrap_or(0) + column(line, 15).unwrap_or(0)).sum()
}

/// Files made by memfd_create(2), and files whose name was taken away, by device and inode.
fn collect_nameless(descriptors: &Path, nameless: &mut BTreeSet<(u64, u64, u64)>) {
    for entry in fs::read_dir(descriptors).into_iter().flatten().flatten().take(MAX_FILES_PER_PROCESS) {
        let path = entry.path();
        let in_memory = fs::read_link(&path)
            .is_ok_and(|target| target.as_os_str().as_encoded_bytes().starts_with(b"/memfd:"));
        if in_memory && let Ok(metadata) = fs::metadata(&path) {
            nameless.insert((metadata.dev(), metadata.ino(), metadata.blocks() * 512));
        }
    }
}
