//! The launcher while the agent runs: carries its bytes, answers `exec` and `stop`, and watches the limits.

use std::{
    collections::BTreeMap,
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bot_bottle_core::limits::ByteSize;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags, open},
    process::{Signal, pidfd_send_signal},
};

use crate::{
    channel::Channel,
    relay::Relay,
    request::{AgentExit, EndedBy, ExecRequest, ProgramStatus, Terminal},
    state::measure_tree,
    sys,
};

use super::{
    grouping,
    launch::AGENT_SESSION,
    limits::LimitMeans,
    parts::{GatewayProcess, Sandbox, tail},
    protocol::{FromClient, FromInit, StartProgram, ToClient, ToInit},
};

/// How long an agent, or a command beside it, that was asked to end may take before it is killed.
pub(super) const GRACE: Duration = Duration::from_secs(3);

/// How long the end of a bottle may take, and what it wrote may take to arrive once nothing writes any more.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an `exec` client may take for one message.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Most commands that are run beside an agent at one time.
const MAX_CLIENTS: usize = 64;

/// How often the disk is looked at, at least. Looking may take a tenth of the time at most.
const DISK_INTERVAL: Duration = Duration::from_secs(2);

/// How often it is looked whether a control group ran out of memory.
const MEMORY_INTERVAL: Duration = Duration::from_millis(500);

/// Name of the socket in the state directory.
pub(super) const CONTROL_SOCKET: &str = "control.sock";

const WATCHED: [Signal; 5] = [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT, Signal::WINCH];

/// Signals that stay ignored if they are so at the start, as `nohup` and a shell's `&` ask for.
const LEFT_IGNORED: [Signal; 3] = [Signal::INT, Signal::HUP, Signal::QUIT];

/// The operator's signals, read from a descriptor for as long as this lives.
pub(super) struct Signals(OwnedFd);

impl Signals {
    pub(super) fn take() -> io::Result<Self> {
        let ignored = |signal: &Signal| LEFT_IGNORED.contains(signal) && sys::is_ignored(*signal);
        let watched: Vec<Signal> = WATCHED.into_iter().filter(|signal| !ignored(signal)).collect();
        sys::signal_descriptor(&watched).map(Self)
    }

    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.0
    }

    pub(super) fn next(&self) -> Option<Signal> {
        // struct signalfd_siginfo, whose first word is the signal's number.
        let mut record = [0; 128];
        let count = rustix::io::read(&self.0, &mut record).ok()?;
        let number = record.get(..4).filter(|_| count == record.len())?.try_into().ok()?;
        Signal::from_named_raw(i32::from_ne_bytes(number))
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // What came too late has nothing left to end.
        while self.next().is_some() {}
        sys::unblock(&WATCHED);
    }
}

struct Client {
    channel: Channel,
    running: bool,
}

/// What can become ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Signals,
    Init,
    Sandbox,
    Gateway,
    Listener,
    Client(u64),
    Flow,
}

/// The launcher while the agent runs.
pub(super) struct Attendance<'a> {
    sandbox: &'a Sandbox,
    gateway: &'a GatewayProcess,
    signals: &'a Signals,
    relay: Relay,
    agent: &'a StartProgram,
    listener: UnixListener,
    gateway_log: PathBuf,
    /// Where the kernel tells whether memory ran out, and the limit.
    memory: Option<(Vec<PathBuf>, ByteSize)>,
    next_memory_look: Instant,
    clients: BTreeMap<u64, Client>,
    next_session: u64,
    watched: Vec<PathBuf>,
    disk: Option<ByteSize>,
    next_look: Instant,
    deadline: Option<(Instant, String)>,
    ending: Option<(EndedBy, Instant)>,
    status: Option<ProgramStatus>,
}

impl<'a> Attendance<'a> {
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
        let now = Instant::now();
        Ok(Self {
            sandbox,
            gateway,
            signals,
            relay,
            agent,
            listener: listen(run)?,
            gateway_log: run.join("gateway.log"),
            memory: means.memory.map(|limit| {
                (means.groups.iter().filter_map(|group| group.told_in.clone()).collect(), limit)
            }),
            next_memory_look: now,
            clients: BTreeMap::new(),
            next_session: AGENT_SESSION + 1,
            watched: vec![run.join("home"), run.join("workspace")],
            disk: means.disk,
            next_look: now,
            deadline: means
                .time
                .map(|time| (now + time.duration(), format!("the bottle reached `limits.time: {time}`"))),
            ending: None,
            status: None,
        })
    }

    /// Until the agent is gone, and everything that it wrote has arrived.
    pub(super) fn attend(&mut self) -> AgentExit {
        while self.status.is_none() {
            self.turn();
        }
        if self.ending.is_none() {
            self.look_at_memory();
        }
        self.relay.end_input();
        // Whatever the agent left running goes, so that its ends of the streams are closed.
        let _ = pidfd_send_signal(&self.sandbox.process, Signal::KILL);
        self.drain();
        let exit = AgentExit {
            status: self.status.unwrap_or(ProgramStatus::Signalled(9)),
            ended_by: self.ending.take().map(|(ended_by, _)| ended_by),
        };
        for client in self.clients.values().filter(|client| client.running) {
            let ended_by = exit.ended_by.clone();
            // The client may have gone.
            let _ =
                client.channel.send(&ToClient::Ended { status: ProgramStatus::Signalled(9), ended_by }, &[]);
        }
        exit
    }

    fn turn(&mut self) {
        let (ready, flows) = self.wait(self.time_left());
        self.relay.carry(&flows);
        for source in ready {
            match source {
                Source::Signals => self.take_signals(),
                Source::Init => self.hear_init(),
                // The message about the agent's end may still be on its way.
                Source::Sandbox => {
                    self.hear_init();
                    self.sandbox_ended();
                }
                Source::Gateway => self.end_now(EndedBy::GatewayEnded(tail(&self.gateway_log))),
                Source::Listener => self.accept(),
                Source::Client(session) => self.hear_client(session),
                Source::Flow => {}
            }
        }
        if self.memory.is_some() && Instant::now() >= self.next_memory_look {
            self.look_at_memory();
            self.next_memory_look = Instant::now() + MEMORY_INTERVAL;
        }
        self.watch_time_and_disk();
    }

    /// The kernel kills a process where a control group is full. Which one it is has no meaning for the agent,
    /// so the bottle ends.
    fn look_at_memory(&mut self) {
        if let Some((told_in, limit)) = &self.memory
            && grouping::ran_out_of_memory(told_in)
        {
            let sentence = format!("the bottle used all of its memory, `limits.memory: {limit}`");
            self.end_now(EndedBy::Limit(sentence));
        }
    }

    fn time_left(&self) -> Option<Duration> {
        let deadline = self.deadline.as_ref().map(|(at, _)| *at);
        let grace = self.ending.as_ref().map(|(_, at)| *at);
        let look = self.disk.map(|_| self.next_look);
        let memory = self.memory.as_ref().map(|_| self.next_memory_look);
        let next = [deadline, grace, look, memory].into_iter().flatten().min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// What is ready, and for each direction of the relay whether it is.
    fn wait(&self, limit: Option<Duration>) -> (Vec<Source>, Vec<bool>) {
        let mut waits: Vec<(Source, PollFd<'_>)> = vec![
            (Source::Signals, PollFd::new(&self.signals.0, PollFlags::IN)),
            (Source::Init, PollFd::new(&self.sandbox.channel, PollFlags::IN)),
            (Source::Sandbox, PollFd::new(&self.sandbox.process, PollFlags::IN)),
            (Source::Gateway, PollFd::new(&self.gateway.process, PollFlags::IN)),
            (Source::Listener, PollFd::new(&self.listener, PollFlags::IN)),
        ];
        for (session, client) in &self.clients {
            waits.push((Source::Client(*session), PollFd::new(&client.channel, PollFlags::IN)));
        }
        waits.extend(self.relay.waits().map(|wait| (Source::Flow, wait)));
        let (sources, mut waits): (Vec<_>, Vec<_>) = waits.into_iter().unzip();
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        if poll(&mut waits, limit.as_ref()).is_err() {
            return (Vec::new(), Vec::new());
        }
        let ready = sources.iter().copied().zip(waits.iter().map(|wait| !wait.revents().is_empty()));
        let flows = ready.clone().filter(|(source, _)| *source == Source::Flow).map(|(_, ready)| ready);
        let rest = ready.clone().filter(|(source, ready)| *ready && *source != Source::Flow);
        (rest.map(|(source, _)| source).collect(), flows.collect())
    }

    fn take_signals(&mut self) {
        while let Some(signal) = self.signals.next() {
            if signal == Signal::WINCH {
                self.relay.resize();
                continue;
            }
            let number = u8::try_from(signal.as_raw()).unwrap_or(0);
            self.end_in_order(EndedBy::Signal(number), signal);
        }
    }

    /// Asks the agent to end. A second time, or if it does not, it is killed.
    fn end_in_order(&mut self, ended_by: EndedBy, signal: Signal) {
        if self.ending.is_some() {
            self.status.get_or_insert(ProgramStatus::Signalled(9));
            return;
        }
        let message = ToInit::Signal { session: AGENT_SESSION, signal: signal.as_raw() };
        let asked = self.sandbox.channel.send(&message, &[]).is_ok();
        let patience = if asked { GRACE } else { Duration::ZERO };
        self.ending = Some((ended_by, Instant::now() + patience));
    }

    /// The first process is gone, or talks nonsense, without having told of the agent's end.
    fn sandbox_ended(&mut self) {
        if self.status.is_none() && self.ending.is_none() {
            self.end_now(EndedBy::SandboxEnded);
            // If that is why.
            self.look_at_memory();
        }
        self.status.get_or_insert(ProgramStatus::Signalled(9));
    }

    fn end_now(&mut self, ended_by: EndedBy) {
        self.ending = Some((ended_by, Instant::now()));
        self.status.get_or_insert(ProgramStatus::Signalled(9));
    }

    fn hear_init(&mut self) {
        // A closed socket polls as readable too.
        let Ok(Some((message, streams))) = self.sandbox.channel.receive::<FromInit>() else {
            return self.sandbox_ended();
        };
        let streams: Vec<_> = streams.iter().map(AsFd::as_fd).collect();
        match message {
            FromInit::Ended { session: AGENT_SESSION, status } => self.status = Some(status),
            FromInit::Ended { session, status } => {
                self.tell(session, &ToClient::Ended { status, ended_by: None }, &[]);
                self.clients.remove(&session);
            }
            FromInit::Started { session } => {
                if let Some(client) = self.clients.get_mut(&session) {
                    client.running = true;
                }
                if !self.tell(session, &ToClient::Started, &streams) {
                    self.forget(session);
                }
            }
            FromInit::NotStarted { session, doing, errno } => {
                self.tell(session, &ToClient::NotStarted { doing, errno }, &[]);
                self.clients.remove(&session);
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

    fn tell(&self, session: u64, message: &ToClient, streams: &[std::os::fd::BorrowedFd<'_>]) -> bool {
        self.clients.get(&session).is_some_and(|client| client.channel.send(message, streams).is_ok())
    }

    /// A client is gone, and with it the command that it ran.
    fn forget(&mut self, session: u64) {
        if self.clients.remove(&session).is_some() {
            let signal = Signal::KILL.as_raw();
            // If it fails the bottle is gone.
            let _ = self.sandbox.channel.send(&ToInit::Signal { session, signal }, &[]);
        }
    }

    fn accept(&mut self) {
        let Ok((stream, _)) = self.listener.accept() else { return };
        if self.clients.len() >= MAX_CLIENTS {
            return;
        }
        let channel = Channel::new(OwnedFd::from(stream));
        if channel.set_timeout(Some(CLIENT_TIMEOUT)).is_ok() {
            self.clients.insert(self.next_session, Client { channel, running: false });
            self.next_session += 1;
        }
    }

    fn hear_client(&mut self, session: u64) {
        let Some(client) = self.clients.get(&session) else { return };
        let Ok(Some((message, _))) = client.channel.receive::<FromClient>() else {
            return self.forget(session);
        };
        let message = match message {
            FromClient::Exec { request, terminal, size } => {
                ToInit::Start { session, program: self.program(request, terminal, size) }
            }
            FromClient::Signal(signal) => ToInit::Signal { session, signal },
            FromClient::Stop => {
                self.tell(session, &ToClient::Stopping, &[]);
                return self.end_in_order(EndedBy::Stop, Signal::TERM);
            }
        };
        if self.sandbox.channel.send(&message, &[]).is_err() {
            self.sandbox_ended();
        }
    }

    fn program(&self, request: ExecRequest, terminal: Terminal, size: Option<(u16, u16)>) -> StartProgram {
        let mut environment = self.agent.environment.clone();
        environment.extend(request.environment);
        StartProgram {
            command: request.command,
            environment,
            working_directory: request
                .working_directory
                .unwrap_or_else(|| self.agent.working_directory.clone()),
            terminal,
            size,
        }
    }

    fn watch_time_and_disk(&mut self) {
        let now = Instant::now();
        if let Some((at, sentence)) = &self.deadline
            && now >= *at
        {
            let sentence = sentence.clone();
            return self.end_now(EndedBy::Limit(sentence));
        }
        if self.ending.as_ref().is_some_and(|(_, at)| now >= *at) {
            self.status.get_or_insert(ProgramStatus::Signalled(9));
        }
        let Some(limit) = self.disk.filter(|_| now >= self.next_look) else { return };
        let mut used = 0;
        for folder in &self.watched {
            match measure_tree(folder) {
                Ok(bytes) => used += bytes,
                Err((path, error)) => {
                    let path = path.display();
                    return self.end_now(EndedBy::Limit(format!(
                        "`limits.disk` cannot be watched any more: {path} cannot be measured: {error}"
                    )));
                }
            }
        }
        if used > limit.0 {
            let used = ByteSize(used >> 20 << 20);
            self.end_now(EndedBy::Limit(format!(
                "the bottle wrote {used}, more than `limits.disk: {limit}`"
            )));
        }
        let took = now.elapsed();
        self.next_look = Instant::now() + DISK_INTERVAL.max(took * 10);
    }

    fn drain(&mut self) {
        let mut idle_since = Instant::now();
        while !self.relay.is_drained() && idle_since.elapsed() < DRAIN_TIMEOUT {
            let mut waits: Vec<_> = std::iter::once(PollFd::new(&self.signals.0, PollFlags::IN))
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

/// Listens in the run's directory, whose path may be longer than the 108 bytes that a socket's name may have.
fn listen(run: &Path) -> io::Result<UnixListener> {
    let folder = open(run, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let path = format!("/proc/self/fd/{}/{CONTROL_SOCKET}", folder.as_raw_fd());
    // Under its name it answers from the first moment on, and to this user alone.
    let unfinished = format!("{path}.new");
    let listener = UnixListener::bind(&unfinished)?;
    std::fs::set_permissions(&unfinished, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    std::fs::rename(&unfinished, &path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Connects to the launcher of a run.
pub(super) fn connect(run: &Path) -> io::Result<UnixStream> {
    let folder = open(run, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    UnixStream::connect(format!("/proc/self/fd/{}/{CONTROL_SOCKET}", folder.as_raw_fd()))
}
