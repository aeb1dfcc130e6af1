//! Undoes the steps of a launch in reverse order, however it ends.

use std::{io, os::fd::OwnedFd, path::PathBuf};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, Signal, WaitOptions, pidfd_send_signal, waitpid},
};

use crate::state::{self, Outcome, Settled, WORKSPACE};

use super::cgroup;

/// How long an ended process may take to be gone.
const END_TIMEOUT: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// One thing to undo.
#[derive(Debug)]
pub(crate) enum Undo {
    /// Removes the state directory, or settles it if the agent ran.
    Run(PathBuf),
    /// Removes a control group, whose processes are gone by then.
    Group(PathBuf),
    /// Ends a child.
    Process(Pid, OwnedFd),
}

/// Undone when dropped: at an error, a panic and the normal end alike.
#[derive(Debug, Default)]
pub(crate) struct UndoStack {
    entries: Vec<Undo>,
    /// How far the run came, which decides what is kept.
    pub(crate) outcome: Outcome,
}

impl UndoStack {
    pub(crate) fn push(&mut self, undo: Undo) {
        self.entries.push(undo);
    }

    /// Undoes everything. Returns where the agent's work is, and what could not be removed; `cleanup` finds
    /// that later because the lock is free.
    pub(crate) fn unwind(&mut self) -> Settled {
        let mut settled = Settled::default();
        let mut groups_left = Vec::new();
        while let Some(undo) = self.entries.pop() {
            match undo {
                Undo::Process(pid, descriptor) => end(pid, &descriptor),
                Undo::Group(folder) => {
                    groups_left.extend(cgroup::fs::remove(&folder).err().map(|error| (folder, error)));
                }
                // The state says where the groups are, for `cleanup`.
                Undo::Run(path) if !groups_left.is_empty() => {
                    settled.workspace = (self.outcome == Outcome::Worked).then(|| path.join(WORKSPACE));
                    settled.not_removed.push((path, io::Error::other("its control groups are still there")));
                }
                Undo::Run(path) => settled = state::settle(&path, self.outcome),
            }
        }
        settled.not_removed.append(&mut groups_left);
        settled
    }
}

impl Drop for UndoStack {
    fn drop(&mut self) {
        self.unwind();
    }
}

/// Kills a child and waits until it is gone. With the bottle's first process everything in the bottle goes.
pub(crate) fn end(pid: Pid, descriptor: &OwnedFd) {
    // ESRCH: the process has ended already.
    let _ = pidfd_send_signal(descriptor, Signal::KILL);
    let _ = poll(&mut [PollFd::new(descriptor, PollFlags::IN)], Some(&END_TIMEOUT));
    let _ = waitpid(Some(pid), WaitOptions::NOHANG);
}
