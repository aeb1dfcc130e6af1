//! Measures how much memory a bottle uses, where no cgroup counts it.

use std::{
    collections::BTreeSet,
    fs,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen},
    time::{ClockId, clock_gettime},
};

use crate::sys;

use super::render::SCRATCH;

/// Processor time that one measurement may take. For 8192 processes with a few descriptors each it takes a
/// tenth of that. Programs that open very many files, to make it slow, exceed it, and the bottle ends.
const MAX_PROCESSOR_TIME: Duration = Duration::from_secs(2);

/// Elapsed time that one measurement may take while programs keep every processor busy.
const MAX_ELAPSED_TIME: Duration = Duration::from_secs(15);

/// The bottle's processes, as its first process sees them.
pub(super) struct Processes {
    /// A procfs mount without `hidepid`: the bottle's own hides processes that its first process may not
    /// trace, and any program can become one (PR_SET_DUMPABLE, prctl(2)). It is not attached, so no program
    /// can reach it.
    mount: OwnedFd,
}

impl Processes {
    /// To be called with the capabilities of the bottle's first user namespace, and in its pid namespace.
    pub(super) fn mount() -> rustix::io::Result<Self> {
        let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&context)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC
            | MountAttrFlags::MOUNT_ATTR_RDONLY;
        Ok(Self { mount: fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)? })
    }

    /// Bytes of memory: each process's share of what is resident, its page tables, and files in memory,
    /// mapped or not. None if it cannot be measured in time; the bottle must end then.
    ///
    /// Not counted are what the kernel holds in pipes and sockets, and files without a name that are in
    /// flight between processes: a cgroup counts those, and `docs/backends/native.md` says so.
    pub(super) fn memory(&self) -> Option<u64> {
        let budget = Budget::start();
        let scratch: u64 = SCRATCH.iter().map(|(path, _, _)| used_of(Path::new(path))).sum();
        let mut nameless = BTreeSet::new();
        let (mut private, mut shared) = (0, 0);
        for process in numbered(&self.root())? {
            budget.is_left()?;
            // Threads can have descriptor tables of their own, clone(2), and an ended first thread has an
            // empty one.
            for thread in numbered(&process.join("task")).into_iter().flatten() {
                if !shares_descriptors(&process, &thread) {
                    collect_nameless(&thread.join("fd"), &mut nameless, &budget)?;
                }
            }
            collect_nameless(&process.join("fd"), &mut nameless, &budget)?;
            let share = share_of(&process, &budget)?;
            private += share.private;
            shared += share.shared;
        }
        let files = scratch + nameless.iter().map(|(_, _, bytes)| bytes).sum::<u64>() + segments();
        Some(private + shared.max(files))
    }

    fn root(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.mount.as_raw_fd()).into()
    }
}

/// How long a measurement has taken.
struct Budget {
    used: Duration,
    since: Instant,
}

impl Budget {
    fn start() -> Self {
        Self { used: processor_time(), since: Instant::now() }
    }

    /// None once it is used up.
    fn is_left(&self) -> Option<()> {
        let within = processor_time().saturating_sub(self.used) < MAX_PROCESSOR_TIME;
        (within && self.since.elapsed() < MAX_ELAPSED_TIME).then_some(())
    }
}

/// Of this process, which has one thread.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or(Duration::MAX)
}

/// Folders whose name is a number. None if they cannot be listed.
fn numbered(folder: &Path) -> Option<impl Iterator<Item = PathBuf>> {
    let entries = fs::read_dir(folder).ok()?;
    let is_number = |name: &std::ffi::OsStr| name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    Some(entries.flatten().filter(move |entry| is_number(&entry.file_name())).map(|entry| entry.path()))
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

/// A process that has just ended has no share. If its first thread has ended, the other threads show its
/// memory.
fn share_of(process: &Path, budget: &Budget) -> Option<Share> {
    if let Some(share) = share_of_thread(process) {
        return Some(share);
    }
    for thread in numbered(&process.join("task")).into_iter().flatten() {
        budget.is_left()?;
        if let Some(share) = share_of_thread(&thread) {
            return Some(share);
        }
    }
    Some(Share::default())
}

/// None where the thread has no memory any more.
fn share_of_thread(thread: &Path) -> Option<Share> {
    let read = |name: &str| fs::read_to_string(thread.join(name)).unwrap_or_default();
    let bytes = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).map(|number| number * 1024)
    };
    let status = read("status");
    let resident = bytes(&status, "VmRSS:")?;
    let tables = bytes(&status, "VmPTE:").unwrap_or(0);
    let rollup = read("smaps_rollup");
    if rollup.is_empty() {
        // A process that cannot be inspected counts with all of its resident memory, shared or not.
        return Some(Share {
            private: resident + bytes(&status, "VmSwap:").unwrap_or(0) + tables,
            shared: 0,
        });
    }
    let private = ["Pss_Anon:", "Pss_File:", "SwapPss:", "Private_Hugetlb:", "Shared_Hugetlb:"];
    Some(Share {
        private: private.iter().filter_map(|name| bytes(&rollup, name)).sum::<u64>() + tables,
        shared: bytes(&rollup, "Pss_Shmem:").unwrap_or(0),
    })
}

/// Bytes in System V shared memory segments, attached or not; shmctl(2), proc_sysvipc_shm(5).
fn segments() -> u64 {
    let table = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    let column = |line: &str, index: usize| line.split_whitespace().nth(index)?.parse::<u64>().ok();
    // The columns `rss` and `swap`, in bytes.
    let lines = table.lines().skip(1);
    lines.map(|line| column(line, 14).unwrap_or(0) + column(line, 15).unwrap_or(0)).sum()
}

/// Whether a thread shares the descriptor table of its process's first thread; false if the kernel does not
/// tell.
fn shares_descriptors(process: &Path, thread: &Path) -> bool {
    let id = |path: &Path| path.file_name()?.to_str()?.parse().ok();
    id(process).zip(id(thread)).is_some_and(|(first, thread)| sys::shares_descriptors(first, thread))
}

/// Files made by memfd_create(2), and files whose name was taken away, by device and inode.
fn collect_nameless(
    descriptors: &Path,
    nameless: &mut BTreeSet<(u64, u64, u64)>,
    budget: &Budget,
) -> Option<()> {
    /// How many descriptors are read between two checks of the time.
    const STRIDE: usize = 256;
    budget.is_left()?;
    let mut count = 0;
    for entry in fs::read_dir(descriptors).into_iter().flatten().flatten() {
        count += 1;
        if count % STRIDE == 0 {
            budget.is_left()?;
        }
        let path = entry.path();
        let in_memory = fs::read_link(&path)
            .is_ok_and(|target| target.as_os_str().as_encoded_bytes().starts_with(b"/memfd:"));
        if in_memory && let Ok(metadata) = fs::metadata(&path) {
            nameless.insert((metadata.dev(), metadata.ino(), metadata.blocks() * 512));
        }
    }
    Some(())
}
