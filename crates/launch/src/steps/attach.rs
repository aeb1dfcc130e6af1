//! Starts the agent, and connects its streams to the operator's.

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    time::{Duration, Instant},
};

use bot_bottle_core::{
    error::{IoContext, IoError},
    plan::AGENT_PROGRAM_FOLDER,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{
    backend::{Sandbox, SandboxEvent, SessionId, StartProgram},
    child_process::ANSWER_TIMEOUT,
    error::LaunchError,
    relay::{self, Relay},
    request::{LaunchRequest, Terminal},
};

/// The agent as it is started.
pub(crate) fn agent(request: &LaunchRequest) -> StartProgram {
    StartProgram {
        command: request.plan.program.command.clone(),
        environment: environment(request),
        working_directory: request.plan.guest.workspace.clone(),
        terminal: request.terminal,
        size: (request.terminal == Terminal::Pty).then(relay::window_size).flatten(),
    }
}

/// The agent's environment; the program's own folder comes first in its `PATH`.
fn environment(request: &LaunchRequest) -> BTreeMap<String, String> {
    let mut environment = request.environment.clone();
    let folder = request.program.as_ref().and_then(|found| found.executable.parent());
    let folder = Path::new(AGENT_PROGRAM_FOLDER).join(folder.unwrap_or(Path::new("")));
    let folder = folder.to_string_lossy().trim_end_matches('/').to_owned();
    let path = environment
        .entry("PATH".to_owned())
        .or_insert_with(|| "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin".to_owned());
    if !path.split(':').any(|known| known == folder) {
        *path = format!("{folder}:{path}");
    }
    environment
        .entry("HOME".to_owned())
        .or_insert_with(|| request.plan.guest.home.to_string_lossy().into_owned());
    environment.entry("TERM".to_owned()).or_insert_with(|| "xterm-256color".to_owned());
    environment
}

/// Starts the agent, and connects its streams to those of this process.
pub(crate) fn attach(sandbox: &mut dyn Sandbox, agent: &StartProgram) -> Result<Relay, LaunchError> {
    let lost = |source| LaunchError::Sandbox(IoError::new("starting the agent", source));
    sandbox.exec(SessionId::AGENT, agent).map_err(lost)?;
    match next_event(sandbox, ANSWER_TIMEOUT).map_err(lost)? {
        SandboxEvent::Started { session: SessionId::AGENT, streams } => {
            Ok(Relay::connect(streams).io_context(|| "connecting the terminal")?)
        }
        SandboxEvent::NotStarted { session: SessionId::AGENT, source } => {
            let program = agent.command.first().cloned().unwrap_or_default();
            Err(LaunchError::NotStarted { program, source })
        }
        SandboxEvent::Gone => Err(lost(io::ErrorKind::UnexpectedEof.into())),
        _ => Err(lost(io::ErrorKind::InvalidData.into())),
    }
}

/// The next event, which has to come within this time.
fn next_event(sandbox: &mut dyn Sandbox, limit: Duration) -> io::Result<SandboxEvent> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(event) = sandbox.next() {
            return Ok(event);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let descriptors = sandbox.descriptors();
        let mut waits: Vec<_> =
            descriptors.iter().map(|descriptor| PollFd::new(descriptor, PollFlags::IN)).collect();
        match poll(&mut waits, Timespec::try_from(left).ok().as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
