//! The launcher while the agent runs: one poll loop over its streams, signals, `exec` clients and limits.

use std::{
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bot_bottle_core::limits::ByteSize;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Signal, pidfd_send_signal},
};

use crate::{
    gateway_process::{GatewayProcess, tail},
    relay::Relay,
    request::{AgentExit, EndedBy, ProgramStatus},
};

use super::{
    limits::LimitMeans,
    protocol::{AGENT_SESSION, FromInit, StartProgram, ToInit},
    spawn::Sandbox,
};

mod exec_server;
mod limits;
mod signals;

use exec_server::{CLIENT_TIMEOUT, ClientRequest, ExecServer};
use limits::LimitWatchers;
pub(super) use signals::Signals;

/// How long an agent, or a command beside it, that was asked to end may take before it is killed.
pub(super) const GRACE: Duration = Duration::from_secs(3);

/// How long the end of a bottle may take, and its last output to arrive once nothing writes any more.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// A descriptor that the loop polls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PollSource {
    Signals,
    /// Messages of the bottle's first process.
    Init,
    /// The end of the bottle's first process.
    InitProcess,
    /// The end of the gateway.
    GatewayProcess,
    ExecListener,
    ExecClient(u64),
    /// One direction of the agent's streams.
    Stream,
}

/// The launcher while the agent runs.
pub(super) struct Session<'a> {
    sandbox: &'a Sandbox,
    gateway: &'a GatewayProcess,
    gateway_log: PathBuf,
    signals: &'a Signals,
    relay: Relay,
    exec_server: ExecServer<'a>,
    limits: LimitWatchers,
    /// Why the bottle ends, and when the agent is killed.
    ending: Option<(EndedBy, Instant)>,
    /// The agent's; the loop runs until it is known.
    status: Option<ProgramStatus>,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        sandbox: &'a Sandbox,
        gateway: &'a GatewayProcess,
        signals: &'a Signals,
        relay: Relay,
        agent: &'a StartProgram,
        run: &Path,
        means: &LimitMeans,
    ) -> io::Result<Self> {
        sandbox.channel.set_timeout(Some(CLIENT_TIMEOUT))?;
        Ok(Self {
            sandbox,
            gateway,
            gateway_log: run.join("gateway.log"),
            signals,
            relay,
            exec_server: ExecServer::listen(run, agent)?,
            limits: LimitWatchers::new(run, means),
            ending: None,
            status: None,
        })
    }

    /// Returns when the agent has ended and all of its output has arrived.
    pub(super) fn run(&mut self) -> AgentExit {
        while self.status.is_none() {
            self.poll_once();
        }
        if self.ending.is_none() {
            self.end_if_out_of_memory();
        }
        self.relay.end_input();
        // The agent may have left processes running that hold its streams open; draining waits for their
        // ends.
        let _ = pidfd_send_signal(&self.sandbox.process, Signal::KILL);
        self.drain();
        let exit = AgentExit {
            status: self.status.unwrap_or(ProgramStatus::Signalled(9)),
            ended_by: self.ending.take().map(|(ended_by, _)| ended_by),
        };
        self.exec_server.end_all(exit.ended_by.as_ref());
        exit
    }

    fn poll_once(&mut self) {
        let (ready, streams) = self.wait();
        self.relay.carry(&streams);
        for source in ready {
            match source {
                PollSource::Signals => self.handle_signals(),
                PollSource::Init => self.handle_init(),
                // The message about the agent's end may still be in the socket.
                PollSource::InitProcess => {
                    self.handle_init();
                    self.sandbox_ended();
                }
                PollSource::GatewayProcess => self.end_now(EndedBy::GatewayEnded(tail(&self.gateway_log))),
                PollSource::ExecListener => self.exec_server.accept(),
                PollSource::ExecClient(session) => self.handle_client(session),
                PollSource::Stream => {}
            }
        }
        if let Some(ended_by) = self.limits.check() {
            self.end_now(ended_by);
        }
        if self.ending.as_ref().is_some_and(|(_, kill_at)| Instant::now() >= *kill_at) {
            self.status.get_or_insert(ProgramStatus::Signalled(9));
        }
    }

    /// Waits for the next event. The sources that are ready, and for each direction of the relay whether it
    /// is.
    fn wait(&self) -> (Vec<PollSource>, Vec<bool>) {
        let mut waits: Vec<(PollSource, PollFd<'_>)> = vec![
            (PollSource::Signals, PollFd::new(self.signals.descriptor(), PollFlags::IN)),
            (PollSource::Init, PollFd::new(&self.sandbox.channel, PollFlags::IN)),
            (PollSource::InitProcess, PollFd::new(&self.sandbox.process, PollFlags::IN)),
            (PollSource::GatewayProcess, PollFd::new(&self.gateway.process, PollFlags::IN)),
            (PollSource::ExecListener, PollFd::new(self.exec_server.listener(), PollFlags::IN)),
        ];
        let clients = self.exec_server.waits();
        waits.extend(clients.map(|(session, wait)| (PollSource::ExecClient(session), wait)));
        waits.extend(self.relay.waits().map(|wait| (PollSource::Stream, wait)));
        let (sources, mut waits): (Vec<_>, Vec<_>) = waits.into_iter().unzip();
        let kill_at = self.ending.as_ref().map(|(_, kill_at)| *kill_at);
        let due = [kill_at, self.limits.due()].into_iter().flatten().min();
        let timeout = due.map(|due| due.saturating_duration_since(Instant::now()));
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        if poll(&mut waits, timeout.as_ref()).is_err() {
            return (Vec::new(), Vec::new());
        }
        let ready = sources.iter().copied().zip(waits.iter().map(|wait| !wait.revents().is_empty()));
        let streams =
            ready.clone().filter(|(source, _)| *source == PollSource::Stream).map(|(_, ready)| ready);
        let others = ready.clone().filter(|(source, ready)| *ready && *source != PollSource::Stream);
        (others.map(|(source, _)| source).collect(), streams.collect())
    }

    fn handle_signals(&mut self) {
        while let Some(signal) = self.signals.next() {
            if signal == Signal::WINCH {
                self.relay.resize();
                continue;
            }
            let number = u8::try_from(signal.as_raw()).unwrap_or(0);
            self.terminate(EndedBy::Signal(number), signal);
        }
    }

    /// Asks the agent to end, and has it killed when [`GRACE`] is over, or at once when this is asked twice.
    fn terminate(&mut self, ended_by: EndedBy, signal: Signal) {
        if self.ending.is_some() {
            self.status.get_or_insert(ProgramStatus::Signalled(9));
            return;
        }
        let message = ToInit::Signal { session: AGENT_SESSION, signal: signal.as_raw() };
        let asked = self.sandbox.channel.send(&message, &[]).is_ok();
        let grace = if asked { GRACE } else { Duration::ZERO };
        self.ending = Some((ended_by, Instant::now() + grace));
    }

    /// The first process has ended, or sent an invalid message, and the agent's end was not reported.
    fn sandbox_ended(&mut self) {
        if self.status.is_none() && self.ending.is_none() {
            self.end_now(EndedBy::SandboxEnded);
            self.end_if_out_of_memory();
        }
        self.status.get_or_insert(ProgramStatus::Signalled(9));
    }

    /// The kernel may have killed a process, the first one too, for memory; then the limit is the reason to
    /// show.
    fn end_if_out_of_memory(&mut self) {
        if let Some(ended_by) = self.limits.check_memory() {
            self.end_now(ended_by);
        }
    }

    fn end_now(&mut self, ended_by: EndedBy) {
        self.ending = Some((ended_by, Instant::now()));
        self.status.get_or_insert(ProgramStatus::Signalled(9));
    }

    fn handle_init(&mut self) {
        // A closed socket polls as readable too.
        let Ok(Some((message, streams))) = self.sandbox.channel.receive::<FromInit>() else {
            return self.sandbox_ended();
        };
        let streams: Vec<_> = streams.iter().map(AsFd::as_fd).collect();
        match message {
            FromInit::Ended { session: AGENT_SESSION, status } => self.status = Some(status),
            FromInit::Ended { session, status } => self.exec_server.ended(session, status),
            FromInit::Started { session } => {
                if !self.exec_server.started(session, &streams) {
                    self.disconnect(session);
                }
            }
            FromInit::NotStarted { session, doing, errno } => {
                self.exec_server.not_started(session, doing, errno);
            }
            FromInit::MemoryExceeded { used } => {
                let used = ByteSize(used >> 20 << 20);
                self.end_now(EndedBy::Limit(format!(
                    "the bottle used {used} of memory, more than `limits.memory`"
                )));
            }
            FromInit::MemoryUncounted => {
                self.end_now(EndedBy::Limit(
                    "`limits.memory` cannot be watched any more: the bottle has too many processes and open files \
                     to be counted in time"
                        .to_owned(),
                ));
            }
            FromInit::Failed { .. } | FromInit::Listening { .. } | FromInit::Ready { .. } => {
                self.sandbox_ended();
            }
        }
    }

    fn handle_client(&mut self, session: u64) {
        match self.exec_server.receive(session) {
            None => {}
            Some(ClientRequest::Forward(message)) => self.forward(&message),
            Some(ClientRequest::Stop) => self.terminate(EndedBy::Stop, Signal::TERM),
            Some(ClientRequest::Disconnected) => self.disconnect(session),
        }
    }

    fn forward(&mut self, message: &ToInit) {
        if self.sandbox.channel.send(message, &[]).is_err() {
            self.sandbox_ended();
        }
    }

    /// Kills the command of a client that is gone.
    fn disconnect(&mut self, session: u64) {
        if let Some(kill) = self.exec_server.disconnect(session) {
            // Fails only if the bottle has ended, and the command with it.
            let _ = self.sandbox.channel.send(&kill, &[]);
        }
    }

    /// Carries what is left in the agent's streams, until they are closed or the operator gives a signal.
    fn drain(&mut self) {
        let mut idle_since = Instant::now();
        while !self.relay.is_drained() && idle_since.elapsed() < DRAIN_TIMEOUT {
            let mut waits: Vec<_> = std::iter::once(PollFd::new(self.signals.descriptor(), PollFlags::IN))
                .chain(self.relay.waits())
                .collect();
            let limit = Timespec::try_from(DRAIN_TIMEOUT).ok();
            if poll(&mut waits, limit.as_ref()).is_err() {
                continue;
            }
            let ready: Vec<bool> = waits.iter().map(|wait| !wait.revents().is_empty()).collect();
            if ready[0] && self.signals.next().is_some_and(|signal| signal != Signal::WINCH) {
                return;
            }
            if ready.contains(&true) {
                idle_since = Instant::now();
            }
            self.relay.carry(&ready[1..]);
        }
    }
}
