//! The gateway as a process: started by a launcher, or alone.

use std::{
    borrow::Cow,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    net::SocketAddr,
    os::{
        fd::OwnedFd,
        unix::{fs::OpenOptionsExt, net::UnixStream},
    },
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use bot_bottle_core::{
    error::Hint,
    gateway_config::{GatewayConfig, GatewayReady, GatewayStart},
};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use thiserror::Error;
use tokio::{net::TcpListener, runtime::Runtime};

pub(crate) mod control;

use control::{ControlError, InheritedSocket};

use crate::{
    limits::MAX_CONFIG_BYTES,
    listen::{self, Listener},
    receipts::Receipts,
    state::{GatewayError, State},
    upstream::SystemResolver,
};

/// The gateway cannot start, or cannot go on.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The configuration file.
    #[error("the configuration {} cannot be read: {source}", path.display())]
    ConfigUnreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is in the configuration file.
    #[error("the configuration {} is not one: {source}", path.display())]
    ConfigMalformed {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// Threads and timers.
    #[error("the gateway's runtime cannot start: {0}")]
    Runtime(io::Error),
    /// An address of `listen`.
    #[error("the gateway cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Nothing was given to listen on.
    #[error("the gateway has nothing to listen on")]
    NoListener,
    /// The certificate's file.
    #[error("the certificate of the bottle's CA cannot be written to {}: {source}", path.display())]
    CertificateUnwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The launcher.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The gateway itself.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
}

/// More worker threads would idle: one thread serves tens of thousands of requests per second.
const MAX_WORKER_THREADS: usize = 4;

impl Hint for ServeError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        let hint = match self {
            Self::NoListener => "name an address under `listen` in the configuration, such as 127.0.0.1:8080",
            Self::Listen { .. } => {
                "another program may use that address: choose another, or port 0 for a free one"
            }
            Self::Gateway(GatewayError::SecretMissing { .. }) => {
                "set the variable of that name in the environment, or remove `auth` from the route"
            }
            Self::Gateway(GatewayError::SecretUnusable(_)) => {
                "give the token alone, on one line and without quotes around it"
            }
            Self::Gateway(GatewayError::SpliceUnsupported(_)) => "remove `tls: splice` from the route",
            Self::Gateway(GatewayError::ExtraCa(_)) => "see `egress.extra_ca` in settings.yml",
            Self::Gateway(GatewayError::ProxyLogin(_)) => "see `egress.upstream_proxy` in settings.yml",
            _ => return None,
        };
        Some(hint.into())
    }
}

/// Reads a gateway's configuration file, JSON.
///
/// # Errors
/// When it cannot be read or is not a configuration.
pub fn read_config(path: &Path) -> Result<GatewayConfig, ServeError> {
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_CONFIG_BYTES).read_to_end(&mut text))
        .map_err(|source| ServeError::ConfigUnreadable { path: path.to_owned(), source })?;
    serde_json::from_slice(&text)
        .map_err(|source| ServeError::ConfigMalformed { path: path.to_owned(), source })
}

/// Serves a launcher's bottle: receives the secrets and the listening sockets over `control`, answers with
/// [`GatewayReady`] on one line, and serves until the launcher's end of the socket is closed, however it came
/// to that. Blocks.
///
/// # Errors
/// When the gateway cannot start, or the launcher does not keep to the protocol.
pub fn serve_controlled(config: &GatewayConfig, control: UnixStream) -> Result<(), ServeError> {
    protect_memory();
    raise_descriptor_limit();
    let (start, inherited) = control::receive(&control)?;
    serve_started(config, start, inherited, control, None)
}

/// The same for a gateway in a container: its start message came over `control` already, its listening sockets
/// by another way, and its receipts go into a pipe.
///
/// # Errors
/// As for [`serve_controlled`].
pub fn serve_handed_over(
    config: &GatewayConfig,
    start: GatewayStart,
    sockets: Vec<OwnedFd>,
    control: UnixStream,
    receipts: OwnedFd,
) -> Result<(), ServeError> {
    protect_memory();
    raise_descriptor_limit();
    let inherited = control::inherited(&start, sockets)?;
    serve_started(config, start, inherited, control, Some(receipts))
}

fn serve_started(
    config: &GatewayConfig,
    start: GatewayStart,
    inherited: Vec<InheritedSocket>,
    control: UnixStream,
    receipts: Option<OwnedFd>,
) -> Result<(), ServeError> {
    let runtime = runtime()?;
    let served = runtime.block_on(async {
        let resolver = Box::<SystemResolver>::default();
        let state = match receipts {
            None => State::new(config, &start, resolver)?,
            Some(pipe) => {
                let receipts = Receipts::stream(pipe, config.receipts_bytes.map(|bytes| bytes.0));
                State::with_receipts(config, &start, resolver, receipts.map_err(ControlError::Socket)?)?
            }
        };
        let token = start.interceptor_token.clone();
        drop(start);
        let mut listeners = bind(&config.listen).await?;
        for InheritedSocket { kind, socket } in inherited {
            let adopted = Listener::adopt(kind, socket, token.as_ref()).map_err(ControlError::Socket)?;
            listeners.push(adopted.ok_or(ControlError::NoInterceptorToken)?);
        }
        serve(&state, listeners)?;
        let served = serve_launcher(&state, control).await;
        state.receipts.flush();
        served
    });
    // The launcher is gone: exchanges that are under way end with it.
    runtime.shutdown_background();
    served
}

/// Serves alone, on the addresses of the configuration, until the process ends. `ready` is called once, with
/// the addresses that are listened on. Blocks.
///
/// # Errors
/// When the gateway cannot start.
pub fn serve_alone(
    config: &GatewayConfig,
    start: GatewayStart,
    ready: impl FnOnce(&GatewayReady, &[SocketAddr]),
) -> Result<(), ServeError> {
    protect_memory();
    raise_descriptor_limit();
    let runtime = runtime()?;
    runtime.block_on(async {
        let state = State::new(config, &start, Box::<SystemResolver>::default())?;
        drop(start);
        let listeners = bind(&config.listen).await?;
        let addresses: Vec<_> = listeners.iter().filter_map(Listener::local_addr).collect();
        let told = state.ready();
        if let Some(path) = &config.ca_certificate {
            write_certificate(path, &told.ca_certificate)
                .map_err(|source| ServeError::CertificateUnwritable { path: path.clone(), source })?;
        }
        serve(&state, listeners)?;
        ready(&told, &addresses);
        std::future::pending().await
    })
}

/// Serves a gateway on listeners for its proxy, inside a runtime that the caller has.
///
/// # Errors
/// When there is no listener.
pub fn spawn(state: &Arc<State>, listeners: Vec<TcpListener>) -> Result<(), ServeError> {
    serve(state, listeners.into_iter().map(Listener::proxy).collect())
}

/// Carries messages between a launcher and a gateway, inside a runtime that the caller has, until the launcher's end of
/// the socket is closed: [`GatewayReady`] first, then what [`serve_controlled`] does.
///
/// # Errors
/// When the launcher does not keep to the protocol.
pub async fn serve_launcher(state: &State, control: UnixStream) -> Result<(), ServeError> {
    Ok(control::serve(state, control).await?)
}

fn serve(state: &Arc<State>, listeners: Vec<Listener>) -> Result<(), ServeError> {
    if listeners.is_empty() {
        return Err(ServeError::NoListener);
    }
    for listener in listeners {
        listen::spawn(state, listener);
    }
    Ok(())
}

/// Keeps the credentials in this process's memory out of core dumps and from other programs of the same user.
/// A limit of 1 is what stops a `core_pattern` with a pipe too, core(5).
fn protect_memory() {
    // Neither fails for a process that does this to itself, prctl(2) and setrlimit(2): a limit is lowered.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let bytes = getrlimit(Resource::Core).maximum.map_or(1, |maximum| maximum.min(1));
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(bytes), maximum: Some(bytes) });
}

/// Raises the limit of open files as far as it may be: every client connection needs one, and another to its
/// upstream.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Ignored: a soft limit may always be raised to the hard one, setrlimit(2).
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

fn runtime() -> Result<Runtime, ServeError> {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(processors.min(MAX_WORKER_THREADS))
        .thread_name("gateway")
        .enable_all()
        .build()
        .map_err(ServeError::Runtime)
}

async fn bind(addresses: &[SocketAddr]) -> Result<Vec<Listener>, ServeError> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for &address in addresses {
        let bound = Listener::bind_proxy(address).await;
        listeners.push(bound.map_err(|source| ServeError::Listen { address, source })?);
    }
    Ok(listeners)
}

/// A certificate is no secret, and the sandboxes that it is for have to read it.
fn write_certificate(path: &Path, pem: &str) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(path)?
        .write_all(pem.as_bytes())
}
