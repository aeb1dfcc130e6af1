//! The socket at which the launcher takes `exec` and `stop`, and the clients that are connected to it.

use std::{
    collections::BTreeMap,
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, OwnedFd},
        unix::{fs::PermissionsExt, net::UnixListener},
    },
    path::Path,
    time::Duration,
};

use bot_bottle_core::error::IoError;
use rustix::{
    event::{PollFd, PollFlags},
    fs::{Mode, OFlags, open},
    process::Signal,
};

use crate::{
    backend::{SessionId, StartProgram, Streams},
    channel::Channel,
    protocol::{CONTROL_SOCKET, FromClient, ToClient},
    request::{EndedBy, ExecRequest, ProgramStatus, Terminal},
};

/// How long an `exec` client may take for one message.
pub(super) const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Most commands that are run beside an agent at one time.
const MAX_CLIENTS: usize = 64;

/// A connected client; its session is the number of its command.
struct Client {
    channel: Channel,
    running: bool,
}

/// What a client asks for.
pub(super) enum ClientRequest {
    /// Start its command.
    Start(StartProgram),
    /// Send a signal to its command.
    Signal(Signal),
    /// End the bottle.
    Stop,
    /// Nothing more: the client is gone, or sends what is no message. Its command is to be killed.
    Disconnected,
}

pub(super) struct ExecServer<'a> {
    listener: UnixListener,
    clients: BTreeMap<SessionId, Client>,
    next_session: SessionId,
    /// The agent, whose environment and working directory are those of a command too.
    agent: &'a StartProgram,
}

impl<'a> ExecServer<'a> {
    /// Listens in the run's directory.
    pub(super) fn listen(run: &Path, agent: &'a StartProgram) -> io::Result<Self> {
        let listener = listen(run)?;
        Ok(Self {
            listener,
            clients: BTreeMap::new(),
            next_session: SessionId(SessionId::AGENT.0 + 1),
            agent,
        })
    }

    pub(super) fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// For each client its session, and what to wait for.
    pub(super) fn waits(&self) -> impl Iterator<Item = (SessionId, PollFd<'_>)> {
        self.clients.iter().map(|(session, client)| (*session, PollFd::new(&client.channel, PollFlags::IN)))
    }

    pub(super) fn accept(&mut self) {
        let Ok((stream, _)) = self.listener.accept() else { return };
        if self.clients.len() >= MAX_CLIENTS {
            return;
        }
        let channel = Channel::new(OwnedFd::from(stream));
        if channel.set_timeout(Some(CLIENT_TIMEOUT)).is_ok() {
            self.clients.insert(self.next_session, Client { channel, running: false });
            self.next_session.0 += 1;
        }
    }

    /// The request of a client that is readable; `None` if it was removed meanwhile, or asks for nothing.
    pub(super) fn receive(&self, session: SessionId) -> Option<ClientRequest> {
        let client = self.clients.get(&session)?;
        Some(match client.channel.receive::<FromClient>() {
            Ok(Some((FromClient::Exec { request, terminal, size }, _))) => {
                ClientRequest::Start(self.program(request, terminal, size))
            }
            // A number that names no signal is ignored.
            Ok(Some((FromClient::Signal(number), _))) => {
                return Signal::from_named_raw(number).map(ClientRequest::Signal);
            }
            Ok(Some((FromClient::Stop, _))) => {
                self.send(session, &ToClient::Stopping, &[]);
                ClientRequest::Stop
            }
            Ok(None) | Err(_) => ClientRequest::Disconnected,
        })
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

    /// Hands a client the streams of its command. Whether they arrived; if not, the client is gone.
    pub(super) fn started(&mut self, session: SessionId, streams: &Streams) -> bool {
        if let Some(client) = self.clients.get_mut(&session) {
            client.running = true;
        }
        self.send(session, &ToClient::Started, &streams.descriptors())
    }

    pub(super) fn not_started(&mut self, session: SessionId, error: IoError) {
        let (doing, errno) = (error.context, error.source.raw_os_error().unwrap_or(0));
        self.send(session, &ToClient::NotStarted { doing, errno }, &[]);
        self.clients.remove(&session);
    }

    pub(super) fn ended(&mut self, session: SessionId, status: ProgramStatus) {
        self.send(session, &ToClient::Ended { status, ended_by: None }, &[]);
        self.clients.remove(&session);
    }

    /// Removes a client. Whether there was such a client, whose command then has to be killed.
    pub(super) fn disconnect(&mut self, session: SessionId) -> bool {
        self.clients.remove(&session).is_some()
    }

    /// Tells every client whose command still runs that the bottle has ended, and with it the command.
    pub(super) fn end_all(&self, ended_by: Option<&EndedBy>) {
        for (session, _) in self.clients.iter().filter(|(_, client)| client.running) {
            let status = ProgramStatus::Signalled(9);
            self.send(*session, &ToClient::Ended { status, ended_by: ended_by.cloned() }, &[]);
        }
    }

    fn send(&self, session: SessionId, message: &ToClient, streams: &[BorrowedFd<'_>]) -> bool {
        self.clients.get(&session).is_some_and(|client| client.channel.send(message, streams).is_ok())
    }
}

/// Goes through the directory's descriptor: its path may be longer than the 108 bytes of `sun_path`, unix(7).
fn listen(run: &Path) -> io::Result<UnixListener> {
    let folder = open(run, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let path = format!("/proc/self/fd/{}/{CONTROL_SOCKET}", folder.as_raw_fd());
    // Renamed once it listens and has its mode, so that under its name it answers at once, and only to this
    // user.
    let unfinished = format!("{path}.new");
    let listener = UnixListener::bind(&unfinished)?;
    std::fs::set_permissions(&unfinished, PermissionsExt::from_mode(0o600))?;
    std::fs::rename(&unfinished, &path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
