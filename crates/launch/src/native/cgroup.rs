//! Control groups: which of them limit a bottle, as data. cgroups(7).
//!
//! Making and removing them is in [`fs`].

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub(crate) mod fs;

/// Length of a period in which processor time is counted, in microseconds; the kernel's own.
const PERIOD: u64 = 100_000;

/// The least quota that the kernel takes, in microseconds of a period.
const MIN_QUOTA: u64 = 1000;

/// Prefix of the name of every bottle's group.
pub(super) const PREFIX: &str = "bot-bottle-";

/// What a group counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Controller {
    /// Memory of every kind.
    Memory,
    /// Processor time.
    Cpu,
}

impl Controller {
    /// What the kernel calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
        }
    }
}

/// Which interface a group has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Version {
    /// Each controller has a tree of its own.
    V1,
    /// One tree for all.
    V2,
}

/// A group in which this user could make another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// Where its files are.
    pub folder: PathBuf,
    /// Which interface it has.
    pub version: Version,
    /// What groups below it count.
    pub controllers: Vec<Controller>,
}

/// A group of a bottle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Where its files are.
    pub folder: PathBuf,
    /// What it limits.
    pub counts: Vec<Controller>,
    /// What is written to its files.
    pub control_files: Vec<ControlFile>,
    /// The file that counts processes killed by the OOM killer, if memory is counted.
    pub oom_events: Option<PathBuf>,
}

/// One control file of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlFile {
    /// Its name.
    pub file: String,
    /// What is written.
    pub value: String,
    /// Whether the file may be missing, as on a kernel without swap.
    pub optional: bool,
}

/// What a bottle is limited to by groups.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Wanted {
    /// In bytes.
    pub(super) memory: Option<u64>,
    /// Processors.
    pub(super) cpus: Option<f64>,
}

/// The groups, the nearest first, below which this process might make another. `own` is `/proc/self/cgroup`,
/// `mounts` is `/proc/self/mountinfo`. These files do not tell which controllers a group of version 2 has.
pub(super) fn places(own: &str, mounts: &str) -> Vec<Parent> {
    let mut places = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(names), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let known = [Controller::Memory, Controller::Cpu];
        let controllers: Vec<_> =
            known.into_iter().filter(|known| names.split(',').any(|name| name == known.name())).collect();
        let version = if names.is_empty() { Version::V2 } else { Version::V1 };
        if version == Version::V1 && controllers.is_empty() {
            continue;
        }
        let Some((mounted_at, below)) = mount_of(mounts, names, Path::new(path)) else { continue };
        // In version 2 a group with processes cannot have limited groups below it (the "no internal
        // processes" rule, cgroups(7)), so those above are tried too.
        let levels = if version == Version::V1 { 1 } else { below.components().count() + 1 };
        for level in below.ancestors().take(levels) {
            let folder = mounted_at.join(level);
            places.push(Parent { folder, version, controllers: controllers.clone() });
        }
    }
    places
}

/// Where the tree of these controllers is mounted, and the path of a group in it.
fn mount_of(mounts: &str, names: &str, path: &Path) -> Option<(PathBuf, PathBuf)> {
    let wanted_kind = if names.is_empty() { "cgroup2" } else { "cgroup" };
    mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut kind = kind.split(' ');
        let (system, options) = (kind.next()?, kind.nth(1)?);
        let has_all =
            names.split(',').all(|name| name.is_empty() || options.split(',').any(|one| one == name));
        if system != wanted_kind || !has_all {
            return None;
        }
        let mut place = place.split(' ').skip(3);
        let (root, mounted_at) = (place.next()?, place.next()?);
        let below = path.strip_prefix(root).ok()?;
        Some((PathBuf::from(mounted_at), below.to_owned()))
    })
}

/// The groups of a bottle called `name`, below parents that are usable: as few as possible. A limit that no
/// parent can count is left out.
pub(super) fn plan(name: &str, wanted: Wanted, parents: &[Parent]) -> Vec<Group> {
    let limit = |controller: Controller| match controller {
        Controller::Memory => wanted.memory.is_some(),
        Controller::Cpu => wanted.cpus.is_some(),
    };
    let mut missing: Vec<Controller> =
        [Controller::Memory, Controller::Cpu].into_iter().filter(|one| limit(*one)).collect();
    let mut groups = Vec::new();
    let mut has_second_version = false;
    // A process can be in one group of version 2 only, so the parent with most controllers comes first.
    let mut parents: Vec<&Parent> = parents.iter().collect();
    parents.sort_by_key(|parent| std::cmp::Reverse(count(parent, &missing)));
    for parent in parents {
        let counted: Vec<_> =
            missing.iter().copied().filter(|one| parent.controllers.contains(one)).collect();
        if counted.is_empty() || (parent.version == Version::V2 && has_second_version) {
            continue;
        }
        has_second_version |= parent.version == Version::V2;
        missing.retain(|one| !counted.contains(one));
        let folder = parent.folder.join(format!("{PREFIX}{name}"));
        let control_files =
            counted.iter().flat_map(|one| control_files(*one, parent.version, wanted)).collect();
        let file = match parent.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        let oom_events = counted.contains(&Controller::Memory).then(|| folder.join(file));
        groups.push(Group { folder, counts: counted, control_files, oom_events });
    }
    groups
}

fn count(parent: &Parent, wanted: &[Controller]) -> usize {
    wanted.iter().filter(|one| parent.controllers.contains(one)).count()
}

fn control_files(controller: Controller, version: Version, wanted: Wanted) -> Vec<ControlFile> {
    let control_file =
        |file: &str, value: String, optional| ControlFile { file: file.to_owned(), value, optional };
    let bytes = wanted.memory.unwrap_or(u64::MAX).to_string();
    let quota = wanted.cpus.map_or(PERIOD, |cpus| ((cpus * PERIOD as f64) as u64).max(MIN_QUOTA));
    match (controller, version) {
        (Controller::Memory, Version::V1) => vec![
            control_file("memory.limit_in_bytes", bytes.clone(), false),
            control_file("memory.memsw.limit_in_bytes", bytes, true),
        ],
        (Controller::Memory, Version::V2) => {
            vec![
                control_file("memory.max", bytes, false),
                control_file("memory.swap.max", "0".to_owned(), true),
            ]
        }
        (Controller::Cpu, Version::V1) => vec![
            control_file("cpu.cfs_period_us", PERIOD.to_string(), false),
            control_file("cpu.cfs_quota_us", quota.to_string(), false),
        ],
        (Controller::Cpu, Version::V2) => vec![control_file("cpu.max", format!("{quota} {PERIOD}"), false)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN_V1: &str = "9:name=systemd:/\n4:memory:/some/where\n3:cpuset:/\n2:cpu,cpuacct:/\n0::/\n";
    const MOUNTS_V1: &str = "\
        33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
        35 31 0:32 /some /sys/fs/cgroup/memory rw,relatime shared:1 - cgroup cgroup rw,memory\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

    fn parent(folder: &str, version: Version, controllers: &[Controller]) -> Parent {
        Parent { folder: folder.into(), version, controllers: controllers.to_vec() }
    }

    #[test]
    fn each_tree_of_the_first_version_is_found_by_its_mount() {
        assert_eq!(
            places(OWN_V1, MOUNTS_V1),
            [
                parent("/sys/fs/cgroup/memory/where", Version::V1, &[Controller::Memory]),
                parent("/sys/fs/cgroup/cpu,cpuacct/", Version::V1, &[Controller::Cpu]),
                parent("/sys/fs/cgroup/unified/", Version::V2, &[]),
            ]
        );
        assert_eq!(places("nonsense\n4:memory:/elsewhere\n", MOUNTS_V1), []);
    }

    #[test]
    fn of_the_second_version_the_groups_above_are_tried_too() {
        let mounts = "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = places("0::/user.slice/app.slice/vte.scope\n", mounts);
        let folders: Vec<_> = found.iter().map(|parent| parent.folder.to_string_lossy()).collect();
        assert_eq!(
            folders,
            [
                "/sys/fs/cgroup/user.slice/app.slice/vte.scope",
                "/sys/fs/cgroup/user.slice/app.slice",
                "/sys/fs/cgroup/user.slice",
                "/sys/fs/cgroup/",
            ]
        );
    }

    #[test]
    fn groups_hold_the_limits() {
        let wanted = Wanted { memory: Some(1 << 20), cpus: Some(0.5) };
        let both = [Controller::Memory, Controller::Cpu];
        let told = |groups: &[Group]| -> Vec<String> {
            let lines = groups.iter().flat_map(|group| {
                let folder = group.folder.display();
                group.control_files.iter().map(move |one| format!("{folder}/{}={}", one.file, one.value))
            });
            lines.collect()
        };
        let first = [parent("/m", Version::V1, &[both[0]]), parent("/c", Version::V1, &[both[1]])];
        assert_eq!(
            told(&plan("x", wanted, &first)),
            [
                "/m/bot-bottle-x/memory.limit_in_bytes=1048576",
                "/m/bot-bottle-x/memory.memsw.limit_in_bytes=1048576",
                "/c/bot-bottle-x/cpu.cfs_period_us=100000",
                "/c/bot-bottle-x/cpu.cfs_quota_us=50000",
            ]
        );
        // The farther one counts both, and a process cannot be in two.
        let second = [parent("/near", Version::V2, &[both[0]]), parent("/far", Version::V2, &both)];
        assert_eq!(
            told(&plan("x", wanted, &second)),
            [
                "/far/bot-bottle-x/memory.max=1048576",
                "/far/bot-bottle-x/memory.swap.max=0",
                "/far/bot-bottle-x/cpu.max=50000 100000",
            ]
        );
        assert_eq!(told(&plan("x", Wanted { memory: None, cpus: None }, &second)), Vec::<String>::new());
        assert_eq!(plan("x", wanted, &[]), []);
    }
}
