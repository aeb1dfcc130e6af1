//! Finds and removes what dead runs left.

use std::{io, path::PathBuf};

use bot_bottle_core::identity::Identity;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, Signal, pidfd_open, pidfd_send_signal},
};
use serde::Serialize;

use crate::{
    files::remove::remove_tree,
    home::BotBottleHome,
    native::remove_group,
    state::{self, RecordedProcess},
};

/// How long a process of a dead run may take to end once it is killed.
const END_TIMEOUT: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// What one run left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leftover {
    /// Whose; `None` for a folder that is not named like a run.
    pub identity: Option<Identity>,
    /// The folder that is removed.
    pub folder: PathBuf,
    /// Processes that still run, by process id.
    pub processes: Vec<u32>,
    /// The kept copy of a workspace, with the agent's work, if there is one.
    pub workspace: Option<PathBuf>,
}

/// What dead runs left. Living runs are never in it.
///
/// # Errors
/// When the state directory cannot be read.
pub fn plan(home: &BotBottleHome) -> io::Result<Vec<Leftover>> {
    let mut leftovers = Vec::new();
    for folder in state::folders(home)? {
        if state::is_alive(&folder)? {
            continue;
        }
        let workspace = folder.join(state::WORKSPACE);
        let has_work = std::fs::read_dir(&workspace).is_ok_and(|mut entries| entries.next().is_some());
        leftovers.push(Leftover {
            identity: state::identity_of(&folder),
            processes: running(&folder).map(|process| process.pid.unsigned_abs()).collect(),
            workspace: has_work.then_some(workspace),
            folder,
        });
    }
    Ok(leftovers)
}

/// Removes what was planned, after looking again whether each run is dead.
///
/// # Errors
/// The first thing that could not be removed; the others are removed all the same.
pub fn apply(home: &BotBottleHome, leftovers: &[Leftover]) -> io::Result<()> {
    if leftovers.is_empty() {
        return Ok(());
    }
    let mut first = Ok(());
    for leftover in leftovers {
        let removed = remove(home, leftover);
        if first.is_ok() {
            first = removed;
        }
    }
    first
}

fn remove(home: &BotBottleHome, leftover: &Leftover) -> io::Result<()> {
    // No run is made while this is held, so a run that is dead stays dead. It is held only until the folder
    // has another name: an agent can leave so many files that their removal takes hours, during which no
    // bottle could start.
    let registry = state::lock_registry(home)?;
    if leftover.folder.parent() != Some(home.state().as_path()) || state::is_alive(&leftover.folder)? {
        return Ok(());
    }
    for process in running(&leftover.folder) {
        end(process)?;
    }
    for group in state::groups(&leftover.folder) {
        remove_group(&group)?;
    }
    let folder = state::set_aside(&leftover.folder)?;
    drop(registry);
    remove_tree(&folder)
}

fn running(folder: &std::path::Path) -> impl Iterator<Item = RecordedProcess> + use<> {
    state::recorded(folder).0.into_iter().filter(|process| process.runs())
}

/// Ends a process and waits until it is gone, and with a bottle's first process everything in the bottle: a
/// process that still runs there could replace folders while they are removed.
fn end(process: RecordedProcess) -> io::Result<()> {
    let Some(pid) = Pid::from_raw(process.pid) else { return Ok(()) };
    let Ok(descriptor) = pidfd_open(pid, rustix::process::PidfdFlags::empty()) else { return Ok(()) };
    // The descriptor refers to one process for good: if the number is the recorded process now, the signal
    // goes to it and to no later one.
    if process.runs() {
        pidfd_send_signal(&descriptor, Signal::KILL)?;
        let ended = poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&END_TIMEOUT))?;
        if ended == 0 {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("process {} does not end", process.pid),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;
    use crate::state::{RecordedProcesses, RunDirectory};

    #[test]
    fn the_dead_go_and_the_living_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = BotBottleHome::new(folder.path());
        let identity = |text: &str| text.parse::<Identity>().expect("an identity");
        let living = RunDirectory::create(&home, &identity("agent-aaaaa")).expect("made");
        let dead = RunDirectory::create(&home, &identity("agent-bbbbb")).expect("made");
        fs::create_dir(dead.path().join("workspace")).expect("a folder");
        fs::write(dead.path().join("workspace/work"), b"x").expect("a file");
        let mut child = Command::new("sleep").arg("100").spawn().expect("a process");
        let recorded = RecordedProcess::of(child.id().cast_signed()).expect("recorded");
        // The second stands for a later process that has the same number.
        let reused = RecordedProcess { pid: std::process::id().cast_signed(), started: 1 };
        dead.record(&RecordedProcesses(vec![recorded, reused])).expect("recorded");
        drop(dead);

        let leftovers = plan(&home).expect("planned");
        assert_eq!(leftovers.len(), 1);
        assert_eq!(leftovers[0].identity, Some(identity("agent-bbbbb")));
        assert_eq!(leftovers[0].processes, [child.id()]);
        assert!(leftovers[0].workspace.is_some());
        apply(&home, &leftovers).expect("removed");
        assert!(child.wait().expect("waited").code().is_none(), "it was killed");
        assert!(plan(&home).expect("planned").is_empty());
        assert!(living.path().exists());
    }

    #[test]
    fn bottles_start_while_a_dead_run_is_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = BotBottleHome::new(folder.path());
        let dead = RunDirectory::create(&home, &"agent-bbbbb".parse().expect("an identity")).expect("made");
        for number in 0..30_000 {
            fs::write(dead.path().join(format!("file-{number}")), b"").expect("a file");
        }
        drop(dead);
        let set_aside = || {
            let folders = crate::state::folders(&home).expect("listed");
            folders.into_iter().any(|folder| crate::state::identity_of(&folder).is_none())
        };
        let leftovers = plan(&home).expect("planned");
        std::thread::scope(|scope| {
            let removal = scope.spawn(|| apply(&home, &leftovers));
            while !set_aside() {
                assert!(!removal.is_finished(), "it was removed under its own name");
                std::thread::yield_now();
            }
            let living = RunDirectory::create(&home, &"agent-aaaaa".parse().expect("an identity"));
            assert!(set_aside(), "it was made only when the other was gone");
            assert!(living.is_ok());
            removal.join().expect("no panic").expect("removed");
        });
        assert!(!set_aside(), "it is gone");
    }

    #[test]
    fn a_removal_that_was_broken_off_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = BotBottleHome::new(folder.path());
        let dead = RunDirectory::create(&home, &"agent-bbbbb".parse().expect("an identity")).expect("made");
        fs::write(dead.path().join("file"), b"").expect("a file");
        let path = dead.path().to_owned();
        drop(dead);
        let aside = crate::state::set_aside(&path).expect("renamed");
        let leftovers = plan(&home).expect("planned");
        assert_eq!(leftovers.iter().map(|leftover| &leftover.folder).collect::<Vec<_>>(), [&aside]);
        apply(&home, &leftovers).expect("removed");
        assert!(plan(&home).expect("planned").is_empty() && !aside.exists());
    }
}
