//! `exec` and `stop`: the other side of the launcher's socket.

use std::{
    io,
    os::fd::OwnedFd,
    thread,
    time::{Duration, Instant},
};

use bot_bottle_core::identity::Identity;
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::Signal,
};

use crate::{
    channel::Channel,
    home::BotBottleHome,
    relay::{self, Relay},
    request::{AgentExit, ExecRequest, Terminal},
    state,
};

use super::{
    attending::{Signals, connect},
    error::ExecError,
    protocol::{FromClient, ToClient},
};

/// How long a bottle that is being started may take to answer.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a bottle may take to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// How often it is looked whether a bottle has ended, in the beginning.
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// The longest pause between two looks.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

fn channel(home: &BotBottleHome, identity: &Identity) -> Result<Channel, ExecError> {
    let run = home.run(identity);
    if !state::is_alive(&run).unwrap_or(false) {
        return Err(ExecError::NotRunning(identity.clone()));
    }
    // A bottle that is being started has its state before it answers.
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

pub(super) fn exec(
    home: &BotBottleHome,
    identity: &Identity,
    request: &ExecRequest,
    terminal: Terminal,
) -> Result<AgentExit, ExecError> {
    let signals = Signals::take().map_err(ExecError::Terminal)?;
    let lost = |source: io::Error| ExecError::Launcher { identity: identity.clone(), source };
    let channel = channel(home, identity)?;
    let size = (terminal == Terminal::Pty).then(relay::window_size).flatten();
    channel.send(&FromClient::Exec { request: request.clone(), terminal, size }, &[]).map_err(lost)?;
    let ended = || lost(io::ErrorKind::UnexpectedEof.into());
    let mut relay = match channel.receive::<ToClient>().map_err(lost)?.ok_or_else(ended)? {
        (ToClient::Started, streams) => Relay::connect(terminal, streams).map_err(ExecError::Terminal)?,
        (ToClient::NotStarted { doing, errno }, _) => {
            return Err(ExecError::NotStarted {
                program: request.command.first().cloned().unwrap_or_default(),
                doing,
                source: io::Error::from_raw_os_error(errno),
            });
        }
        _ => return Err(lost(io::ErrorKind::InvalidData.into())),
    };
    let mut exit = None;
    while exit.is_none() || !relay.is_drained() {
        let ready: Vec<bool> = {
            let mut waits = vec![PollFd::new(signals.descriptor(), PollFlags::IN)];
            if exit.is_none() {
                waits.push(PollFd::new(&channel, PollFlags::IN));
            }
            waits.extend(relay.waits());
            if poll(&mut waits, None).is_err() {
                continue;
            }
            waits.iter().map(|wait| !wait.revents().is_empty()).collect()
        };
        let fixed = if exit.is_none() { 2 } else { 1 };
        relay.carry(&ready[fixed..]);
        if ready[0] && !pass_on(&signals, &channel, &relay) && exit.is_some() {
            break;
        }
        if exit.is_none() && ready[1] {
            match channel.receive::<ToClient>().map_err(lost)?.ok_or_else(ended)? {
                (ToClient::Ended { status, ended_by }, _) => {
                    exit = Some(AgentExit { status, ended_by });
                    relay.end_input();
                }
                _ => return Err(lost(io::ErrorKind::InvalidData.into())),
            }
        }
    }
    exit.ok_or_else(ended)
}

/// Passes signals on to the command. False if there was one that asks for the end.
fn pass_on(signals: &Signals, channel: &Channel, relay: &Relay) -> bool {
    let mut goes_on = true;
    while let Some(signal) = signals.next() {
        if signal == Signal::WINCH {
            relay.resize();
        } else {
            goes_on = false;
            // If the launcher is gone, so is the command, and that is heard on the same socket.
            let _ = channel.send(&FromClient::Signal(signal.as_raw()), &[]);
        }
    }
    goes_on
}

pub(super) fn stop(home: &BotBottleHome, identity: &Identity) -> Result<(), ExecError> {
    let lost = |source: io::Error| ExecError::Launcher { identity: identity.clone(), source };
    let channel = channel(home, identity)?;
    // Opened while it is there: the launcher removes the file before it lets the lock go.
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
