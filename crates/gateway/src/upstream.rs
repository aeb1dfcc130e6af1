//! The way out: names, addresses, connections.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, atomic::Ordering},
};

use bot_bottle_core::{
    decision::{Reason, Source},
    gateway_config::{FixedAddress, UpstreamConfig},
    host::HostName,
};
use http::{HeaderValue, Request, Response, Uri, Version, header};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
};
use thiserror::Error;
use tokio::time::timeout;

mod address;
mod connect;
mod pool;
mod resolve;
mod trust;

pub(crate) use pool::Lease;
use pool::Pool;
pub use resolve::{Resolution, Resolve, ResolveError, SystemResolver};
pub use trust::ExtraCaError;
use trust::Trust;

use crate::{
    body::{Progress, RequestBody},
    limits::UPSTREAM_HEADER_TIMEOUT,
};

/// Everything that leads to the upstreams of one bottle.
#[derive(Debug)]
pub(crate) struct Upstream {
    fixed: BTreeMap<HostName, FixedAddress>,
    resolver: Box<dyn Resolve>,
    trust: Trust,
    pool: Arc<Pool>,
}

/// What one connection can serve.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) host: HostName,
    pub(crate) port: u16,
    pub(crate) encrypted: bool,
}

/// Which protocols will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    Any,
    Http1,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<RequestBody>),
    Http2(http2::SendRequest<RequestBody>),
}

/// A connection that was found or made for one request.
#[derive(Debug)]
pub(crate) struct Connection {
    key: Arc<Key>,
    sender: Sender,
}

/// No response.
#[derive(Debug, Error)]
pub(crate) enum UpstreamError {
    #[error("the name does not resolve")]
    Unresolvable,
    #[error("the name leads to an address that is not public")]
    NotPublic,
    #[error("no connection: {0}")]
    Unreachable(io::Error),
    #[error("TLS failed: {0}")]
    Tls(String),
    #[error("TLS to upstreams is not set up")]
    NoTrust,
    #[error("HTTP failed: {0}")]
    Protocol(hyper::Error),
    #[error("too slow")]
    Timeout,
}

impl Upstream {
    /// Has to be called inside a runtime.
    pub(crate) fn new(config: &UpstreamConfig, resolver: Box<dyn Resolve>) -> Result<Self, ExtraCaError> {
        Ok(Self {
            fixed: config.resolve.clone(),
            resolver,
            trust: Trust::load(&config.extra_ca)?,
            pool: Pool::start(),
        })
    }

    /// A connection for a request, kept or new. Nothing of the request has been sent on it.
    pub(crate) async fn connection(&self, key: Key, offer: Offer) -> Result<Connection, UpstreamError> {
        match self.pool.take(&key, offer) {
            Some(sender) => Ok(Connection { key: Arc::new(key), sender }),
            None => self.dial(Arc::new(key), offer).await,
        }
    }

    async fn dial(&self, key: Arc<Key>, offer: Offer) -> Result<Connection, UpstreamError> {
        let sender = connect::dial(self, &key, offer).await?;
        if let Sender::Http2(sender) = &sender {
            self.pool.share(&key, sender);
        }
        Ok(Connection { key, sender })
    }

    /// Sends a request, whose URI is absolute, and waits for the head of the response.
    ///
    /// A kept connection may turn out to be closed. If nothing of the request was handed to it, which hyper
    /// knows by giving the request back, another one is made. Otherwise the upstream may have acted on it, and it is not sent twice.
    pub(crate) async fn send(
        &self,
        connection: Connection,
        mut request: Request<RequestBody>,
        offer: Offer,
    ) -> Result<(Response<Incoming>, Lease), UpstreamError> {
        let target = request.uri().clone();
        let progress = request.body().progress();
        let Connection { key, mut sender } = connection;
        let mut attempts_left = 1;
        loop {
            shape(&mut request, &target, &sender);
            let sent = send_once(&mut sender, request, progress.as_ref()).await;
            match sent {
                Ok(response) => return Ok((response, Lease::new(Arc::clone(&self.pool), key, sender))),
                Err(SendError::Timeout) => return Err(UpstreamError::Timeout),
                Err(SendError::Unsent(unsent)) if attempts_left > 0 => {
                    attempts_left -= 1;
                    request = *unsent;
                    sender = self.dial(Arc::clone(&key), offer).await?.sender;
                }
                Err(SendError::Unsent(_)) => {
                    return Err(UpstreamError::Unreachable(io::ErrorKind::ConnectionAborted.into()));
                }
                Err(SendError::Failed(error)) if is_timeout(&error) => return Err(UpstreamError::Timeout),
                Err(SendError::Failed(error)) => return Err(UpstreamError::Protocol(error)),
            }
        }
    }
}

enum SendError {
    Unsent(Box<Request<RequestBody>>),
    Failed(hyper::Error),
    Timeout,
}

impl From<TrySendError<Request<RequestBody>>> for SendError {
    fn from(mut error: TrySendError<Request<RequestBody>>) -> Self {
        match error.take_message() {
            Some(request) => Self::Unsent(Box::new(request)),
            None => Self::Failed(error.into_error()),
        }
    }
}

async fn send_once(
    sender: &mut Sender,
    request: Request<RequestBody>,
    progress: Option<&Progress>,
) -> Result<Response<Incoming>, SendError> {
    let response = async {
        match sender {
            Sender::Http1(sender) => sender.try_send_request(request).await,
            Sender::Http2(sender) => sender.try_send_request(request).await,
        }
    };
    let mut response = std::pin::pin!(response);
    let mut frames_seen = 0;
    loop {
        match timeout(UPSTREAM_HEADER_TIMEOUT, &mut response).await {
            Ok(response) => return response.map_err(SendError::from),
            Err(_) => {
                // An upload may take as long as it moves.
                let frames = progress.map_or(0, |progress| progress.load(Ordering::Relaxed));
                if frames == frames_seen {
                    return Err(SendError::Timeout);
                }
                frames_seen = frames;
            }
        }
    }
}

/// Writes the destination the way that the connection's protocol wants it.
fn shape(request: &mut Request<RequestBody>, target: &Uri, sender: &Sender) {
    match sender {
        Sender::Http1(_) => {
            *request.version_mut() = Version::HTTP_11;
            if let Some(host) = target.authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok())
            {
                request.headers_mut().insert(header::HOST, host);
            }
            *request.uri_mut() = target.path_and_query().cloned().map(Uri::from).unwrap_or_default();
            if request.headers().contains_key(header::TE) {
                // RFC 9110 section 10.1.4: TE is for one hop, and has to be named as such.
                request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("te"));
            }
        }
        Sender::Http2(_) => {
            *request.version_mut() = Version::HTTP_2;
            request.headers_mut().remove(header::HOST);
            request.headers_mut().remove(header::CONNECTION);
            *request.uri_mut() = target.clone();
        }
    }
}

impl UpstreamError {
    /// Why, as clients and receipts are told. The details go to the log: they may name what is inside the operator's network.
    pub(crate) fn reason(&self) -> (Reason, Source) {
        match self {
            Self::Unresolvable => (Reason::NameUnresolvable, Source::Upstream),
            Self::NotPublic => (Reason::AddressNotPublic, Source::Address),
            Self::Unreachable(_) => (Reason::UpstreamUnreachable, Source::Upstream),
            Self::Tls(_) => (Reason::UpstreamTls, Source::Upstream),
            Self::NoTrust => (Reason::Internal, Source::Upstream),
            Self::Protocol(_) => (Reason::UpstreamProtocol, Source::Upstream),
            Self::Timeout => (Reason::Timeout, Source::Upstream),
        }
    }
}

/// Whether the connection failed because nothing passed on it for too long.
fn is_timeout(error: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            return true;
        }
        source = cause.source();
    }
    false
}
