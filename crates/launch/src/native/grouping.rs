//! Making control groups, putting a bottle into them, and removing them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::process::Pid;

use super::cgroup::{self, Controller, Group, PREFIX, Parent, Version};

/// How often a group is tried to be removed whose last process is just gone.
const REMOVAL_ATTEMPTS: u32 = 200;

/// The pause between two attempts.
const REMOVAL_PAUSE: Duration = Duration::from_millis(10);

/// Groups below which this user can make others, found out by doing it.
pub(super) fn usable_parents() -> Vec<Parent> {
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

/// Makes a group. What it holds is limited from the first process on.
pub(super) fn make(group: &Group) -> io::Result<()> {
    fs::create_dir(&group.folder)?;
    for setting in &group.settings {
        let file = group.folder.join(&setting.file);
        match fs::write(&file, &setting.value) {
            Err(error) if setting.optional && error.kind() == io::ErrorKind::NotFound => {}
            // A file that is not there cannot be made either.
            Err(error) if setting.optional && error.kind() == io::ErrorKind::PermissionDenied => {}
            written => written?,
        }
    }
    Ok(())
}

/// Puts a process into a group, and with it whatever it starts.
pub(super) fn enter(group: &Group, pid: Pid) -> io::Result<()> {
    fs::write(group.folder.join("cgroup.procs"), pid.as_raw_pid().to_string())
}

/// Removes a group whose processes are gone. One that is not there is as good.
pub(crate) fn remove(folder: &Path) -> io::Result<()> {
    // What a file that was meddled with names is no group of ours.
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

/// Whether the kernel killed a process of one of these groups for want of memory.
pub(super) fn ran_out_of_memory(told_in: &[PathBuf]) -> bool {
    told_in.iter().any(|file| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let killed = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        killed.is_some_and(|count| count.trim() != "0")
    })
}
