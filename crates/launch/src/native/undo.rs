//! What has to be undone, in the reverse order of how it was done, however a launch ends.

use std::{os::fd::OwnedFd, path::PathBuf};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, Signal, WaitOptions, pidfd_send_signal, waitpid},
};

use crate::state::{self, Outcome};

use super::grouping;

/// How long an ended process may take to be gone.
const END_TIMEOUT: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// One thing to undo.
#[derive(Debug)]
pub(super) enum Undo {
    /// Removes the state directory, or settles it if the agent ran.
    Run(PathBuf),
    /// Removes a control group, whose processes are gone by then.
    Group(PathBuf),
    /// Ends a child.
    Process(Pid, OwnedFd),
}

/// Undone when dropped: at an error, a panic and the normal end alike.
#[derive(Debug, Default)]
pub(super) struct UndoStack {
    entries: Vec<Undo>,
    /// What the run came to, so that what is worth it is kept.
    pub(super) outcome: Outcome,
}

impl UndoStack {
    pub(super) fn push(&mut self, undo: Undo) {
        self.entries.push(undo);
    }

    /// Undoes everything. Where the agent's work was kept, if it was.
    pub(super) fn unwind(&mut self) -> Option<PathBuf> {
        let mut kept = None;
        let mut is_left = false;
        while let Some(undo) = self.entries.pop() {
            match undo {
                Undo::Process(pid, descriptor) => end(pid, &descriptor),
                Undo::Group(folder) => is_left |= grouping::remove(&folder).is_err(),
                // The state says where the groups are, for `cleanup`.
                Undo::Run(_) if is_left => {}
                // What cannot be removed now is found by `cleanup`, because the lock is free.
                Undo::Run(path) => kept = state::settle(&path, self.outcome).ok().flatten(),
            }
        }
        kept
    }
}

impl Drop for UndoStack {
    fn drop(&mut self) {
        self.unwind();
    }
}

/// Kills a child and waits until it is gone. With the bottle's first process everything in the bottle goes.
pub(super) fn end(pid: Pid, descriptor: &OwnedFd) {
    // Both fail only if it is gone already.
    let _ = pidfd_send_signal(descriptor, Signal::KILL);
    let _ = poll(&mut [PollFd::new(descriptor, PollFlags::IN)], Some(&END_TIMEOUT));
    let _ = waitpid(Some(pid), WaitOptions::NOHANG);
}
