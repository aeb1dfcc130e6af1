//! The launcher's end of the channel to the first process of a sandbox.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use bot_bottle_core::error::IoError;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::Signal,
};
use serde::Serialize;

use crate::{
    backend::{SandboxEvent, SessionId, StartProgram},
    channel::Channel,
};

use super::protocol::{FromInit, ToInit};

/// How long the first process may take for one message once programs can be started.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// The launcher's end.
pub(crate) struct InitClient {
    channel: Channel,
    /// As a pidfd, the process that ends with the sandbox: its first one, or the one that holds the link to it.
    process: OwnedFd,
}

/// Why there is no message while the sandbox starts.
pub(crate) enum NoMessage {
    /// The first process says what failed.
    Failed(IoError),
    /// It says nothing any more.
    Lost(io::Error),
}

impl InitClient {
    pub(crate) fn new(channel: Channel, process: OwnedFd) -> Self {
        Self { channel, process }
    }

    pub(crate) fn process(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }

    /// Sends what the first process needs to make the sandbox.
    pub(crate) fn send(&self, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.channel.send(message, descriptors)
    }

    /// The next message, which has to come while the sandbox starts.
    pub(crate) fn expect(&self) -> Result<(FromInit, Vec<OwnedFd>), NoMessage> {
        match self.channel.receive().map_err(NoMessage::Lost)? {
            Some((FromInit::Failed { doing, errno }, _)) => {
                let source = match errno {
                    0 => io::Error::other("unexpected"),
                    errno => io::Error::from_raw_os_error(errno),
                };
                Err(NoMessage::Failed(IoError::new(doing, source)))
            }
            Some(message) => Ok(message),
            None => Err(NoMessage::Lost(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    /// From now on a message has to come, or be taken, at once: programs can be started.
    pub(crate) fn limit_messages(&self) -> io::Result<()> {
        self.channel.set_timeout(Some(MESSAGE_TIMEOUT))
    }

    /// See [`crate::backend::Sandbox::exec`].
    pub(crate) fn exec(&self, session: SessionId, program: StartProgram) -> io::Result<()> {
        self.channel.send(&ToInit::Start { session, program }, &[])
    }

    /// See [`crate::backend::Sandbox::signal`].
    pub(crate) fn signal(&self, session: SessionId, signal: Signal) -> io::Result<()> {
        self.channel.send(&ToInit::Signal { session, signal: signal.as_raw() }, &[])
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
