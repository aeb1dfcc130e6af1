//! The gateway's process, as the launcher sees it: started first, handed its listeners and secrets, then
//! waited for.

use std::{
    ffi::{CStr, CString},
    io::{self, Read},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStringExt, net::UnixStream},
    },
    path::PathBuf,
};

use bot_bottle_core::{
    error::IoContext,
    gateway_config::{ControlMessage, GatewayEvent, GatewayReady, GatewayStart},
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use crate::{
    backend::{Gateway, GatewayListeners},
    channel::Channel,
    child_process::{ANSWER_TIMEOUT, ChildProgram, spawn},
    docker::LinkCommand,
    error::LaunchError,
    log_tail::tail,
    resource::Resources,
    steps::allocate::Run,
    sys::Go,
};

/// How long a gateway that has closed its control socket may take to end.
const EXIT_TIMEOUT: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// Longest line of the gateway, in bytes.
const MAX_LINE_BYTES: usize = 256 << 10;

/// The gateway's process.
pub(crate) struct GatewayProcess {
    control: UnixStream,
    channel: Channel,
    said: Vec<u8>,
    /// Whether it may still say something.
    talks: bool,
    process: OwnedFd,
    log: PathBuf,
}

impl GatewayProcess {
    /// On the host.
    pub(crate) fn start(run: &Run, resources: &mut Resources) -> Result<Self, LaunchError> {
        let config = run.gateway_config().into_os_string().into_vec();
        let config = CString::new(config).map_err(io::Error::from).io_context(|| "starting the gateway")?;
        Self::spawn(run, &[c"bot-bottle", c"gateway", c"--control-fd", c"3", c"--config", &config], resources)
    }

    /// Elsewhere: this process holds the link to it, and ends when it ends.
    pub(crate) fn start_link(
        run: &Run,
        link: &LinkCommand,
        resources: &mut Resources,
    ) -> Result<Self, LaunchError> {
        let arguments = link.arguments().io_context(|| "starting the gateway")?;
        Self::spawn(run, &arguments.iter().map(|text| &**text).collect::<Vec<_>>(), resources)
    }

    fn spawn(run: &Run, arguments: &[&CStr], resources: &mut Resources) -> Result<Self, LaunchError> {
        let log = run.path("gateway.log");
        let mut start = || {
            let (control, theirs) = UnixStream::pair()?;
            let child = ChildProgram {
                executable: &run.executable,
                arguments,
                namespaces: 0,
                control: theirs.as_fd(),
                log: &log,
            };
            let process = spawn(&child, resources, |_| Ok(Go::On))?;
            control.set_read_timeout(Some(ANSWER_TIMEOUT))?;
            control.set_write_timeout(Some(ANSWER_TIMEOUT))?;
            Ok((Channel::new(control.try_clone()?.into()), control, process))
        };
        let started: io::Result<_> = start();
        let (channel, control, process) = started.io_context(|| "starting the gateway")?;
        Ok(Self { control, channel, said: Vec::new(), talks: true, process, log })
    }

    /// Sends a message that comes before the one with the secrets.
    pub(crate) fn send(&self, message: &impl Serialize) -> io::Result<()> {
        self.channel.send(message, &[])
    }

    /// Reads more of what it says. 0 at the end.
    fn read(&mut self) -> io::Result<usize> {
        let mut bytes = [0; 4 << 10];
        let count = self.control.read(&mut bytes)?;
        self.said.extend_from_slice(&bytes[..count]);
        if self.said.len() > MAX_LINE_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it says too much at once"));
        }
        Ok(count)
    }

    /// The next whole line of what it has said.
    fn line(&mut self) -> Option<Vec<u8>> {
        let end = self.said.iter().position(|byte| *byte == b'\n')?;
        Some(self.said.drain(..=end).collect())
    }

    /// Why it has ended. Its socket closes before it has written its error to the log.
    fn ended(&self) -> LaunchError {
        let _ = poll(&mut [PollFd::new(&self.process, PollFlags::IN)], Some(&EXIT_TIMEOUT));
        LaunchError::Gateway { why: self.log_tail() }
    }
}

impl Gateway for GatewayProcess {
    fn hand_over(&self, mut start: GatewayStart, listeners: GatewayListeners) -> io::Result<()> {
        let sockets = listeners.complete(&mut start)?;
        let descriptors: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
        self.channel.send(&start, &descriptors)
    }

    fn ready(&mut self) -> Result<GatewayReady, LaunchError> {
        let failed = |why: String| LaunchError::Gateway { why };
        loop {
            if let Some(line) = self.line() {
                let answer = serde_json::from_slice(&line);
                return answer.map_err(|error| failed(format!("its answer is unreadable: {error}")));
            }
            match self.read() {
                Ok(0) => return Err(self.ended()),
                Ok(_) => {}
                Err(error) => return Err(failed(format!("no answer ({error})"))),
            }
        }
    }

    fn tell(&self, message: &ControlMessage) -> io::Result<()> {
        self.channel.send(message, &[])
    }

    fn talk(&self) -> Option<BorrowedFd<'_>> {
        self.talks.then_some(self.control.as_fd())
    }

    fn events(&mut self) -> Vec<GatewayEvent> {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let is_readable = poll(&mut [PollFd::new(&self.control, PollFlags::IN)], Some(&at_once));
        if matches!(is_readable, Ok(1..)) && !matches!(self.read(), Ok(1..)) {
            self.talks = false;
        }
        // What this version does not know is left alone.
        std::iter::from_fn(|| self.line()).filter_map(|line| serde_json::from_slice(&line).ok()).collect()
    }

    fn process(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }

    fn log_tail(&self) -> String {
        tail(&self.log)
    }
}
