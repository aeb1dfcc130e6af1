//! Starts one program in a bottle: the agent, and every command of `exec`.

use std::{
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::Command,
};

use bot_bottle_core::error::{IoContext, IoError};
use libc::sock_filter;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags, open},
    pipe::{PipeFlags, pipe_with},
    process::{Pid, Signal, ioctl_tiocsctty, kill_process, setsid},
    pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt},
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout},
    termios::{Winsize, tcsetwinsize},
};

use crate::{backend::StartProgram, request::Terminal, sys};

use super::{
    confine::{AgentUser, confine},
    spec::Confinement,
};

/// How long a child may take until it executes its program. The bottle's first process waits for it and does
/// nothing else.
const START_TIMEOUT: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// The confinement of a program.
pub(super) struct Confined<'a> {
    pub(super) confinement: &'a Confinement,
    pub(super) user: &'a AgentUser,
    pub(super) filter: &'a [sock_filter],
}

/// A program that runs.
pub(super) struct Started {
    pub(super) pid: Pid,
    /// The other ends: a terminal's controlling side, or those of input, output and error.
    pub(super) streams: Vec<OwnedFd>,
}

/// The bottle's pseudo-terminals, whose number the kernel limits. One is kept in reserve, so that `exec`
/// works even when programs have opened all others.
#[derive(Default)]
pub(super) struct Terminals {
    spare: Option<OwnedFd>,
}

impl Terminals {
    /// Opens the reserve, if possible.
    pub(super) fn new() -> Self {
        Self { spare: open_terminal().ok() }
    }

    fn take(&mut self) -> io::Result<OwnedFd> {
        let taken = open_terminal().or_else(|error| self.spare.take().ok_or(error))?;
        self.spare = self.spare.take().or_else(|| open_terminal().ok());
        Ok(taken)
    }
}

fn open_terminal() -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let controller = open("/dev/pts/ptmx", flags, Mode::empty())?;
    unlockpt(&controller)?;
    Ok(controller)
}

/// The error where the bottle's pseudo-terminals are used up.
const NO_TERMINAL: &str = "opening a terminal, of which programs in the bottle hold all that it may have";

/// What a child was doing when it failed; sent as one byte.
const STAGES: [&str; 5] = [
    "connecting the program's streams",
    "confining the program",
    "entering the working directory",
    "running the program",
    "starting a session",
];

/// The streams of a program, with both ends of each.
struct Streams {
    /// A terminal alone, or input, output and error.
    own: Vec<OwnedFd>,
    other: Vec<OwnedFd>,
}

/// Starts a program, and returns when it has been executed or has failed.
pub(super) fn start(
    program: &StartProgram,
    confined: &Confined<'_>,
    terminals: &mut Terminals,
) -> Result<Started, IoError> {
    let streams = streams(program, terminals).map_err(|error| match error.raw_os_error() {
        // The kernel says "no space left on device", which reads as a full disk.
        Some(libc::ENOSPC) => IoError::new(NO_TERMINAL, io::Error::from_raw_os_error(libc::EAGAIN)),
        _ => IoError::new("making the program's streams", error),
    })?;
    let (report_read, report_write) = pipe_with(PipeFlags::CLOEXEC).io_context(|| "starting a process")?;
    let pid = sys::fork(|| {
        let (stage, error) = become_program(program, confined, &streams.own);
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        let mut report = vec![stage];
        report.extend(errno.to_ne_bytes());
        let _ = rustix::io::write(&report_write, &report);
        127
    })
    .io_context(|| "starting a process")?;
    drop(report_write);
    let mut report = Vec::new();
    // The pipe closes when the child executes the program or ends. A timeout, because a program of the bottle
    // can stop the child (SIGSTOP), which must not block this process.
    let mut wait = [PollFd::new(&report_read, PollFlags::IN)];
    if !matches!(poll(&mut wait, Some(&START_TIMEOUT)), Ok(1..)) {
        // ESRCH: the child has ended already.
        let _ = kill_process(pid, Signal::KILL);
        return Err(IoError::new(
            "waiting for the program to begin",
            io::Error::from_raw_os_error(libc::ETIMEDOUT),
        ));
    }
    let read = File::from(report_read).read_to_end(&mut report);
    read.io_context(|| "starting the program")?;
    match report.as_slice() {
        [] => Ok(Started { pid, streams: streams.other }),
        [stage, errno @ ..] => {
            let errno = errno.try_into().map_or(libc::EIO, i32::from_ne_bytes);
            let stage = STAGES.get(usize::from(*stage)).copied().unwrap_or("starting the program");
            Err(IoError::new(stage, io::Error::from_raw_os_error(errno)))
        }
    }
}

fn streams(program: &StartProgram, terminals: &mut Terminals) -> io::Result<Streams> {
    match program.terminal {
        Terminal::Pty => {
            let controller = terminals.take()?;
            if let Some((rows, columns)) = program.size {
                let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
                tcsetwinsize(&controller, size)?;
            }
            let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
            let own = ioctl_tiocgptpeer(&controller, flags)?;
            Ok(Streams { own: vec![own], other: vec![controller] })
        }
        Terminal::Pipes => {
            let (stdin, stdin_other) = pipe_with(PipeFlags::CLOEXEC)?;
            let (stdout_other, stdout) = pipe_with(PipeFlags::CLOEXEC)?;
            let (stderr_other, stderr) = pipe_with(PipeFlags::CLOEXEC)?;
            Ok(Streams {
                own: vec![stdin, stdout, stderr],
                other: vec![stdin_other, stdout_other, stderr_other],
            })
        }
    }
}

/// Returns only if it fails: the step, and the error.
fn become_program(program: &StartProgram, confined: &Confined<'_>, streams: &[OwnedFd]) -> (u8, io::Error) {
    sys::reset_signals();
    if let Err(error) = setsid() {
        return (4, error.into());
    }
    if let Err(error) = connect(streams) {
        return (0, error);
    }
    if let Err(error) = confine(confined.confinement, confined.user, confined.filter) {
        return (1, error);
    }
    if let Err(error) = rustix::process::chdir(&program.working_directory) {
        return (2, error.into());
    }
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let Some((name, arguments)) = program.command.split_first() else {
        return (3, io::ErrorKind::NotFound.into());
    };
    (3, Command::new(name).args(arguments).env_clear().envs(&program.environment).exec())
}

fn connect(streams: &[OwnedFd]) -> io::Result<()> {
    match streams {
        [terminal] => {
            ioctl_tiocsctty(terminal.as_fd())?;
            dup2_stdin(terminal)?;
            dup2_stdout(terminal)?;
            dup2_stderr(terminal)?;
        }
        [stdin, stdout, stderr] => {
            dup2_stdin(stdin)?;
            dup2_stdout(stdout)?;
            dup2_stderr(stderr)?;
        }
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    }
    sys::close_on_exec_from(3)
}
