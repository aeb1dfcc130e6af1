//! The process beside the first one of a container, or of a virtual machine, that holds the link to the launcher.
//!
//! A process of its own carries the link, so that the first one has a local socket to the launcher and one thread, as
//! that of a native bottle. It stays root without any capability: the agent's user can neither signal nor trace it.

use std::{
    io,
    os::{fd::AsFd, unix::net::UnixStream},
    time::{Duration, Instant},
};

use rustix::{
    fs::{Mode, OFlags, open},
    process::{
        DumpableBehavior, Pid, Signal, WaitOptions, getpid, kill_process, set_dumpable_behavior, waitpid,
    },
    stdio::{dup2_stdin, dup2_stdout},
    thread::{capabilities, set_no_new_privs},
};

use crate::sys;

use super::confine::drop_capabilities;

/// How long the link may take to carry the rest once the first process has nothing more to say.
const LINK_TIMEOUT: Duration = Duration::from_secs(10);

/// How often it is looked whether the link has ended.
const LINK_PAUSE: Duration = Duration::from_millis(5);

/// That process, as the first one sees it.
#[derive(Debug)]
pub struct LinkProcess {
    process: Pid,
}

impl LinkProcess {
    /// Starts it, and gives this process's end of its local socket. `carry` gets the other end, or why it cannot be
    /// held safely, and its result is the exit status of that process; it has the standard input and output, and
    /// this process has them no longer.
    ///
    /// # Errors
    /// When this is not the first process of a pid namespace, or no process can be made.
    pub fn start(carry: impl FnOnce(io::Result<UnixStream>) -> i32) -> io::Result<(Self, UnixStream)> {
        // What follows ends every process that it can.
        if getpid() != Pid::INIT {
            let why = "this is what the first process of a container runs, and nothing else";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        Self::start_in_machine(carry)
    }

    /// The same for a virtual machine, in which everything is the bottle's, and whose first process is smolvm's.
    ///
    /// # Errors
    /// When no process can be made.
    pub fn start_in_machine(
        carry: impl FnOnce(io::Result<UnixStream>) -> i32,
    ) -> io::Result<(Self, UnixStream)> {
        sys::reset_signals();
        let (ours, theirs) = UnixStream::pair()?;
        let process = sys::fork(|| carry(close().map(|()| theirs)))?;
        let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        dup2_stdin(null.as_fd())?;
        dup2_stdout(null.as_fd())?;
        Ok((Self { process }, ours))
    }

    /// Waits until it has carried everything. To be called when the local socket is closed.
    pub fn finish(self) {
        let deadline = Instant::now() + LINK_TIMEOUT;
        while matches!(waitpid(Some(self.process), WaitOptions::NOHANG), Ok(None)) {
            if Instant::now() >= deadline {
                // ESRCH: it has ended already.
                let _ = kill_process(self.process, Signal::KILL);
            }
            std::thread::sleep(LINK_PAUSE);
        }
    }
}

/// Takes every privilege from this process.
fn close() -> io::Result<()> {
    // Without any, as in a gateway's container, the bounding set cannot be emptied, and nothing could be gained by
    // it: the engine has set `no_new_privs`.
    if !capabilities(None)?.permitted.is_empty() {
        drop_capabilities()?;
    }
    set_no_new_privs(true)?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}
