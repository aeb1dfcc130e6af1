//! A native sandbox that runs: its first process, and the launcher's end of the channel to it.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    time::Duration,
};

use bot_bottle_core::error::IoError;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Signal, pidfd_send_signal},
};

use crate::{
    agent_folder::AgentFolders,
    backend::{GatewayListeners, InheritedSocket, Sandbox, SandboxEvent, SessionId, StartProgram},
    channel::Channel,
    error::LaunchError,
    files::remove::measure_tree,
    init::protocol::{FromInit, ToInit},
};

use super::cgroup;

/// How long the first process may take for one message once programs can be started.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// A native sandbox.
pub(super) struct NativeSandbox {
    pub(super) channel: Channel,
    /// The bottle's first process, as a pidfd.
    pub(super) process: OwnedFd,
    /// The files in which the kernel counts the programs that it killed for memory.
    pub(super) oom_events: Vec<PathBuf>,
    /// Folders of the host that the bottle writes to.
    pub(super) writable: AgentFolders,
    /// What was hidden of the host's programs, as a sentence.
    pub(super) hidden: Option<String>,
}

impl NativeSandbox {
    /// The next message, which has to come while the bottle starts.
    pub(super) fn expect(&self) -> Result<(FromInit, Vec<OwnedFd>), LaunchError> {
        let lost = |source| failed("waiting for the first process", source);
        match self.channel.receive().map_err(lost)? {
            Some((FromInit::Failed { doing, errno: 0 }, _)) => {
                Err(LaunchError::Sandbox(IoError::new(doing, io::Error::other("unexpected"))))
            }
            Some((FromInit::Failed { doing, errno }, _)) => {
                Err(LaunchError::Sandbox(IoError::new(doing, io::Error::from_raw_os_error(errno))))
            }
            Some(message) => Ok(message),
            None => Err(lost(io::ErrorKind::UnexpectedEof.into())),
        }
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

fn failed(doing: &str, source: io::Error) -> LaunchError {
    LaunchError::Sandbox(IoError::new(doing, source))
}

impl Sandbox for NativeSandbox {
    fn listeners(&mut self) -> Result<GatewayListeners, LaunchError> {
        match self.expect()? {
            (FromInit::Listening { listeners }, sockets) if listeners.len() == sockets.len() => {
                let sockets = listeners.into_iter().zip(sockets);
                let inherited = sockets.map(|(kind, socket)| InheritedSocket { kind, socket });
                Ok(GatewayListeners::Inherited(inherited.collect()))
            }
            _ => Err(failed("listening", io::ErrorKind::InvalidData.into())),
        }
    }

    fn initialise(&mut self) -> Result<Vec<String>, LaunchError> {
        let (FromInit::Ready { mut notes }, _) = self.expect()? else {
            return Err(failed("being ready", io::ErrorKind::InvalidData.into()));
        };
        let limited = self.channel.set_timeout(Some(MESSAGE_TIMEOUT));
        limited.map_err(|source| failed("limiting the time for a message", source))?;
        notes.extend(self.hidden.take());
        Ok(notes)
    }

    fn exec(&mut self, session: SessionId, program: &StartProgram) -> io::Result<()> {
        self.channel.send(&ToInit::Start { session, program: program.clone() }, &[])
    }

    fn signal(&mut self, session: SessionId, signal: Signal) -> io::Result<()> {
        self.channel.send(&ToInit::Signal { session, signal: signal.as_raw() }, &[])
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.channel.as_fd(), self.process.as_fd()]
    }

    fn next(&mut self) -> Option<SandboxEvent> {
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

    fn kill(&mut self) {
        // ESRCH: it has ended already.
        let _ = pidfd_send_signal(&self.process, Signal::KILL);
    }

    fn is_out_of_memory(&self) -> bool {
        cgroup::fs::ran_out_of_memory(&self.oom_events)
    }

    fn disk_usage(&self) -> Result<u64, String> {
        let AgentFolders { home, workspace } = &self.writable;
        [("home", home), ("workspace", workspace)].into_iter().try_fold(0, |used, (name, folder)| {
            let bytes = measure_tree(folder.as_fd()).map_err(|(path, error)| {
                format!("{} in the agent's {name} cannot be measured: {error}", path.display())
            })?;
            Ok(used + bytes)
        })
    }
}
