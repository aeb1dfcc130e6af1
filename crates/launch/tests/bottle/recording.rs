//! A backend that starts nothing and records what it is asked for. It drives the steps, the event loop and
//! the `exec` server without a kernel's help.

use std::{
    collections::VecDeque,
    fs,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
};

use bot_bottle_core::{
    error::IoError,
    gateway_config::{ControlMessage, GatewayEvent, GatewayReady, GatewayStart, ListenerKind},
    limits::Limits,
    plan::BottlePlan,
    provider::GuestFile,
};
use bot_bottle_launch::{
    backend::{
        Backend, BoundSocket, Enforcement, Gateway, GatewayListeners, Resource, Resources, Run, Sandbox,
        SandboxEvent, SessionId, StartProgram, Streams, Unmet,
    },
    error::LaunchError,
    host::prerequisites::HostReport,
    request::ProgramStatus,
};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

/// What the double does, as a test told it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Recording {
    /// Where each call is written, one line each.
    pub(crate) calls: PathBuf,
    /// A folder that stands for what a run owns on the host.
    pub(crate) owned: PathBuf,
    /// The call that fails.
    pub(crate) fails: Option<String>,
    /// The agent's exit code, if it ends at once; else a signal ends it.
    pub(crate) agent_ends: Option<u8>,
}

impl Recording {
    /// Records a call. An error if it is the one that fails.
    fn call(&self, call: &str) -> io::Result<()> {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&self.calls)?;
        writeln!(file, "{call}")?;
        match &self.fails {
            Some(fails) if call.starts_with(fails) => Err(io::Error::other("as the test asked for")),
            _ => Ok(()),
        }
    }

    /// The same for a call whose error says that the sandbox failed.
    fn step(&self, call: &str) -> Result<(), LaunchError> {
        self.call(call).map_err(|source| LaunchError::Sandbox(IoError::new(call, source)))
    }
}

impl Backend for Recording {
    fn prerequisites(&self) -> HostReport {
        HostReport::default()
    }

    fn check(&self, _limits: &Limits) -> Result<Enforcement, LaunchError> {
        self.call("check").map_err(|error| LaunchError::Limits(vec![Unmet(error.to_string())]))?;
        Ok(Enforcement(Vec::new()))
    }

    fn start_gateway(&self, _run: &Run, _resources: &mut Resources) -> Result<Box<dyn Gateway>, LaunchError> {
        self.call("start gateway").map_err(|error| LaunchError::Gateway { why: error.to_string() })?;
        let (process, end) = UnixStream::pair().expect("a pair");
        Ok(Box::new(RecordingGateway { recording: self.clone(), process, _end: end }))
    }

    fn start(
        &self,
        _plan: &BottlePlan,
        _run: &Run,
        resources: &mut Resources,
    ) -> Result<Box<dyn Sandbox>, LaunchError> {
        resources.add(Resource::Cgroup(self.owned.clone())).expect("recorded");
        fs::create_dir(&self.owned).expect("a folder");
        self.step("start sandbox")?;
        let (readable, wake) = UnixStream::pair().expect("a pair");
        readable.set_nonblocking(true).expect("set");
        Ok(Box::new(RecordingSandbox { recording: self.clone(), events: VecDeque::new(), readable, wake }))
    }
}

struct RecordingGateway {
    recording: Recording,
    process: UnixStream,
    /// Closed when the gateway has ended.
    _end: UnixStream,
}

impl Gateway for RecordingGateway {
    fn hand_over(&self, start: GatewayStart, listeners: GatewayListeners) -> io::Result<()> {
        let names: Vec<String> = start.secrets.keys().map(ToString::to_string).collect();
        self.recording.call(&format!("hand over {names:?} {listeners:?}"))
    }

    fn ready(&mut self) -> Result<GatewayReady, LaunchError> {
        self.recording.call("ready").map_err(|error| LaunchError::Gateway { why: error.to_string() })?;
        Ok(GatewayReady {
            ca_certificate: "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n".to_owned(),
            ca_fingerprint: "00".to_owned(),
        })
    }

    fn tell(&self, message: &ControlMessage) -> io::Result<()> {
        self.recording.call(&format!("tell {message:?}"))
    }

    fn talk(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn events(&mut self) -> Vec<GatewayEvent> {
        Vec::new()
    }

    fn process(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }

    fn log_tail(&self) -> String {
        "a recording".to_owned()
    }
}

impl Drop for RecordingGateway {
    fn drop(&mut self) {
        let _ = self.recording.call("drop gateway");
    }
}

struct RecordingSandbox {
    recording: Recording,
    events: VecDeque<SandboxEvent>,
    /// Has one byte for each event.
    readable: UnixStream,
    wake: UnixStream,
}

impl RecordingSandbox {
    fn emit(&mut self, event: SandboxEvent) -> io::Result<()> {
        self.events.push_back(event);
        self.wake.write_all(&[0])
    }
}

impl Sandbox for RecordingSandbox {
    fn listeners(&mut self) -> Result<GatewayListeners, LaunchError> {
        self.recording.step("listeners")?;
        let address = ([127, 0, 0, 1], 3128).into();
        Ok(GatewayListeners::Bound(vec![BoundSocket { kind: ListenerKind::Proxy, address }]))
    }

    fn initialise(&mut self) -> Result<Vec<String>, LaunchError> {
        self.recording.step("initialise")?;
        Ok(vec!["a note".to_owned()])
    }

    fn exec(&mut self, session: SessionId, program: &StartProgram) -> io::Result<()> {
        self.recording.call(&format!("exec {} {:?}", session.0, program.command))?;
        let (_, input) = io::pipe()?;
        let ((output, _), (error, _)) = (io::pipe()?, io::pipe()?);
        let streams = Streams::Pipes([input.into(), output.into(), error.into()]);
        self.emit(SandboxEvent::Started { session, streams })?;
        match self.recording.agent_ends {
            Some(code) if session == SessionId::AGENT => {
                self.emit(SandboxEvent::Ended { session, status: ProgramStatus::Exited(code) })
            }
            _ => Ok(()),
        }
    }

    fn signal(&mut self, session: SessionId, signal: Signal) -> io::Result<()> {
        let number = signal.as_raw();
        self.recording.call(&format!("signal {} {number}", session.0))?;
        let status = ProgramStatus::Signalled(u8::try_from(number).unwrap_or(0));
        self.emit(SandboxEvent::Ended { session, status })
    }

    fn replace(&mut self, home: &Path, file: &GuestFile) -> io::Result<()> {
        self.recording.call(&format!("replace {} in {}", file.path.display(), home.display()))
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.readable.as_fd()]
    }

    fn next(&mut self) -> Option<SandboxEvent> {
        self.readable.read_exact(&mut [0]).ok()?;
        self.events.pop_front()
    }

    fn kill(&mut self) {
        let _ = self.recording.call("kill");
    }

    fn is_out_of_memory(&self) -> bool {
        false
    }

    fn disk_usage(&self) -> Result<u64, String> {
        Ok(0)
    }
}

impl Drop for RecordingSandbox {
    fn drop(&mut self) {
        let _ = self.recording.call("drop sandbox");
    }
}
