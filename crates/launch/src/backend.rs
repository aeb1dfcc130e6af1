//! What a backend is: how a plan becomes a sandbox, and how the launcher talks to a sandbox that runs.
//!
//! [`crate::launch()`] has the steps of a launch, once for all backends, and its event loop serves any
//! [`Sandbox`]. A backend differs in how it starts one ([`Backend`]), and in how programs are started in it
//! and its events arrive ([`Sandbox`]). Everything it makes is recorded as a resource before it is used;
//! `cleanup` releases that without the backend.

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use bot_bottle_core::{
    error::IoError,
    gateway_config::{
        ControlMessage, GatewayEvent, GatewayReady, GatewayStart, InterceptorToken, ListenerKind,
    },
    identity::Identity,
    limits::Limits,
    plan::BottlePlan,
    provider::{GuestFile, GuestPaths},
    work::FileTime,
};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    error::LaunchError,
    gateway_process::GatewayProcess,
    host::prerequisites::HostReport,
    inspect::INSPECTED_HOME,
    request::{LaunchEvent, ProgramStatus, Terminal},
};

pub use crate::{
    docker::EngineObject,
    resource::{Resource, Resources, WorkObject},
    steps::allocate::Run,
};

/// A way to make a sandbox.
pub trait Backend {
    /// What this backend needs from the host and does not get. Tries it, so it may take some time.
    fn prerequisites(&self) -> HostReport;

    /// How each limit would be enforced here.
    ///
    /// # Errors
    /// [`LaunchError::Limits`] with those that cannot be, or why the backend cannot be asked.
    fn check(&self, limits: &Limits) -> Result<Enforcement, LaunchError>;

    /// Gets what the sandbox of a plan is made of, before anything of the run exists: an image is pulled or built
    /// here, which may take minutes. Returns the image's id; `None` for a backend without images, the default.
    ///
    /// # Errors
    /// When there is no such image and none can be made.
    fn prepare(
        &self,
        _plan: &BottlePlan,
        _on_event: &mut dyn FnMut(LaunchEvent),
    ) -> Result<Option<String>, LaunchError> {
        Ok(None)
    }

    /// Starts the gateway, which waits for [`Gateway::hand_over`]. The default is a process of the host; a
    /// backend overrides this to run it elsewhere.
    ///
    /// # Errors
    /// When it cannot be started; what was recorded is released by the caller.
    fn start_gateway(&self, run: &Run, resources: &mut Resources) -> Result<Box<dyn Gateway>, LaunchError> {
        GatewayProcess::start(run, resources).map(|gateway| Box::new(gateway) as _)
    }

    /// Where a bottle that looks at another run's work has that one's home.
    fn inspected_home(&self, _guest: &GuestPaths) -> PathBuf {
        INSPECTED_HOME.into()
    }

    /// A folder that a look may make, on a disk: in the home of the throw-away bottle, unless that is the agent's.
    fn scratch(&self, guest: &GuestPaths, _look: &Identity) -> PathBuf {
        guest.home.join("scratch")
    }

    /// Starts the sandbox of a plan. What takes time may go on after this has returned, until
    /// [`Sandbox::initialise`] returns.
    ///
    /// # Errors
    /// When it cannot be started; what was recorded is released by the caller.
    fn start(
        &self,
        plan: &BottlePlan,
        run: &Run,
        resources: &mut Resources,
    ) -> Result<Box<dyn Sandbox>, LaunchError>;
}

/// How the limits of a bottle are enforced, one sentence each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Enforcement(pub Vec<String>);

/// A limit that cannot be enforced, as a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Unmet(pub String);

/// The gateway of one bottle, as the launcher sees it. It ends when this is dropped.
pub trait Gateway {
    /// Hands over the secrets, and the sockets where the gateway listens.
    ///
    /// # Errors
    /// When it takes nothing any more.
    fn hand_over(&self, start: GatewayStart, listeners: GatewayListeners) -> io::Result<()>;

    /// Waits until the gateway serves; it has minted the bottle's certificate authority then.
    ///
    /// # Errors
    /// With the last of its log.
    fn ready(&mut self) -> Result<GatewayReady, LaunchError>;

    /// Tells it something while it serves.
    ///
    /// # Errors
    /// When it takes nothing any more.
    fn tell(&self, message: &ControlMessage) -> io::Result<()>;

    /// A descriptor that is readable when [`Self::events`] has something; `None` once it tells nothing any more.
    fn talk(&self) -> Option<BorrowedFd<'_>>;

    /// What it has told since the last time. Does not wait.
    fn events(&mut self) -> Vec<GatewayEvent>;

    /// A descriptor that is readable once the gateway has ended.
    fn process(&self) -> BorrowedFd<'_>;

    /// The end of its log.
    fn log_tail(&self) -> String;
}

/// A sandbox that was started. Everything in it ends when this is dropped.
///
/// The launcher has one thread. So a program is started without waiting for it: [`SandboxEvent::Started`]
/// comes when it runs, and meanwhile limits, signals and the other programs are attended to.
pub trait Sandbox {
    /// Where the gateway listens. Once, before [`Self::initialise`].
    ///
    /// # Errors
    /// When the sandbox failed, with its reason.
    fn listeners(&mut self) -> Result<GatewayListeners, LaunchError>;

    /// Waits until programs can be started: the file system is complete, and they will be confined. Returns
    /// what the operator should know about this sandbox, one sentence each.
    ///
    /// # Errors
    /// When the sandbox failed, with its reason.
    fn initialise(&mut self) -> Result<Vec<String>, LaunchError>;

    /// Starts a program. [`SandboxEvent::Started`] or [`SandboxEvent::NotStarted`] answers.
    ///
    /// # Errors
    /// When the sandbox takes nothing any more.
    fn exec(&mut self, session: SessionId, program: &StartProgram) -> io::Result<()>;

    /// Sends a signal to the program of a session, and to all of the session if it is SIGKILL or SIGHUP. Does
    /// nothing if the program has ended.
    ///
    /// # Errors
    /// When the sandbox takes nothing any more.
    fn signal(&mut self, session: SessionId, signal: Signal) -> io::Result<()>;

    /// Gives a file in the agent's home another content, whatever is in its place. [`SandboxEvent::NotReplaced`] answers
    /// where that fails.
    ///
    /// # Errors
    /// When the sandbox takes nothing any more.
    fn replace(&mut self, home: &Path, file: &GuestFile) -> io::Result<()>;

    /// Descriptors of which one is readable when [`Self::next`] has something.
    fn descriptors(&self) -> Vec<BorrowedFd<'_>>;

    /// The next event. Does not wait.
    fn next(&mut self) -> Option<SandboxEvent>;

    /// Kills every program in it.
    fn kill(&mut self);

    /// The objects that hold what the agent writes, with those that they need; none where it writes to folders of the
    /// run on this host.
    fn work(&self) -> Vec<WorkObject> {
        Vec::new()
    }

    /// The time that a file would get that the agent wrote now, where its files have another clock than this host's;
    /// later than that of any file that is there.
    ///
    /// # Errors
    /// When it cannot be asked.
    fn file_time(&mut self) -> io::Result<Option<FileTime>> {
        Ok(None)
    }

    /// Whether the kernel has killed a program because the bottle had used its memory.
    fn is_out_of_memory(&self) -> bool;

    /// Bytes that the bottle's writable folders take on the disk.
    ///
    /// # Errors
    /// One sentence, when they cannot be measured.
    fn disk_usage(&self) -> Result<u64, String>;
}

/// The sockets where a gateway is reached from a sandbox.
#[derive(Debug)]
pub enum GatewayListeners {
    /// Made in the network of the sandbox, so that they are reached from there alone.
    Inherited(Vec<InheritedSocket>),
    /// The same for a virtual machine, with what the connections of its interceptor begin with.
    Intercepted(Vec<InheritedSocket>, InterceptorToken),
    /// Addresses of the host to listen at, for a sandbox whose connections arrive on the host.
    Bound(Vec<BoundSocket>),
    /// Made in the sandbox too, which hands them to its gateway by itself.
    HandedOver(Vec<ListenerKind>),
}

/// A listening socket that was made in a sandbox.
#[derive(Debug)]
pub struct InheritedSocket {
    /// What it is for.
    pub kind: ListenerKind,
    /// The descriptor of the listening socket.
    pub socket: OwnedFd,
}

/// An address of the host where a gateway listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoundSocket {
    /// What it is for.
    pub kind: ListenerKind,
    /// The address to bind.
    pub address: SocketAddr,
}

impl GatewayListeners {
    /// Completes what a gateway is told, and gives the sockets that go with it.
    pub(crate) fn complete(self, start: &mut GatewayStart) -> io::Result<Vec<OwnedFd>> {
        let (kinds, sockets) = match self {
            Self::Intercepted(sockets, token) => {
                start.interceptor_token = Some(token);
                Self::Inherited(sockets).into_sockets()?
            }
            other => other.into_sockets()?,
        };
        start.listeners = kinds;
        Ok(sockets)
    }

    fn into_sockets(self) -> io::Result<(Vec<ListenerKind>, Vec<OwnedFd>)> {
        match self {
            Self::Inherited(sockets) | Self::Intercepted(sockets, _) => {
                Ok(sockets.into_iter().map(|inherited| (inherited.kind, inherited.socket)).unzip())
            }
            Self::Bound(addresses) => {
                let bind = |bound: BoundSocket| -> io::Result<(ListenerKind, OwnedFd)> {
                    let socket = match bound.kind {
                        ListenerKind::DnsUdp => UdpSocket::bind(bound.address)?.into(),
                        ListenerKind::Proxy
                        | ListenerKind::Transparent
                        | ListenerKind::DnsTcp
                        | ListenerKind::Interceptor => TcpListener::bind(bound.address)?.into(),
                    };
                    Ok((bound.kind, socket))
                };
                addresses.into_iter().map(bind).collect()
            }
            Self::HandedOver(kinds) => Ok((kinds, Vec::new())),
        }
    }
}

/// A program in a sandbox, by the number that the launcher gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub u64);

impl SessionId {
    /// The agent; commands that are run beside it have higher numbers.
    pub const AGENT: Self = Self(0);
}

/// A program that is to be started in a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartProgram {
    /// Program and arguments.
    pub command: Vec<String>,
    /// The whole environment.
    pub environment: BTreeMap<String, String>,
    /// Absolute.
    pub working_directory: PathBuf,
    /// What its standard streams are.
    pub terminal: Terminal,
    /// Rows and columns of the operator's terminal.
    pub size: Option<(u16, u16)>,
}

/// The launcher's ends of a program's streams.
#[derive(Debug)]
pub enum Streams {
    /// The controlling side of its terminal.
    Terminal(OwnedFd),
    /// The same for a terminal that another host's kernel has.
    RemoteTerminal {
        /// A socket with what is typed and shown. To close it hangs the terminal up.
        data: OwnedFd,
        /// A socket that takes its size: rows and columns, two bytes each, in the byte order of this machine.
        window: OwnedFd,
    },
    /// The other ends of its input, output and error.
    Pipes([OwnedFd; 3]),
}

impl Streams {
    /// As they come with a message.
    pub(crate) fn from_descriptors(descriptors: Vec<OwnedFd>) -> io::Result<Self> {
        let mut descriptors = descriptors.into_iter();
        match (descriptors.next(), descriptors.next(), descriptors.next(), descriptors.next()) {
            (Some(controller), None, None, None) => Ok(Self::Terminal(controller)),
            (Some(data), Some(window), None, None) => Ok(Self::RemoteTerminal { data, window }),
            (Some(input), Some(output), Some(error), None) => Ok(Self::Pipes([input, output, error])),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "unexpected streams")),
        }
    }

    /// As they go with a message.
    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Self::Terminal(controller) => vec![controller.as_fd()],
            Self::RemoteTerminal { data, window } => vec![data.as_fd(), window.as_fd()],
            Self::Pipes(pipes) => pipes.iter().map(AsFd::as_fd).collect(),
        }
    }
}

/// What happens in a sandbox.
#[derive(Debug)]
pub enum SandboxEvent {
    /// A program runs.
    Started {
        /// Which.
        session: SessionId,
        /// Its streams.
        streams: Streams,
    },
    /// A program could not be started.
    NotStarted {
        /// Which.
        session: SessionId,
        /// Why.
        source: IoError,
    },
    /// A program ended.
    Ended {
        /// Which.
        session: SessionId,
        /// How.
        status: ProgramStatus,
    },
    /// A file in the agent's home could not be given another content.
    NotReplaced(IoError),
    /// The bottle has reached a limit and has to end; one sentence.
    LimitReached(String),
    /// The sandbox has ended, or is not understood any more. Nothing comes after it.
    Gone,
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use rustix::net::getsockname;

    use super::*;

    #[test]
    fn addresses_are_bound_and_inherited_sockets_are_passed_on_in_their_order() {
        let address = ([127, 0, 0, 1], 0).into();
        let kinds = [ListenerKind::Proxy, ListenerKind::DnsUdp, ListenerKind::DnsTcp];
        let bound = GatewayListeners::Bound(kinds.map(|kind| BoundSocket { kind, address }).into());
        let (bound_kinds, sockets) = bound.into_sockets().expect("bound");
        assert_eq!(bound_kinds, kinds);
        let proxy = getsockname(&sockets[0]).expect("a name");
        let proxy = SocketAddr::try_from(proxy).expect("an address");
        TcpStream::connect(proxy).expect("somebody listens");

        let sockets = kinds.into_iter().zip(sockets);
        let inherited = sockets.map(|(kind, socket)| InheritedSocket { kind, socket }).collect();
        let (kinds_again, sockets) =
            GatewayListeners::Inherited(inherited).into_sockets().expect("passed on");
        assert_eq!(kinds_again, kinds);
        let first = getsockname(&sockets[0]).expect("a name");
        assert_eq!(SocketAddr::try_from(first).expect("an address"), proxy);
    }
}
