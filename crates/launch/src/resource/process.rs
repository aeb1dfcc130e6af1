//! A process that a run started, identified so that no later process is taken for it.

use std::{fs, io};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, waitpid},
};
use serde::{Deserialize, Serialize};

/// How long a process may take to end once it is killed.
const END_TIMEOUT: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// A process by its number and its start: the kernel reuses numbers, but not within one clock tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    pub(crate) pid: i32,
    /// Clock ticks from the start of the machine to that of the process.
    pub(crate) started: u64,
}

impl ProcessIdentity {
    /// Identifies a process; `None` if there is none with this number.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let (started, _) = read_stat(pid)?;
        Some(Self { pid, started })
    }

    /// Whether it still runs. A process that has ended and was not reaped does not.
    pub(crate) fn runs(self) -> bool {
        read_stat(self.pid).is_some_and(|(started, has_ended)| started == self.started && !has_ended)
    }

    /// Kills the process and waits until it is gone, and with a bottle's first process everything in the
    /// bottle: a process that still runs there could replace folders while they are removed.
    pub(super) fn end(self) -> io::Result<()> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(()) };
        let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(()) };
        // The descriptor refers to one process for good: if that is the recorded one now, the signal goes to
        // it and to no later one.
        if Self::of(self.pid) != Some(self) {
            return Ok(());
        }
        match pidfd_send_signal(&descriptor, Signal::KILL) {
            // ESRCH: the process has ended already.
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
        let ended = poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&END_TIMEOUT))?;
        // ECHILD: the process is not a child of this one, which is `cleanup` then and not the launcher.
        let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        if ended == 0 {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it was killed and does not end"));
        }
        Ok(())
    }
}

/// When a process was started, and whether it has ended: fields 22 and 3 of `/proc/PID/stat`,
/// proc_pid_stat(5).
fn read_stat(pid: i32) -> Option<(u64, bool)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program is in parentheses and may hold anything.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let has_ended = matches!(fields.next()?, "Z" | "X");
    Some((fields.nth(18)?.parse().ok()?, has_ended))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_number_and_its_start() {
        let own = ProcessIdentity::of(std::process::id().cast_signed()).expect("recorded");
        assert!(own.runs());
        let later = ProcessIdentity { started: own.started + 1, ..own };
        assert!(!later.runs());
        later.end().expect("it is not this process that is killed");
    }
}
