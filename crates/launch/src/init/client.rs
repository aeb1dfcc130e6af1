//! The launcher's end of the channel to the first process of a sandbox.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use bot_bottle_core::{error::IoError, provider::GuestFile};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::Signal,
};
use serde::Serialize;

use crate::{
    backend::{SandboxEvent, SessionId, StartProgram},
    channel::Channel,
    error::LaunchError,
    log_tail::tail,
};

use super::protocol::{FromInit, ToInit};

/// How long the first process may take for one message once programs can be started.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long that process may take to end, and to say in its log why, once it has closed its socket.
const LOG_TIMEOUT: Duration = Duration::from_secs(5);

/// The launcher's end.
pub(crate) struct InitClient {
    channel: Channel,
    /// As a pidfd, the process that ends with the sandbox: its first one, or the one that holds the link to it.
    process: OwnedFd,
    /// Where that process writes why it ended.
    log: PathBuf,
}

impl InitClient {
    pub(crate) fn new(channel: Channel, process: OwnedFd, log: PathBuf) -> Self {
        Self { channel, process, log }
    }

    pub(crate) fn process(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }

    /// Sends what the first process needs to make the sandbox. If that fails it may have ended and have said why.
    pub(crate) fn send(
        &self,
        message: &impl Serialize,
        descriptors: &[BorrowedFd<'_>],
        doing: &str,
    ) -> Result<(), LaunchError> {
        self.channel.send(message, descriptors).map_err(|source| match self.channel.receive() {
            Ok(Some((FromInit::Failed { doing, errno }, _))) => failed(doing, errno),
            _ => self.lost(doing, source),
        })
    }

    /// The next message, which has to come while the sandbox starts.
    pub(crate) fn expect(&self) -> Result<(FromInit, Vec<OwnedFd>), LaunchError> {
        let waiting = "waiting for the first process";
        match self.channel.receive() {
            Ok(Some((FromInit::Failed { doing, errno }, _))) => Err(failed(doing, errno)),
            Ok(Some(message)) => Ok(message),
            Ok(None) => Err(self.lost(waiting, io::ErrorKind::UnexpectedEof.into())),
            Err(source) => Err(self.lost(waiting, source)),
        }
    }

    /// A message that is not the one that comes next.
    pub(crate) fn unexpected(&self, doing: &str) -> LaunchError {
        self.lost(doing, io::ErrorKind::InvalidData.into())
    }

    /// It says nothing any more. What it has written to its log says more than the end of its socket.
    pub(crate) fn lost(&self, doing: &str, source: io::Error) -> LaunchError {
        let mut ended = [PollFd::new(&self.process, PollFlags::IN)];
        let limit = Timespec::try_from(LOG_TIMEOUT).ok();
        let source = match poll(&mut ended, limit.as_ref()) {
            Ok(1..) => io::Error::other(tail(&self.log)),
            _ => source,
        };
        LaunchError::Sandbox(IoError::new(doing.to_owned(), source))
    }

    /// From now on a message has to come, or be taken, at once: programs can be started.
    pub(crate) fn limit_messages(&self) -> Result<(), LaunchError> {
        let limited = self.channel.set_timeout(Some(MESSAGE_TIMEOUT));
        limited.map_err(|source| self.lost("limiting the time for a message", source))
    }

    /// See [`crate::backend::Sandbox::exec`].
    pub(crate) fn exec(&self, session: SessionId, program: StartProgram) -> io::Result<()> {
        self.channel.send(&ToInit::Start { session, program }, &[])
    }

    /// See [`crate::backend::Sandbox::signal`].
    pub(crate) fn signal(&self, session: SessionId, signal: Signal) -> io::Result<()> {
        self.channel.send(&ToInit::Signal { session, signal: signal.as_raw() }, &[])
    }

    /// See [`crate::backend::Sandbox::replace`].
    pub(crate) fn replace(&self, home: &Path, file: &GuestFile) -> io::Result<()> {
        self.channel.send(&ToInit::Replace { home: home.to_owned(), file: file.clone() }, &[])
    }

    /// Ends every program and then the first process.
    pub(crate) fn end(&self) -> io::Result<()> {
        self.channel.send(&ToInit::End, &[])
    }

    /// Descriptors of which one is readable when [`Self::next`] has something.
    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.channel.as_fd(), self.process.as_fd()]
    }

    /// The next event. Does not wait.
    pub(crate) fn next(&self) -> Option<SandboxEvent> {
        let [has_message, has_ended] = self.readable();
        if !has_message {
            return has_ended.then_some(SandboxEvent::Gone);
        }
        // A closed socket polls as readable too. Messages that were sent before it was closed come first.
        let Ok(Some((message, descriptors))) = self.channel.receive::<FromInit>() else {
            return Some(SandboxEvent::Gone);
        };
        Some(message.into_event(descriptors))
    }

    /// Which of the channel and the process are readable.
    fn readable(&self) -> [bool; 2] {
        let mut waits =
            [PollFd::new(&self.channel, PollFlags::IN), PollFd::new(&self.process, PollFlags::IN)];
        match poll(&mut waits, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok(_) => waits.map(|wait| !wait.revents().is_empty()),
            Err(_) => [false; 2],
        }
    }
}

/// What the first process says failed.
fn failed(doing: String, errno: i32) -> LaunchError {
    let source = match errno {
        0 => io::Error::other("unexpected"),
        errno => io::Error::from_raw_os_error(errno),
    };
    LaunchError::Sandbox(IoError::new(doing, source))
}
