//! Runs one program in a sandbox to its end, with its streams in our hands instead of the operator's.

use std::{
    io::{self, Read},
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::Signal,
};

use crate::{
    backend::{Sandbox, SandboxEvent, SessionId, StartProgram, Streams},
    request::{EndedBy, ProgramStatus},
    session::{LimitWatchers, Signals},
};

/// Bytes that are moved at once.
const BUFFER_BYTES: usize = 64 << 10;

/// The end of what a program writes to its standard error that is kept, in bytes.
const ERROR_BYTES: usize = 4 << 10;

/// How long output is waited for once the program has ended: what it left running may hold its streams open.
const LINGER: Duration = Duration::from_secs(1);

/// What a program is given, and where its output goes.
pub(crate) struct ProgramRun<'a> {
    /// Its standard input. Read when the program takes more, so reading should not wait.
    pub(crate) input: &'a mut dyn Read,
    /// Takes its standard output, piece by piece. An error ends the program.
    pub(crate) output: &'a mut dyn FnMut(&[u8]) -> io::Result<()>,
    /// The operator's signals, each of which ends it; `None` leaves them pending.
    pub(crate) signals: Option<&'a Signals>,
    /// What the launcher watches.
    pub(crate) limits: LimitWatchers,
    /// When it is ended at the latest.
    pub(crate) deadline: Option<Instant>,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProgramEnd {
    pub(crate) status: ProgramStatus,
    /// What ended it, if not itself.
    pub(crate) ended_by: Option<EndedBy>,
    /// The end of its standard error.
    pub(crate) error: String,
}

/// Why a program did not run to its end.
#[derive(Debug)]
pub(crate) enum ProgramFailure {
    /// It was not started.
    NotStarted(bot_bottle_core::error::IoError),
    /// The sandbox ended, or is not understood.
    Sandbox(io::Error),
    /// It did not end in time, and was killed.
    TimedOut,
    /// Its output could not be taken.
    Output(io::Error),
    /// Its input could not be read.
    Input(io::Error),
}

impl From<ProgramFailure> for io::Error {
    fn from(failure: ProgramFailure) -> Self {
        match failure {
            ProgramFailure::NotStarted(error) => Self::new(error.source.kind(), error),
            ProgramFailure::TimedOut => io::ErrorKind::TimedOut.into(),
            ProgramFailure::Sandbox(error) | ProgramFailure::Output(error) | ProgramFailure::Input(error) => {
                error
            }
        }
    }
}

/// The descriptors of a program that runs; `None` once closed.
struct Open {
    input: Option<OwnedFd>,
    output: Option<OwnedFd>,
    error: Option<OwnedFd>,
}

impl ProgramRun<'_> {
    /// Starts the program and returns when it has ended and its output has arrived.
    pub(crate) fn run(
        mut self,
        sandbox: &mut dyn Sandbox,
        session: SessionId,
        program: &StartProgram,
    ) -> Result<ProgramEnd, ProgramFailure> {
        sandbox.exec(session, program).map_err(ProgramFailure::Sandbox)?;
        let ended = self.attend(sandbox, session);
        if !matches!(ended, Ok(ProgramEnd { ended_by: None, .. })) {
            // The program may run on; fails only if the sandbox has ended.
            let _ = sandbox.signal(session, Signal::KILL);
        }
        ended
    }

    fn attend(
        &mut self,
        sandbox: &mut dyn Sandbox,
        session: SessionId,
    ) -> Result<ProgramEnd, ProgramFailure> {
        let mut open = Open { input: None, output: None, error: None };
        let (mut pending, mut error) = (Vec::new(), Vec::new());
        let mut ended: Option<(ProgramStatus, Instant)> = None;
        let end = |status, ended_by, error: &[u8]| ProgramEnd {
            status,
            ended_by,
            error: String::from_utf8_lossy(error).trim().to_owned(),
        };
        loop {
            if let Some((status, at)) = ended
                && (at.elapsed() >= LINGER || open.output.is_none() && open.error.is_none())
            {
                return Ok(end(status, None, &error));
            }
            let linger = ended.map(|(_, at)| at + LINGER);
            let [signals, readable, input, output, errors] = self.wait(sandbox, &open, linger);
            if readable {
                match sandbox.next() {
                    Some(SandboxEvent::Started { session: started, streams }) if started == session => {
                        open = Open::take(streams).map_err(ProgramFailure::Sandbox)?;
                    }
                    Some(SandboxEvent::NotStarted { session: failed, source }) if failed == session => {
                        return Err(ProgramFailure::NotStarted(source));
                    }
                    Some(SandboxEvent::Ended { session: done, status }) if done == session => {
                        ended = Some((status, Instant::now()));
                    }
                    Some(SandboxEvent::LimitReached(limit)) => {
                        let limit = Some(EndedBy::Limit(limit));
                        return Ok(end(ProgramStatus::Signalled(9), limit, &error));
                    }
                    Some(SandboxEvent::Gone) => {
                        return Err(ProgramFailure::Sandbox(io::ErrorKind::UnexpectedEof.into()));
                    }
                    // Of a program before this one.
                    Some(_) | None => {}
                }
            }
            if input {
                self.feed(&mut open.input, &mut pending)?;
            }
            if output && let Some(bytes) = read(&mut open.output) {
                (self.output)(&bytes).map_err(ProgramFailure::Output)?;
            }
            if errors && let Some(bytes) = read(&mut open.error) {
                error.extend(bytes);
                error.drain(..error.len().saturating_sub(ERROR_BYTES));
            }
            if signals
                && let Some(signal) = self.signals.and_then(Signals::next)
                && signal != Signal::WINCH
            {
                let number = u8::try_from(signal.as_raw()).unwrap_or(0);
                let by = Some(EndedBy::Signal(number));
                return Ok(end(ProgramStatus::Signalled(number), by, &error));
            }
            if let Some(limit) = self.limits.check(sandbox) {
                return Ok(end(ProgramStatus::Signalled(9), Some(limit), &error));
            }
            if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(ProgramFailure::TimedOut);
            }
        }
    }

    /// Which of these are ready: signals, the sandbox, the program's input, output and error.
    fn wait(&self, sandbox: &dyn Sandbox, open: &Open, linger: Option<Instant>) -> [bool; 5] {
        let sandbox = sandbox.descriptors();
        let mut sources: Vec<(usize, PollFd<'_>)> = Vec::new();
        sources.extend(self.signals.map(|signals| (0, PollFd::new(signals.descriptor(), PollFlags::IN))));
        sources.extend(sandbox.iter().map(|descriptor| (1, PollFd::new(descriptor, PollFlags::IN))));
        sources.extend(open.input.iter().map(|input| (2, PollFd::new(input, PollFlags::OUT))));
        sources.extend(open.output.iter().map(|output| (3, PollFd::new(output, PollFlags::IN))));
        sources.extend(open.error.iter().map(|error| (4, PollFd::new(error, PollFlags::IN))));
        let (places, mut waits): (Vec<_>, Vec<_>) = sources.into_iter().unzip();
        let due = [linger, self.deadline, self.limits.due()].into_iter().flatten().min();
        let timeout = due.map(|due| due.saturating_duration_since(Instant::now()));
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut ready = [false; 5];
        if poll(&mut waits, timeout.as_ref()).is_ok() {
            let changed = places.iter().zip(&waits).filter(|(_, wait)| !wait.revents().is_empty());
            changed.for_each(|(place, _)| ready[*place] = true);
        }
        ready
    }

    /// Gives the program more of its input, and closes it at the end.
    fn feed(&mut self, to: &mut Option<OwnedFd>, pending: &mut Vec<u8>) -> Result<(), ProgramFailure> {
        let Some(descriptor) = to else { return Ok(()) };
        if pending.is_empty() {
            pending.resize(BUFFER_BYTES, 0);
            let count = self.input.read(pending).map_err(ProgramFailure::Input)?;
            pending.truncate(count);
        }
        if pending.is_empty() {
            *to = None;
            return Ok(());
        }
        match rustix::io::write(descriptor.as_fd(), pending) {
            Ok(count) => drop(pending.drain(..count)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // The program reads no more. That is its business until it ends.
            Err(_) => *to = None,
        }
        Ok(())
    }
}

impl Open {
    fn take(streams: Streams) -> io::Result<Self> {
        let Streams::Pipes([input, output, error]) = streams else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        for descriptor in [&input, &output, &error] {
            rustix::io::ioctl_fionbio(descriptor, true)?;
        }
        Ok(Self { input: Some(input), output: Some(output), error: Some(error) })
    }
}

/// What a stream has; closes it at its end.
fn read(from: &mut Option<OwnedFd>) -> Option<Vec<u8>> {
    let mut bytes = vec![0; BUFFER_BYTES];
    match rustix::io::read(from.as_ref()?, &mut bytes) {
        Ok(0) => *from = None,
        Ok(count) => {
            bytes.truncate(count);
            return Some(bytes);
        }
        Err(Errno::AGAIN | Errno::INTR) => {}
        Err(_) => *from = None,
    }
    None
}
