//! The launcher while the agent runs: one poll loop over its streams, signals, `exec` clients and limits.

use std::{
    io,
    path::Path,
    time::{Duration, Instant},
};

use bot_bottle_core::{gateway_config::GatewayEvent, plan::BottlePlan};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::Signal,
};

use crate::{
    backend::{Gateway, Sandbox, SandboxEvent, SessionId, StartProgram},
    relay::Relay,
    request::{AgentExit, EndedBy, LaunchEvent, ProgramStatus},
};

mod exec_server;
mod limits;
mod renewals;
mod signals;

use exec_server::{ClientRequest, ExecServer};
pub(crate) use limits::LimitWatchers;
use renewals::Effect;
pub(crate) use renewals::Renewals;
pub(crate) use signals::Signals;

/// How long an agent, or a command beside it, that was asked to end may take before it is killed.
pub(crate) const GRACE: Duration = Duration::from_secs(3);

/// How long the end of a bottle may take, and its last output to arrive once nothing writes any more.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// A descriptor that the loop polls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PollSource {
    Signals,
    Sandbox,
    /// The end of the gateway.
    Gateway,
    /// What the gateway says.
    GatewayTalk,
    /// Answers of those who are asked for secrets.
    Renewals,
    ExecListener,
    ExecClient(SessionId),
    /// One direction of the agent's streams.
    Stream,
}

/// What a session connects.
pub(crate) struct Parts<'a> {
    pub(crate) sandbox: &'a mut dyn Sandbox,
    pub(crate) gateway: &'a mut dyn Gateway,
    pub(crate) signals: &'a Signals,
    /// The agent's streams, and the operator's.
    pub(crate) relay: Relay,
    pub(crate) renewals: Renewals,
}

/// The launcher while the agent runs.
pub(crate) struct Session<'a> {
    sandbox: &'a mut dyn Sandbox,
    gateway: &'a mut dyn Gateway,
    signals: &'a Signals,
    relay: Relay,
    renewals: Renewals,
    /// The agent's, as its programs see it.
    home: &'a Path,
    /// What the operator has not been told yet.
    notices: Vec<String>,
    exec_server: ExecServer<'a>,
    limits: LimitWatchers,
    /// Why the bottle ends, and when the agent is killed.
    ending: Option<(EndedBy, Instant)>,
    /// The agent's; the loop runs until it is known.
    status: Option<ProgramStatus>,
}

impl<'a> Session<'a> {
    pub(crate) fn new(
        parts: Parts<'a>,
        plan: &'a BottlePlan,
        agent: &'a StartProgram,
        run: &Path,
    ) -> io::Result<Self> {
        let Parts { sandbox, gateway, signals, relay, renewals } = parts;
        Ok(Self {
            sandbox,
            gateway,
            signals,
            relay,
            renewals,
            home: &plan.guest.home,
            notices: Vec::new(),
            exec_server: ExecServer::listen(run, agent)?,
            limits: LimitWatchers::new(&plan.limits, run),
            ending: None,
            status: None,
        })
    }

    /// Returns when the agent has ended and all of its output has arrived. Before everything is killed that still
    /// runs in the sandbox, `at_end` can ask it something.
    pub(crate) fn run(
        &mut self,
        on_event: &mut dyn FnMut(LaunchEvent),
        at_end: impl FnOnce(&mut dyn Sandbox),
    ) -> AgentExit {
        while self.status.is_none() {
            self.poll_once();
            self.notices.drain(..).for_each(|notice| on_event(LaunchEvent::Notice(notice)));
        }
        if self.ending.is_none() {
            self.end_if_out_of_memory();
        }
        self.relay.end_input();
        at_end(self.sandbox);
        // The agent may have left processes running that hold its streams open; draining waits for their
        // ends.
        self.sandbox.kill();
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
                PollSource::Sandbox => self.handle_sandbox(),
                PollSource::Gateway => self.end_now(EndedBy::GatewayEnded(self.gateway.log_tail())),
                PollSource::GatewayTalk => self.handle_gateway(),
                PollSource::Renewals => {
                    let effects = self.renewals.answered();
                    effects.into_iter().for_each(|effect| self.apply(effect));
                }
                PollSource::ExecListener => self.exec_server.accept(),
                PollSource::ExecClient(session) => self.handle_client(session),
                PollSource::Stream => {}
            }
        }
        self.renewals.check();
        if let Some(ended_by) = self.limits.check(&*self.sandbox) {
            self.end_now(ended_by);
        }
        if self.ending.as_ref().is_some_and(|(_, kill_at)| Instant::now() >= *kill_at) {
            self.status.get_or_insert(ProgramStatus::Signalled(9));
        }
    }

    /// Waits for the next event. The sources that are ready, and for each direction of the relay whether it
    /// is.
    fn wait(&self) -> (Vec<PollSource>, Vec<bool>) {
        let (sandbox, gateway) = (self.sandbox.descriptors(), self.gateway.process());
        let mut waits: Vec<(PollSource, PollFd<'_>)> = vec![
            (PollSource::Signals, PollFd::new(self.signals.descriptor(), PollFlags::IN)),
            (PollSource::Gateway, PollFd::new(&gateway, PollFlags::IN)),
            (PollSource::Renewals, PollFd::from_borrowed_fd(self.renewals.descriptor(), PollFlags::IN)),
            (PollSource::ExecListener, PollFd::new(self.exec_server.listener(), PollFlags::IN)),
        ];
        let talk = self.gateway.talk();
        waits.extend(
            talk.map(|talk| (PollSource::GatewayTalk, PollFd::from_borrowed_fd(talk, PollFlags::IN))),
        );
        let of_sandbox = |descriptor| (PollSource::Sandbox, PollFd::new(descriptor, PollFlags::IN));
        waits.extend(sandbox.iter().map(of_sandbox));
        let clients = self.exec_server.waits();
        waits.extend(clients.map(|(session, wait)| (PollSource::ExecClient(session), wait)));
        waits.extend(self.relay.waits().map(|wait| (PollSource::Stream, wait)));
        let (sources, mut waits): (Vec<_>, Vec<_>) = waits.into_iter().unzip();
        let kill_at = self.ending.as_ref().map(|(_, kill_at)| *kill_at);
        let due = [kill_at, self.limits.due(), self.renewals.due()].into_iter().flatten().min();
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

    fn handle_gateway(&mut self) {
        for event in self.gateway.events() {
            match event {
                GatewayEvent::RenewalNeeded { reference, cause } => {
                    let effect = self.renewals.needed(reference, cause);
                    effect.into_iter().for_each(|effect| self.apply(effect));
                }
                GatewayEvent::NotReloaded { why } => {
                    self.notices.push(format!("a renewed secret is not in use: {why}"));
                }
                // Nobody asks the operator yet: what has to be asked is refused when its time has passed.
                GatewayEvent::Reloaded | GatewayEvent::Question { .. } | GatewayEvent::Withdrawn { .. } => {}
            }
        }
    }

    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Tell(message) => {
                if self.gateway.tell(&message).is_err() {
                    self.end_now(EndedBy::GatewayEnded(self.gateway.log_tail()));
                }
            }
            Effect::Replace(file) => {
                if self.sandbox.replace(self.home, &file).is_err() {
                    self.sandbox_ended();
                }
            }
            Effect::Notice(notice) => self.notices.push(notice),
        }
    }

    /// Asks the agent to end, and has it killed when [`GRACE`] is over, or at once when this is asked twice.
    fn terminate(&mut self, ended_by: EndedBy, signal: Signal) {
        if self.ending.is_some() {
            self.status.get_or_insert(ProgramStatus::Signalled(9));
            return;
        }
        let asked = self.sandbox.signal(SessionId::AGENT, signal).is_ok();
        let grace = if asked { GRACE } else { Duration::ZERO };
        self.ending = Some((ended_by, Instant::now() + grace));
    }

    /// The sandbox has ended, or is not understood, and the agent's end was not reported.
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
        if let Some(ended_by) = self.limits.check_memory(&*self.sandbox) {
            self.end_now(ended_by);
        }
    }

    fn end_now(&mut self, ended_by: EndedBy) {
        self.ending = Some((ended_by, Instant::now()));
        self.status.get_or_insert(ProgramStatus::Signalled(9));
    }

    fn handle_sandbox(&mut self) {
        match self.sandbox.next() {
            None => {}
            Some(SandboxEvent::Ended { session: SessionId::AGENT, status }) => self.status = Some(status),
            Some(SandboxEvent::Ended { session, status }) => self.exec_server.ended(session, status),
            Some(SandboxEvent::Started { session, streams }) => {
                let arrived = self.exec_server.started(session, &streams);
                if !arrived {
                    self.disconnect(session);
                }
            }
            Some(SandboxEvent::NotStarted { session, source }) => {
                self.exec_server.not_started(session, source);
            }
            Some(SandboxEvent::NotReplaced(why)) => {
                self.notices.push(format!("the agent's login was not renewed with the host's: {why}"));
            }
            Some(SandboxEvent::LimitReached(limit)) => self.end_now(EndedBy::Limit(limit)),
            Some(SandboxEvent::Gone) => self.sandbox_ended(),
        }
    }

    fn handle_client(&mut self, session: SessionId) {
        let sent = match self.exec_server.receive(session) {
            None => Ok(()),
            Some(ClientRequest::Start(program)) => self.sandbox.exec(session, &program),
            Some(ClientRequest::Signal(signal)) => self.sandbox.signal(session, signal),
            Some(ClientRequest::Stop) => {
                self.terminate(EndedBy::Stop, Signal::TERM);
                Ok(())
            }
            Some(ClientRequest::Disconnected) => {
                self.disconnect(session);
                Ok(())
            }
        };
        if sent.is_err() {
            self.sandbox_ended();
        }
    }

    /// Kills the command of a client that is gone.
    fn disconnect(&mut self, session: SessionId) {
        if self.exec_server.disconnect(session) {
            // Fails only if the bottle has ended, and the command with it.
            let _ = self.sandbox.signal(session, Signal::KILL);
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
