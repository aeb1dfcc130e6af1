//! Runs the program once: bounded in time and in output.

use std::{
    fs::File,
    io::{self, Read as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, ioctl_fionbio},
    process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open},
};

/// Most bytes of standard output. A machine takes about 1.5 KiB of `ls --json`.
const MAX_STDOUT: usize = 4 * 1024 * 1024;

/// Bytes of standard error that are kept: the last ones, as the error is its last line.
const KEPT_STDERR: usize = 64 * 1024;

/// Bytes that are read at one time.
const READ_BYTES: usize = 16 * 1024;

/// What the program did.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// Why there is no output.
#[derive(Debug)]
pub(crate) enum RunError {
    /// It could not be started.
    Spawn(io::Error),
    /// It was killed at the deadline.
    TimedOut,
    /// It was killed because it wrote too much.
    TooMuchOutput,
    /// A system call failed.
    Io(io::Error),
}

/// Runs a command without input. Returns when the program itself has ended: what it leaves behind, as `start`
/// leaves a virtual machine, may keep its output open.
pub(crate) fn run(command: &mut Command, limit: Duration) -> Result<Output, RunError> {
    let deadline = Instant::now() + limit;
    // A group of its own: it can be killed with what it started, and Ctrl-C on the caller's terminal does not
    // interrupt it half way.
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(RunError::Spawn)?;
    let mut running = Running { child, is_reaped: false };
    let mut stdout = Stream::new(running.child.stdout.take().map(OwnedFd::from))?;
    let mut stderr = Stream::new(running.child.stderr.take().map(OwnedFd::from))?;
    let ended = pidfd_open(Pid::from_child(&running.child), PidfdFlags::empty()).map_err(failed)?;
    loop {
        let remaining = deadline.checked_duration_since(Instant::now()).ok_or(RunError::TimedOut)?;
        let has_ended = wait(&stdout, &stderr, &ended, remaining)?;
        stdout.read_available(deadline)?;
        stderr.read_available(deadline)?;
        stderr.keep_last(KEPT_STDERR);
        if stdout.bytes.len() > MAX_STDOUT {
            return Err(RunError::TooMuchOutput);
        }
        if has_ended {
            let status = running.child.wait().map_err(RunError::Io)?;
            running.is_reaped = true;
            return Ok(Output { status, stdout: stdout.bytes, stderr: stderr.bytes });
        }
    }
}

/// Waits until there is something to read, or the program has ended; says whether it has.
fn wait(stdout: &Stream, stderr: &Stream, ended: &OwnedFd, limit: Duration) -> Result<bool, RunError> {
    let open = [stdout, stderr].into_iter().filter_map(|stream| stream.pipe.as_ref());
    let mut polled: Vec<PollFd<'_>> = std::iter::once(ended.as_fd())
        .chain(open.map(|pipe| pipe.as_fd()))
        .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
        .collect();
    // Longer than a timespec can say is for ever.
    let limit = Timespec::try_from(limit).ok();
    match poll(&mut polled, limit.as_ref()) {
        Ok(_) => Ok(polled.first().is_some_and(|ended| !ended.revents().is_empty())),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

fn failed(error: Errno) -> RunError {
    RunError::Io(error.into())
}

/// The program. It is killed with its group if it is not waited for.
struct Running {
    child: Child,
    is_reaped: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.is_reaped {
            // Not reaped yet, so that the number is still this group's.
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// One of its outputs.
struct Stream {
    /// None after its end.
    pipe: Option<File>,
    bytes: Vec<u8>,
}

impl Stream {
    fn new(pipe: Option<OwnedFd>) -> Result<Self, RunError> {
        if let Some(pipe) = &pipe {
            ioctl_fionbio(pipe, true).map_err(failed)?;
        }
        Ok(Self { pipe: pipe.map(File::from), bytes: Vec::new() })
    }

    /// Reads what is there, up to what one pass may take.
    fn read_available(&mut self, deadline: Instant) -> Result<(), RunError> {
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        let mut buffer = vec![0; READ_BYTES];
        // The last pass is after the program's end, when all that it wrote fits into this.
        let mut budget = MAX_STDOUT + 1;
        while budget > 0 && Instant::now() < deadline {
            match pipe.read(&mut buffer) {
                Ok(0) => {
                    self.pipe = None;
                    break;
                }
                Ok(count) => {
                    self.bytes.extend_from_slice(&buffer[..count]);
                    budget = budget.saturating_sub(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(RunError::Io(error)),
            }
        }
        Ok(())
    }

    fn keep_last(&mut self, count: usize) {
        self.bytes.drain(..self.bytes.len().saturating_sub(count));
    }
}
