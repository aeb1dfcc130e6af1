//! `exec` and `stop`: the other side of the launcher's socket.

use std::{
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    thread,
    time::{Duration, Instant},
};

use bot_bottle_core::{error::IoError, identity::Identity};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags, open},
    process::Signal,
};

use crate::{
    backend::Streams,
    channel::Channel,
    error::ExecError,
    home::BotBottleHome,
    protocol::{CONTROL_SOCKET, FromClient, ToClient},
    relay::{self, Relay},
    request::{AgentExit, EndedBy, ExecRequest, ProgramStatus, Terminal},
    session::{GRACE, Signals},
    state,
};

/// How long a bottle that is being started may take to answer.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a bottle may take to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// How long more output is waited for once a command has ended.
const LINGER: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// The first pause between two checks whether a bottle has ended.
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// The longest pause between two checks.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

fn channel(home: &BotBottleHome, identity: &Identity) -> Result<Channel, ExecError> {
    let run = home.run(identity);
    if !state::is_alive(&run).unwrap_or(false) {
        return Err(ExecError::NotRunning(identity.clone()));
    }
    // While a bottle starts, its directory exists before its socket does.
    let mut remaining = START_TIMEOUT.as_millis() / FIRST_PAUSE.as_millis();
    let stream = loop {
        match connect(&run) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && remaining > 0 => {
                remaining -= 1;
                thread::sleep(FIRST_PAUSE);
            }
            connected => break connected,
        }
    };
    let stream = stream.map_err(|source| ExecError::Launcher { identity: identity.clone(), source })?;
    Ok(Channel::new(OwnedFd::from(stream)))
}

/// Connects to the launcher of a run, through the directory's descriptor as in [`crate::session`].
fn connect(run: &Path) -> io::Result<UnixStream> {
    let folder = open(run, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    UnixStream::connect(format!("/proc/self/fd/{}/{CONTROL_SOCKET}", folder.as_raw_fd()))
}

/// The operator's signals that ask a command to end.
#[derive(Debug, Default)]
struct Termination {
    /// The first one, and when the command is killed.
    first: Option<(Signal, Instant)>,
    /// Whether there was a second one.
    again: bool,
}

impl Termination {
    /// Passes signals on to the command.
    fn forward(&mut self, signals: &Signals, channel: &Channel, relay: Option<&Relay>) {
        while let Some(signal) = signals.next() {
            if signal == Signal::WINCH {
                relay.into_iter().for_each(Relay::resize);
                continue;
            }
            self.again |= self.first.is_some();
            self.first.get_or_insert((signal, Instant::now() + GRACE));
            // Fails only if the launcher has ended, and the command with it; the socket then reads as closed.
            let _ = channel.send(&FromClient::Signal(signal.as_raw()), &[]);
        }
    }

    fn time_left(&self) -> Option<Timespec> {
        let (_, until) = self.first?;
        Timespec::try_from(until.saturating_duration_since(Instant::now())).ok()
    }

    /// The exit to report where the command does not end by itself. The launcher kills the command of a
    /// client that is gone with SIGKILL, which works on a stopped process too, signal(7).
    fn enforced(&self) -> Option<AgentExit> {
        let (signal, until) = self.first?;
        let ended_by = u8::try_from(signal.as_raw()).ok().map(EndedBy::Signal);
        (self.again || Instant::now() >= until)
            .then_some(AgentExit { status: ProgramStatus::Signalled(9), ended_by })
    }
}

/// Runs a command in a running bottle, as confined as its agent.
///
/// # Errors
/// See [`ExecError`].
pub fn exec(
    home: &BotBottleHome,
    identity: &Identity,
    request: &ExecRequest,
    terminal: Terminal,
) -> Result<AgentExit, ExecError> {
    let size = (terminal == Terminal::Pty).then(relay::window_size).flatten();
    let message = FromClient::Exec { request: request.clone(), terminal, size };
    run(home, identity, &message, request.command.first().map_or("", String::as_str))
}

/// Asks the launcher for a command, and connects its streams to those of this process until it ends.
fn run(
    home: &BotBottleHome,
    identity: &Identity,
    message: &FromClient,
    program: &str,
) -> Result<AgentExit, ExecError> {
    let signals = Signals::take().map_err(ExecError::Terminal)?;
    let lost = |source: io::Error| ExecError::Launcher { identity: identity.clone(), source };
    let channel = channel(home, identity)?;
    channel.send(message, &[]).map_err(lost)?;
    let ended = || lost(io::ErrorKind::UnexpectedEof.into());
    let mut termination = Termination::default();
    let mut relay: Option<Relay> = None;
    let mut exit = None;
    while exit.is_none() || relay.as_ref().is_some_and(|relay| !relay.is_drained()) {
        let ready: Vec<bool> = {
            let mut waits = vec![PollFd::new(signals.descriptor(), PollFlags::IN)];
            if exit.is_none() {
                waits.push(PollFd::new(&channel, PollFlags::IN));
            }
            waits.extend(relay.iter().flat_map(Relay::waits));
            let limit = if exit.is_some() { Some(LINGER) } else { termination.time_left() };
            match poll(&mut waits, limit.as_ref()) {
                Err(_) => continue,
                // All output has arrived; a process that the command left running holds its streams open.
                Ok(0) if exit.is_some() && relay.as_ref().is_none_or(Relay::is_written) => break,
                Ok(_) => {}
            }
            waits.iter().map(|wait| !wait.revents().is_empty()).collect()
        };
        let fixed = if exit.is_none() { 2 } else { 1 };
        if let Some(relay) = &mut relay {
            relay.carry(&ready[fixed..]);
        }
        if ready[0] {
            termination.forward(&signals, &channel, relay.as_ref());
        }
        if exit.is_none() && ready[1] {
            match channel.receive::<ToClient>().map_err(lost)?.ok_or_else(ended)? {
                (ToClient::Started, streams) if relay.is_none() => {
                    let streams = Streams::from_descriptors(streams).map_err(lost)?;
                    relay = Some(Relay::connect(streams).map_err(ExecError::Terminal)?);
                }
                (ToClient::NotStarted { doing, errno }, _) if relay.is_none() => {
                    return Err(ExecError::NotStarted {
                        program: program.to_owned(),
                        source: IoError::new(doing, io::Error::from_raw_os_error(errno)),
                    });
                }
                (ToClient::Ended { status, ended_by }, _) => {
                    exit = Some(AgentExit { status, ended_by });
                    relay.iter_mut().for_each(Relay::end_input);
                }
                _ => return Err(lost(io::ErrorKind::InvalidData.into())),
            }
        }
        // A process that the command left running may hold its streams open.
        if exit.is_some() && ready[0] && termination.first.is_some() {
            break;
        }
        if exit.is_none() {
            exit = termination.enforced();
            if exit.is_some() {
                break;
            }
        }
    }
    exit.ok_or_else(ended)
}

/// Ends a running bottle, and waits until it is gone.
///
/// # Errors
/// See [`ExecError`].
pub fn stop(home: &BotBottleHome, identity: &Identity) -> Result<(), ExecError> {
    let lost = |source: io::Error| ExecError::Launcher { identity: identity.clone(), source };
    let channel = channel(home, identity)?;
    // Opened now: the launcher removes the file before it releases the lock.
    let lock = state::RunLock::open(&home.run(identity)).map_err(lost)?;
    channel.send(&FromClient::Stop, &[]).map_err(lost)?;
    let (deadline, mut pause) = (Instant::now() + STOP_TIMEOUT, FIRST_PAUSE);
    while lock.as_ref().is_some_and(|lock| lock.is_held().unwrap_or(false)) {
        if Instant::now() > deadline {
            return Err(lost(io::ErrorKind::TimedOut.into()));
        }
        thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    Ok(())
}
