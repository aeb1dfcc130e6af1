//! The outside of a run: hosts, services and sockets that record everything that reaches them.
//!
//! It runs in the process that starts the bottle, on threads of its own, and ends when it is dropped.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use serde::Serialize;
use thiserror::Error;
use tokio::sync::oneshot;

use crate::scene::{PlantedSecret, Scene};

mod certificate;
mod listen;
mod recorder;
mod upstream;

use listen::{listen_abstract, listen_both, listen_tcp, listen_unix, port};

/// What the stage's hosts say in every answer to a request that is allowed, as the name of a header.
pub const ALLOWED_HEADER: &str = "x-stage-allowed";

/// How many sightings and calls are kept. What comes after is dropped; by then there is enough to see.
pub const MAX_RECORDS: usize = 10_000;

/// How much of one sighting is kept, in bytes.
pub const MAX_SIGHTING_BYTES: usize = 4096;

/// How many characters of the credential the inside is told: a vendor's prefix, which is no secret.
const TOLD_OF_CREDENTIAL: usize = 5;

/// What a stage is made of. Names and secrets are the caller's, who drew them.
#[derive(Debug, Clone)]
pub struct StageOptions {
    /// A host with a credential.
    pub allowed_host: String,
    /// A host without one.
    pub open_host: String,
    /// A host that no route will name.
    pub unlisted_host: String,
    /// The real credential of the allowed host.
    pub credential: String,
    /// What is said to whoever should not be there; random.
    pub mark: String,
    /// Where the unix socket is made.
    pub unix_socket: PathBuf,
    /// The name of the abstract unix socket; unique.
    pub abstract_socket: String,
    /// Addresses of the host besides its loopback on which services listen too.
    pub host_addresses: Vec<IpAddr>,
}

/// Why there is no stage.
#[derive(Debug, Error)]
pub enum StageError {
    /// A certificate could not be made.
    #[error("no certificate for the embedded hosts: {0}")]
    Certificate(#[from] rcgen::Error),
    /// TLS could not be set up.
    #[error("no TLS for the embedded hosts: {0}")]
    Tls(#[from] rustls::Error),
    /// Something could not be listened on.
    #[error("cannot listen on {place}: {source}")]
    Listen {
        /// Address or path.
        place: String,
        /// Why.
        source: io::Error,
    },
    /// A thread or its runtime could not be started.
    #[error("the embedded hosts cannot be started: {0}")]
    Start(io::Error),
}

/// Something that should not have happened, as the outside saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sighting {
    /// Which recorder.
    pub place: String,
    /// Whose it is, if it said so.
    pub attempt: Option<String>,
    /// What came, cut to [`MAX_SIGHTING_BYTES`].
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

/// Where the stage's hosts listen on the host's loopback.
#[derive(Debug, Clone, Copy)]
pub struct HostPorts {
    /// The host with a credential.
    pub allowed: u16,
    /// The host without one, for TLS and plain HTTP.
    pub open: u16,
    /// Every host that no route names.
    pub unlisted: u16,
}

/// Places that a scene tells of and that are not the stage's own.
#[derive(Debug, Clone)]
pub struct Places {
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

/// A running stage.
#[derive(Debug)]
pub struct Stage {
    facts: Facts,
    records: Arc<Records>,
    ports: HostPorts,
    services: Vec<SocketAddr>,
    ca_certificate: String,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What a scene tells of the stage.
#[derive(Debug, Clone)]
struct Facts {
    allowed_host: String,
    open_host: String,
    unlisted_host: String,
    mark: String,
    unix_socket: PathBuf,
    abstract_socket: String,
    planted: PlantedSecret,
}

/// What was recorded so far.
#[derive(Debug, Default)]
pub(crate) struct Records {
    sightings: Mutex<Vec<Sighting>>,
    calls: Mutex<Vec<Call>>,
}

impl Stage {
    /// Starts every host and recorder. When this returns all of them listen.
    ///
    /// # Errors
    /// See [`StageError`].
    pub fn start(options: StageOptions) -> Result<Self, StageError> {
        let mut names = vec![options.allowed_host.clone(), options.open_host.clone()];
        names.extend(unlisted_names(&options.allowed_host, &options.unlisted_host));
        let certificates = certificate::issue(&names)?;

        let listen = || listen_tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let [allowed, open, unlisted] = [listen()?, listen()?, listen()?];
        let ports = HostPorts { allowed: port(&allowed)?, open: port(&open)?, unlisted: port(&unlisted)? };

        let mut services = Vec::new();
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST)];
        for address in loopback.into_iter().chain(options.host_addresses.iter().copied()) {
            services.push(listen_both(address)?);
        }
        let addresses = services
            .iter()
            .map(|(tcp, _)| tcp.local_addr().map_err(StageError::Start))
            .collect::<Result<Vec<_>, _>>()?;
        let unix = listen_unix(&options.unix_socket)?;
        let hidden = listen_abstract(&options.abstract_socket)?;

        let records = Arc::new(Records::default());
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StageError::Start)?;
        let (end, ended) = oneshot::channel();
        let facts = Facts {
            allowed_host: options.allowed_host.clone(),
            open_host: options.open_host.clone(),
            unlisted_host: options.unlisted_host,
            mark: options.mark.clone(),
            unix_socket: options.unix_socket,
            abstract_socket: options.abstract_socket,
            planted: PlantedSecret::describe(&options.credential, TOLD_OF_CREDENTIAL),
        };
        let shared = upstream::Shared {
            records: Arc::clone(&records),
            tls: certificates.server,
            allowed_host: options.allowed_host,
            open_host: options.open_host,
            credential: options.credential,
            mark: options.mark.clone(),
        };
        let recorders = Arc::clone(&records);
        let thread = std::thread::Builder::new()
            .name("stage".into())
            .spawn(move || {
                runtime.block_on(async move {
                    let shared = Arc::new(shared);
                    let started = upstream::spawn(&shared, upstream::Role::Allowed, allowed)
                        .and_then(|()| upstream::spawn(&shared, upstream::Role::Open, open))
                        .and_then(|()| upstream::spawn(&shared, upstream::Role::Unlisted, unlisted))
                        .and_then(|()| recorder::spawn(&recorders, &options.mark, services, [unix, hidden]));
                    if started.is_ok() {
                        // Ends when the stage is dropped, which sends or closes.
                        let _ = ended.await;
                    }
                });
            })
            .map_err(StageError::Start)?;
        Ok(Self {
            facts,
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

    /// The host with a credential.
    #[must_use]
    pub fn allowed_host(&self) -> &str {
        &self.facts.allowed_host
    }

    /// The host without one.
    #[must_use]
    pub fn open_host(&self) -> &str {
        &self.facts.open_host
    }

    /// What is said to whoever should not be there.
    #[must_use]
    pub fn mark(&self) -> &str {
        &self.facts.mark
    }

    /// Every name that no route is for and that `egress.resolve` should lead to [`HostPorts::unlisted`], so
    /// that nothing but policy keeps it out.
    #[must_use]
    pub fn unlisted_names(&self) -> Vec<String> {
        unlisted_names(&self.facts.allowed_host, &self.facts.unlisted_host)
    }

    /// What the inside is told.
    #[must_use]
    pub fn scene(&self, places: Places) -> Scene {
        let facts = self.facts.clone();
        Scene {
            proxy: places.proxy,
            ca_bundle: places.ca_bundle,
            mark: facts.mark,
            allowed_host: facts.allowed_host,
            open_host: facts.open_host,
            unlisted_host: facts.unlisted_host,
            host_services: self.services.clone(),
            host_name: places.host_name,
            unix_socket: facts.unix_socket,
            abstract_socket: facts.abstract_socket,
            operator_home: places.operator_home,
            bot_bottle_home: places.bot_bottle_home,
            secret_file: places.secret_file,
            host_namespaces: namespaces(),
            operator_sockets: places.operator_sockets,
            planted: facts.planted,
            current: String::new(),
        }
    }

    /// What should not have happened, so far.
    #[must_use]
    pub fn sightings(&self) -> Vec<Sighting> {
        lock(&self.records.sightings).clone()
    }

    /// Requests that were allowed, so far.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.records.calls).clone()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.end.take();
        if let Some(thread) = self.thread.take() {
            // A panic of the stage has been printed by then, and the run has failed by what is missing.
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.facts.unix_socket);
    }
}

impl Records {
    pub(crate) fn saw(&self, place: impl Into<String>, bytes: &[u8]) {
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_SIGHTING_BYTES)]).into_owned();
        let attempt = text
            .split_once("probe:")
            .and_then(|(_, rest)| rest.split_once(';'))
            .map(|(attempt, _)| attempt.to_owned());
        let mut sightings = lock(&self.sightings);
        if sightings.len() < MAX_RECORDS {
            sightings.push(Sighting { place: place.into(), attempt, text });
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

fn unlisted_names(allowed: &str, unlisted: &str) -> Vec<String> {
    let mut names = vec![
        unlisted.to_owned(),
        format!("evil{allowed}"),
        format!("{allowed}.{unlisted}"),
        format!("data.{allowed}"),
    ];
    names.extend(allowed.split_once('.').map(|(_, parent)| parent.to_owned()));
    names
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A list that a panicking thread was pushing to is still a list.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
