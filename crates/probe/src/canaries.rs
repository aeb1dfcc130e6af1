//! Canaries outside the bottle: hosts, services and sockets that record everything that reaches them.
//!
//! They run on a thread of the process that starts the bottle and end when [`Canaries`] is dropped.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use bot_bottle_core::error::{Hint, IoContext, IoError};
use serde::Serialize;
use thiserror::Error;
use tokio::sync::oneshot;

use crate::context::{Context, PlantedSecret};

mod certificate;
mod listen;
mod recorder;
mod upstream;

use listen::{listen_abstract, listen_both, listen_tcp, listen_unix, port};

/// The host with a credential.
pub const ALLOWED_HOST: &str = "api.demo.test";

/// The host without a credential.
pub const OPEN_HOST: &str = "pages.demo.test";

/// A host that no route names.
pub const UNLISTED_HOST: &str = "attacker.test";

/// A response header that the hosts add where the policy should let the request through.
pub const ALLOWED_HEADER: &str = "x-canary-allowed";

/// How many leaks and calls are kept. Later ones are dropped, because the first suffice for a verdict.
pub const MAX_RECORDS: usize = 10_000;

/// How much of one leak is kept, in bytes.
pub const MAX_LEAK_BYTES: usize = 4096;

const STARTING: &str = "starting the embedded hosts";

/// The prefix of the credential. Like the prefix that vendors give their keys it is not secret, and the
/// bottle is told it so that it can search for the credential without holding it.
const CREDENTIAL_PREFIX: &str = "demo_";

/// Why the canaries could not be started.
#[derive(Debug, Error)]
pub enum CanaryError {
    /// A certificate could not be made.
    #[error("no certificate for the embedded hosts: {0}")]
    Certificate(#[from] rcgen::Error),
    /// TLS could not be set up.
    #[error("no TLS for the embedded hosts: {0}")]
    Tls(#[from] rustls::Error),
    /// A socket, a thread or the runtime could not be created.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl Hint for CanaryError {}

/// Something that reached a canary and should not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leak {
    /// The canary that it reached.
    pub canary: String,
    /// The id of the attempt that caused it, if the bytes carry one.
    pub attempt: Option<String>,
    /// What arrived, cut to [`MAX_LEAK_BYTES`].
    pub text: String,
}

/// A request that was allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Call {
    /// The host that was called.
    pub host: String,
    /// Its method.
    pub method: String,
    /// Its path.
    pub path: String,
    /// Whether it carried the real credential.
    pub authenticated: bool,
}

/// The ports of the embedded hosts on the loopback of the real one.
#[derive(Debug, Clone, Copy)]
pub struct HostPorts {
    /// The host with a credential.
    pub allowed: u16,
    /// The host without one, for TLS and plain HTTP.
    pub open: u16,
    /// Every host that no route names.
    pub unlisted: u16,
}

/// The facts of a [`Context`] that the canaries do not know themselves.
#[derive(Debug, Clone)]
pub struct ContextInput {
    /// Where the gateway listens inside the bottle.
    pub proxy: SocketAddr,
    /// Roots that a program in the bottle trusts, PEM.
    pub ca_bundle: PathBuf,
    /// The host's own name.
    pub host_name: String,
    /// The operator's home.
    pub operator_home: PathBuf,
    /// Where bot-bottle keeps its files.
    pub bot_bottle_home: PathBuf,
    /// A file of the operator, with the mark in it.
    pub secret_file: PathBuf,
    /// Sockets that the operator's environment names.
    pub operator_sockets: Vec<PathBuf>,
}

/// The running hosts and recorders.
#[derive(Debug)]
pub struct Canaries {
    facts: Facts,
    credential: String,
    records: Arc<Records>,
    ports: HostPorts,
    services: Vec<SocketAddr>,
    ca_certificate: String,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The facts of a [`Context`] that come from the canaries.
#[derive(Debug, Clone)]
struct Facts {
    mark: String,
    unix_socket: PathBuf,
    abstract_socket: String,
    planted: PlantedSecret,
}

/// The records so far.
#[derive(Debug, Default)]
pub(crate) struct Records {
    leaks: Mutex<Vec<Leak>>,
    calls: Mutex<Vec<Call>>,
}

impl Canaries {
    /// Starts every host and recorder; all of them listen when this returns. The credential, the mark and the
    /// name of the abstract socket are drawn at random, so that two runs on one host never take each other's
    /// traffic for their own.
    ///
    /// `unix_socket` is where a unix socket is made. Services listen on the loopback address and on each of
    /// `host_addresses`.
    ///
    /// # Errors
    /// See [`CanaryError`].
    pub fn start(unix_socket: PathBuf, host_addresses: &[IpAddr]) -> Result<Self, CanaryError> {
        let credential = format!("{CREDENTIAL_PREFIX}{}", random_letters::<40>()?);
        let mark = format!("mark-{}", random_letters::<20>()?);
        let abstract_socket = format!("bot-bottle-canary-{}", random_letters::<12>()?);
        let mut names = vec![ALLOWED_HOST.to_owned(), OPEN_HOST.to_owned()];
        names.extend(unlisted_names());
        let certificates = certificate::issue(&names)?;

        let listen = || listen_tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let [allowed, open, unlisted] = [listen()?, listen()?, listen()?];
        let ports = HostPorts { allowed: port(&allowed)?, open: port(&open)?, unlisted: port(&unlisted)? };

        let mut services = Vec::new();
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST)];
        for address in loopback.into_iter().chain(host_addresses.iter().copied()) {
            services.push(listen_both(address)?);
        }
        let addresses = services
            .iter()
            .map(|(tcp, _)| tcp.local_addr())
            .collect::<Result<Vec<_>, _>>()
            .io_context(|| "reading the address of a socket")?;
        let unix = listen_unix(&unix_socket)?;
        let abstract_listener = listen_abstract(&abstract_socket)?;

        let records = Arc::new(Records::default());
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().io_context(|| STARTING)?;
        let (end, ended) = oneshot::channel();
        let facts = Facts {
            mark: mark.clone(),
            unix_socket,
            abstract_socket,
            planted: PlantedSecret::describe(&credential, CREDENTIAL_PREFIX.len()),
        };
        let shared = upstream::Shared {
            records: Arc::clone(&records),
            tls: certificates.server,
            credential: credential.clone(),
            mark: mark.clone(),
        };
        let recorders = Arc::clone(&records);
        let thread = std::thread::Builder::new()
            .name("canaries".into())
            .spawn(move || {
                runtime.block_on(async move {
                    let shared = Arc::new(shared);
                    let started = upstream::spawn(&shared, upstream::Role::Allowed, allowed)
                        .and_then(|()| upstream::spawn(&shared, upstream::Role::Open, open))
                        .and_then(|()| upstream::spawn(&shared, upstream::Role::Unlisted, unlisted))
                        .and_then(|()| {
                            recorder::spawn(&recorders, &mark, services, [unix, abstract_listener])
                        });
                    if started.is_ok() {
                        // `Canaries::drop` closes the sender, which ends this.
                        let _ = ended.await;
                    }
                });
            })
            .io_context(|| STARTING)?;
        Ok(Self {
            facts,
            credential,
            records,
            ports,
            services: addresses,
            ca_certificate: certificates.authority,
            end: Some(end),
            thread: Some(thread),
        })
    }

    /// Where the hosts listen, for `egress.resolve`.
    #[must_use]
    pub fn ports(&self) -> HostPorts {
        self.ports
    }

    /// The services of the host: TCP and UDP on each address, loopback first.
    #[must_use]
    pub fn services(&self) -> &[SocketAddr] {
        &self.services
    }

    /// The certificate of the authority that vouches for the hosts, PEM, for `egress.extra_ca`.
    #[must_use]
    pub fn ca_certificate(&self) -> &str {
        &self.ca_certificate
    }

    /// The real credential of [`ALLOWED_HOST`].
    #[must_use]
    pub fn credential(&self) -> &str {
        &self.credential
    }

    /// The reply of a recorder, by which an attempt knows that it reached one.
    #[must_use]
    pub fn mark(&self) -> &str {
        &self.facts.mark
    }

    /// The context for the attempts.
    #[must_use]
    pub fn context(&self, input: ContextInput) -> Context {
        let facts = self.facts.clone();
        Context {
            proxy: input.proxy,
            ca_bundle: input.ca_bundle,
            mark: facts.mark,
            allowed_host: ALLOWED_HOST.to_owned(),
            open_host: OPEN_HOST.to_owned(),
            unlisted_host: UNLISTED_HOST.to_owned(),
            host_services: self.services.clone(),
            host_name: input.host_name,
            unix_socket: facts.unix_socket,
            abstract_socket: facts.abstract_socket,
            operator_home: input.operator_home,
            bot_bottle_home: input.bot_bottle_home,
            secret_file: input.secret_file,
            host_namespaces: namespaces(),
            operator_sockets: input.operator_sockets,
            planted: facts.planted,
            current: String::new(),
        }
    }

    /// Everything that reached a canary and should not have, so far.
    #[must_use]
    pub fn leaks(&self) -> Vec<Leak> {
        lock(&self.records.leaks).clone()
    }

    /// Allowed requests, so far.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.records.calls).clone()
    }
}

impl Drop for Canaries {
    fn drop(&mut self) {
        self.end.take();
        if let Some(thread) = self.thread.take() {
            // A panic of this thread has been printed, and the missing responses have failed the run.
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.facts.unix_socket);
    }
}

impl Records {
    pub(crate) fn leaked(&self, canary: impl Into<String>, bytes: &[u8]) {
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_LEAK_BYTES)]).into_owned();
        let attempt = text
            .split_once("probe:")
            .and_then(|(_, rest)| rest.split_once(';'))
            .map(|(attempt, _)| attempt.to_owned());
        let mut leaks = lock(&self.leaks);
        if leaks.len() < MAX_RECORDS {
            leaks.push(Leak { canary: canary.into(), attempt, text });
        }
    }

    pub(crate) fn called(&self, call: Call) {
        let mut calls = lock(&self.calls);
        if calls.len() < MAX_RECORDS {
            calls.push(call);
        }
    }
}

/// What `/proc/self/ns/*` links to for this process.
#[must_use]
pub fn namespaces() -> BTreeMap<String, String> {
    ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"]
        .into_iter()
        .filter_map(|kind| {
            let link = std::fs::read_link(format!("/proc/self/ns/{kind}")).ok()?;
            Some((kind.to_owned(), link.to_string_lossy().into_owned()))
        })
        .collect()
}

/// Names that no route allows, among them look-alikes of [`ALLOWED_HOST`]. `egress.resolve` should lead each
/// to [`HostPorts::unlisted`], so that only the policy keeps an attempt from them.
#[must_use]
pub fn unlisted_names() -> Vec<String> {
    let mut names = vec![
        UNLISTED_HOST.to_owned(),
        format!("evil{ALLOWED_HOST}"),
        format!("{ALLOWED_HOST}.{UNLISTED_HOST}"),
        format!("data.{ALLOWED_HOST}"),
    ];
    names.extend(ALLOWED_HOST.split_once('.').map(|(_, parent)| parent.to_owned()));
    names
}

/// `LENGTH` lower-case letters and digits from `getrandom(2)`.
fn random_letters<const LENGTH: usize>() -> Result<String, CanaryError> {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut bytes = [0; LENGTH];
    // Requests of at most 256 bytes are never cut short (getrandom(2)).
    const { assert!(LENGTH <= 256) };
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .io_context(|| "no random numbers")?;
    Ok(bytes.map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()])).iter().collect())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic between two pushes leaves the list whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
