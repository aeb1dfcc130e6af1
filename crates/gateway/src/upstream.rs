//! Connections to upstreams: resolve, approve the addresses, dial, TLS, and a pool of what is kept.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bot_bottle_core::{
    decision::{DecidedBy, Reason},
    gateway_config::UpstreamConfig,
};
use http::{HeaderValue, Request, Response, Uri, Version, header};
use http_body::Body as _;
use http_body_util::Empty;
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1},
};
use thiserror::Error;
use tokio::{
    sync::{Notify, Semaphore},
    time::timeout,
};

mod body;
mod dial;
mod multiplexed;
mod pool;
mod proxy;
mod public_address;
mod reads;
mod resolve;
mod trust;

use body::Progress;
pub(crate) use body::{Body, RequestBody};
pub(crate) use multiplexed::Party;
use multiplexed::{Stream, Windows};
use pool::{Pool, PooledConnection};
pub(crate) use proxy::Proxy;
use proxy::ProxyError;
pub use proxy::ProxyLoginError;
pub use resolve::{Resolution, Resolve, ResolveError, SystemResolver};
pub use trust::ExtraCaError;
use trust::Trust;

use crate::{
    host_port::Origin,
    limits::{MAX_INFORMATIONAL, MAX_UPSTREAM_CONNECTIONS, UPSTREAM_HEADER_TIMEOUT},
};

/// Everything that leads to the upstreams of one bottle.
#[derive(Debug)]
pub(crate) struct Upstream {
    config: UpstreamConfig,
    proxy: Option<Proxy>,
    resolver: Box<dyn Resolve>,
    trust: Trust,
    pool: Arc<Pool>,
    windows: Windows,
    /// Permits for connections.
    connections: Arc<Semaphore>,
}

/// Which protocols are offered in the TLS handshake (ALPN, RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alpn {
    Any,
    Http1,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<RequestBody>),
    Http2(Stream),
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
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    #[error("TLS failed: {0}")]
    Tls(String),
    #[error("TLS to upstreams is not set up")]
    NoTrust,
    #[error("HTTP failed: {0}")]
    Protocol(hyper::Error),
    #[error("more than {MAX_INFORMATIONAL} informational responses")]
    TooManyInformational,
    #[error("more than {MAX_UPSTREAM_CONNECTIONS} connections to upstreams")]
    TooManyConnections,
    #[error("too slow")]
    Timeout,
}

impl Upstream {
    /// Has to be called inside a runtime.
    pub(crate) fn new(
        config: &UpstreamConfig,
        proxy: Option<Proxy>,
        resolver: Box<dyn Resolve>,
    ) -> Result<Self, ExtraCaError> {
        Ok(Self {
            config: config.clone(),
            proxy,
            resolver,
            trust: Trust::load(&config.extra_ca)?,
            pool: Pool::start(),
            windows: Windows::default(),
            connections: Arc::new(Semaphore::new(MAX_UPSTREAM_CONNECTIONS)),
        })
    }

    /// Sends a request, whose URI is absolute, on a kept connection or a new one, and waits for the head of
    /// the response.
    ///
    /// A kept connection may turn out to be closed. If nothing of the request was handed to it, which hyper
    /// tells by giving the request back, a new one is made. Otherwise the upstream may have acted on it: it
    /// is sent again, once, only where the upstream says that it has not, or where it has no body and may be
    /// repeated (RFC 9110 section 9.2.2).
    pub(crate) async fn send(
        &self,
        origin: Origin,
        alpn: Alpn,
        party: &Party,
        mut request: Request<RequestBody>,
    ) -> Result<Response<Body>, UpstreamError> {
        let origin = Arc::new(origin);
        let target = request.uri().clone();
        let progress = request.body().progress();
        let informational = Informational::count(&mut request);
        // A request without a body can be sent again where a connection turns out to be of no use.
        let copy = request.body().is_end_stream().then(|| request.headers().clone());
        let (method, extensions) = (request.method().clone(), request.extensions().clone());
        let (mut sender, mut is_kept) = self.connection(&origin, alpn, party).await?;
        let mut attempts_left = 1;
        loop {
            set_target(&mut request, &target, &sender);
            match send_once(&mut sender, request, &progress, &informational).await {
                Ok(response) => {
                    let connection = PooledConnection::new(Arc::clone(&self.pool), origin, sender);
                    return Ok(response.map(|incoming| Body::new(incoming, connection)));
                }
                Err(SendError::TooManyInformational) => return Err(UpstreamError::TooManyInformational),
                Err(SendError::Timeout) => return Err(UpstreamError::Timeout),
                Err(SendError::Unsent(unsent)) if attempts_left > 0 => {
                    attempts_left -= 1;
                    request = *unsent;
                    (sender, is_kept) = (self.dial(&origin, alpn, party).await?, false);
                }
                Err(SendError::Unsent(_)) => {
                    return Err(UpstreamError::Unreachable(io::ErrorKind::ConnectionAborted.into()));
                }
                Err(SendError::Failed(error))
                    if attempts_left > 0
                        && let Some(headers) = &copy
                        && (was_not_processed(&error)
                            || (is_kept && method.is_idempotent() && has_closed(&error))) =>
                {
                    attempts_left -= 1;
                    request = Request::new(RequestBody::new(Empty::new()));
                    *request.method_mut() = method.clone();
                    *request.headers_mut() = headers.clone();
                    *request.extensions_mut() = extensions.clone();
                    (sender, is_kept) = (self.dial(&origin, alpn, party).await?, false);
                }
                Err(SendError::Failed(error)) if is_timeout(&error) => return Err(UpstreamError::Timeout),
                Err(SendError::Failed(error)) => return Err(UpstreamError::Protocol(error)),
            }
        }
    }

    /// A connection for a request, and whether it is a kept one. Of requests that come at once and might share
    /// a connection, one makes it and the others wait for it.
    async fn connection(
        &self,
        origin: &Arc<Origin>,
        alpn: Alpn,
        party: &Party,
    ) -> Result<(Sender, bool), UpstreamError> {
        if let Some(kept) = self.pool.take(origin, alpn, party) {
            return Ok((kept, true));
        }
        let dialling = party.dialling();
        let mut gate = None;
        if origin.tls && alpn == Alpn::Any && !self.pool.prefers_http1(origin) {
            gate = Some(dialling.gate.lock().await);
            if let Some(kept) = self.pool.take(origin, alpn, party) {
                return Ok((kept, true));
            }
            if dialling.has_failed.load(Ordering::Relaxed) || self.pool.prefers_http1(origin) {
                gate = None;
            }
        }
        let dialled = self.dial(origin, alpn, party).await;
        dialling.has_failed.store(dialled.is_err(), Ordering::Relaxed);
        drop(gate);
        Ok((dialled?, false))
    }

    async fn dial(&self, origin: &Arc<Origin>, alpn: Alpn, party: &Party) -> Result<Sender, UpstreamError> {
        // Boxed: most requests dial nothing, and have no memory for it.
        let sender = Box::pin(dial::dial(self, origin, alpn, party)).await?;
        match &sender {
            Sender::Http2(stream) => self.pool.share(origin, stream),
            Sender::Http1(_) if origin.tls && alpn == Alpn::Any => self.pool.note_http1(origin),
            Sender::Http1(_) => {}
        }
        Ok(sender)
    }
}

enum SendError {
    Unsent(Box<Request<RequestBody>>),
    Failed(hyper::Error),
    TooManyInformational,
    Timeout,
}

/// Counts the informational responses (RFC 9110 section 15.2) to a request, so that an upstream cannot send
/// them without end.
#[derive(Debug, Clone, Default)]
struct Informational {
    count: Arc<AtomicUsize>,
    too_many: Arc<Notify>,
}

impl Informational {
    fn count<B>(request: &mut Request<B>) -> Self {
        let informational = Self::default();
        let counted = informational.clone();
        hyper::ext::on_informational(request, move |_| {
            if counted.count.fetch_add(1, Ordering::Relaxed) == MAX_INFORMATIONAL {
                counted.too_many.notify_one();
            }
        });
        informational
    }
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
    progress: &Progress,
    informational: &Informational,
) -> Result<Response<Incoming>, SendError> {
    let response = async {
        match sender {
            Sender::Http1(sender) => sender.try_send_request(request).await,
            Sender::Http2(stream) => stream.sender.try_send_request(request).await,
        }
    };
    let mut response = std::pin::pin!(response);
    let mut frames_seen = 0;
    loop {
        let answered = tokio::select! {
            answered = timeout(UPSTREAM_HEADER_TIMEOUT, &mut response) => answered,
            () = informational.too_many.notified() => return Err(SendError::TooManyInformational),
        };
        match answered {
            Ok(response) => return response.map_err(SendError::from),
            Err(_) => {
                // An upload may take as long as it moves.
                let frames = progress.load(Ordering::Relaxed);
                if frames == frames_seen {
                    return Err(SendError::Timeout);
                }
                frames_seen = frames;
            }
        }
    }
}

/// Writes the target in the form of the connection's protocol: origin form and `Host` (RFC 9112 section
/// 3.2.1), or `:scheme` and `:authority` (RFC 9113 section 8.3.1).
fn set_target(request: &mut Request<RequestBody>, target: &Uri, sender: &Sender) {
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
    /// Why, as clients and receipts are told. The details go to the log: they may name hosts inside the
    /// operator's network.
    pub(crate) fn reason(&self) -> (Reason, DecidedBy) {
        match self {
            Self::Unresolvable => (Reason::NameUnresolvable, DecidedBy::Upstream),
            Self::NotPublic => (Reason::AddressNotPublic, DecidedBy::Address),
            Self::Unreachable(_) => (Reason::UpstreamUnreachable, DecidedBy::Upstream),
            Self::Proxy(ProxyError::Refused(_)) => (Reason::ProxyRefused, DecidedBy::Upstream),
            Self::Proxy(_) => (Reason::ProxyFailed, DecidedBy::Upstream),
            Self::Tls(_) => (Reason::UpstreamTls, DecidedBy::Upstream),
            Self::NoTrust => (Reason::Internal, DecidedBy::Upstream),
            Self::Protocol(error) if error.is_parse_too_large() => (Reason::LimitReached, DecidedBy::Limits),
            Self::Protocol(_) | Self::TooManyInformational => (Reason::UpstreamProtocol, DecidedBy::Upstream),
            Self::TooManyConnections => (Reason::LimitReached, DecidedBy::Limits),
            Self::Timeout => (Reason::Timeout, DecidedBy::Upstream),
        }
    }
}

/// Whether the upstream said that it did nothing about the request: a stream that it refused, or one behind
/// the last that it goes on with as it shuts down (RFC 9113 sections 6.8 and 8.7).
fn was_not_processed(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|cause| {
        let reason = cause.reason();
        reason == Some(h2::Reason::REFUSED_STREAM)
            || (cause.is_go_away() && cause.is_remote() && reason == Some(h2::Reason::NO_ERROR))
    })
}

/// Whether the connection ended without a response: an upstream may close a kept connection as a request
/// arrives.
fn has_closed(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
    error.is_incomplete_message()
        || error.is_closed()
        || error.is_canceled()
        || cause.is_some_and(|cause| {
            matches!(cause.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
        })
}

/// Whether the connection failed because nothing passed on it for too long.
pub(crate) fn is_timeout(error: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            return true;
        }
        source = cause.source();
    }
    false
}
