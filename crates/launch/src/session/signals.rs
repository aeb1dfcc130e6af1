//! The operator's signals to the launcher, or to an `exec` client, read from a descriptor.

use std::{io, os::fd::OwnedFd};

use rustix::process::Signal;

use crate::sys;

const WATCHED: [Signal; 5] = [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT, Signal::WINCH];

/// Signals that stay ignored if they were ignored at the start, as `nohup` and a shell's `&` ask for.
const LEFT_IGNORED: [Signal; 3] = [Signal::INT, Signal::HUP, Signal::QUIT];

/// The operator's signals, read from a descriptor for as long as this lives.
pub(crate) struct Signals(OwnedFd);

impl Signals {
    /// Blocks the signals of this thread and opens the descriptor; signalfd(2).
    pub(crate) fn take() -> io::Result<Self> {
        let ignored = |signal: &Signal| LEFT_IGNORED.contains(signal) && sys::is_ignored(*signal);
        let watched: Vec<Signal> = WATCHED.into_iter().filter(|signal| !ignored(signal)).collect();
        sys::signal_descriptor(&watched).map(Self)
    }

    pub(crate) fn descriptor(&self) -> &OwnedFd {
        &self.0
    }

    /// The next signal that is pending.
    pub(crate) fn next(&self) -> Option<Signal> {
        // struct signalfd_siginfo, whose first word is the signal's number.
        let mut record = [0; 128];
        let count = rustix::io::read(&self.0, &mut record).ok()?;
        let number = record.get(..4).filter(|_| count == record.len())?.try_into().ok()?;
        Signal::from_named_raw(i32::from_ne_bytes(number))
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // Pending signals are read first: once unblocked they would kill the launcher before it has returned.
        while self.next().is_some() {}
        sys::unblock(&WATCHED);
    }
}
