//! Makes control groups, moves processes into them, and removes them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::process::Pid;

use super::{self as cgroup, Controller, Group, PREFIX, Parent, Version};

/// How often removing a group is tried: the kernel says EBUSY for a moment after its last process has ended.
const REMOVAL_ATTEMPTS: u32 = 200;

/// The pause between two attempts.
const REMOVAL_PAUSE: Duration = Duration::from_millis(10);

/// Groups below which this user can make others, found out by trying it.
pub(crate) fn usable_parents() -> Vec<Parent> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let places = cgroup::places(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"));
    let with_controllers = places.into_iter().map(|mut place| {
        if place.version == Version::V2 {
            let given = fs::read_to_string(place.folder.join("cgroup.subtree_control")).unwrap_or_default();
            let has = |name: &str| given.split_whitespace().any(|one| one == name);
            let all = [(Controller::Memory, "memory"), (Controller::Cpu, "cpu")];
            place.controllers = all.into_iter().filter(|(_, name)| has(name)).map(|(one, _)| one).collect();
        }
        place
    });
    with_controllers.filter(|place| !place.controllers.is_empty() && can_make(&place.folder)).collect()
}

fn can_make(parent: &Path) -> bool {
    let probe = parent.join(format!("{PREFIX}probe-{}", std::process::id()));
    fs::create_dir(&probe).is_ok() && fs::remove_dir(&probe).is_ok()
}

/// Makes a group and sets its limits, before any process is in it.
pub(crate) fn make(group: &Group) -> io::Result<()> {
    fs::create_dir(&group.folder)?;
    for control in &group.control_files {
        let file = group.folder.join(&control.file);
        match fs::write(&file, &control.value) {
            Err(error) if control.optional && error.kind() == io::ErrorKind::NotFound => {}
            // cgroupfs answers EACCES, not ENOENT, to creating an unknown control file.
            Err(error) if control.optional && error.kind() == io::ErrorKind::PermissionDenied => {}
            written => written?,
        }
    }
    Ok(())
}

/// Moves a process into a group; its children will be in it too.
pub(crate) fn enter(group: &Group, pid: Pid) -> io::Result<()> {
    fs::write(group.folder.join("cgroup.procs"), pid.as_raw_pid().to_string())
}

/// Removes a group whose processes have ended. Succeeds if it does not exist.
pub(crate) fn remove(folder: &Path) -> io::Result<()> {
    // The path comes from a file that may be forged: only names with our prefix are touched.
    if !folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX)) {
        return Ok(());
    }
    for attempt in 1.. {
        match fs::remove_dir(folder) {
            Ok(()) => break,
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && attempt < REMOVAL_ATTEMPTS => {
                thread::sleep(REMOVAL_PAUSE);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether the OOM killer has killed a process of these groups.
pub(crate) fn ran_out_of_memory(oom_events: &[PathBuf]) -> bool {
    oom_events.iter().any(|file| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let killed = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        killed.is_some_and(|count| count.trim() != "0")
    })
}
