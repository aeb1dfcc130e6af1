//! A native sandbox that runs: its first process, and the launcher's end of the channel to it.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
};

use bot_bottle_core::provider::GuestFile;
use rustix::process::{Signal, pidfd_send_signal};

use crate::{
    agent_folder::AgentFolders,
    backend::{GatewayListeners, InheritedSocket, Sandbox, SandboxEvent, SessionId, StartProgram},
    error::LaunchError,
    files::remove::measure_tree,
    init::{client::InitClient, protocol::FromInit},
};

use super::cgroup;

/// A native sandbox.
pub(super) struct NativeSandbox {
    pub(super) init: InitClient,
    /// The files in which the kernel counts the programs that it killed for memory.
    pub(super) oom_events: Vec<PathBuf>,
    /// Folders of the host that the bottle writes to.
    pub(super) writable: AgentFolders,
    /// What was hidden of the host's programs, as a sentence.
    pub(super) hidden: Option<String>,
}

impl Sandbox for NativeSandbox {
    fn listeners(&mut self) -> Result<GatewayListeners, LaunchError> {
        match self.init.expect()? {
            (FromInit::Listening { listeners }, sockets) if listeners.len() == sockets.len() => {
                let sockets = listeners.into_iter().zip(sockets);
                let inherited = sockets.map(|(kind, socket)| InheritedSocket { kind, socket });
                Ok(GatewayListeners::Inherited(inherited.collect()))
            }
            _ => Err(self.init.unexpected("listening")),
        }
    }

    fn initialise(&mut self) -> Result<Vec<String>, LaunchError> {
        let (FromInit::Ready { mut notes }, _) = self.init.expect()? else {
            return Err(self.init.unexpected("being ready"));
        };
        self.init.limit_messages()?;
        notes.extend(self.hidden.take());
        Ok(notes)
    }

    fn exec(&mut self, session: SessionId, program: &StartProgram) -> io::Result<()> {
        self.init.exec(session, program.clone())
    }

    fn signal(&mut self, session: SessionId, signal: Signal) -> io::Result<()> {
        self.init.signal(session, signal)
    }

    fn replace(&mut self, home: &Path, file: &GuestFile) -> io::Result<()> {
        self.init.replace(home, file)
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.init.descriptors()
    }

    fn next(&mut self) -> Option<SandboxEvent> {
        self.init.next()
    }

    fn kill(&mut self) {
        // ESRCH: it has ended already.
        let _ = pidfd_send_signal(self.init.process(), Signal::KILL);
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
