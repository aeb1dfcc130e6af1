//! A real server for several names on one loopback address, which records every request.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use rustls::ServerConfig;
use tokio::{net::TcpListener, runtime::Runtime};

use crate::Authority;

mod body;
mod serve;
mod websocket;

pub use websocket::WebSocketSession;

/// Serves HTTPS (HTTP/2 and HTTP/1.1 by ALPN) and plain HTTP on one port of 127.0.0.1, on threads of its own,
/// so that tests that are not asynchronous can use it. Ends when it is dropped.
pub struct FakeUpstream {
    address: SocketAddr,
    certificate: String,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

/// The configuration of a [`FakeUpstream`].
#[derive(Default)]
pub struct FakeUpstreamBuilder {
    hosts: BTreeMap<String, Arc<dyn Handler>>,
    http1_only: bool,
}

/// Answers the requests for one name.
pub trait Handler: Send + Sync + 'static {
    /// The answer. The request is recorded whatever it is.
    fn answer(&self, request: &SeenRequest) -> Answer;
}

impl<F: Fn(&SeenRequest) -> Answer + Send + Sync + 'static> Handler for F {
    fn answer(&self, request: &SeenRequest) -> Answer {
        self(request)
    }
}

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct SeenRequest {
    /// `Host` or `:authority`, without the port, in lower case.
    pub host: String,
    /// As sent.
    pub method: String,
    /// Without the query.
    pub path: String,
    /// Without the `?`.
    pub query: Option<String>,
    /// As sent; names in lower case.
    pub headers: HeaderMap,
    /// With any `Content-Encoding` undone, cut at [`MAX_RECORDED_BODY`].
    pub body: Bytes,
    /// Bytes of the body as they arrived.
    pub body_length: u64,
    /// The server name of the TLS handshake; `None` for plain HTTP and for clients that send none.
    pub server_name: Option<String>,
    /// Whether it came through TLS.
    pub encrypted: bool,
    /// The version of HTTP.
    pub version: http::Version,
}

/// One message that arrived in a WebSocket.
#[derive(Debug, Clone)]
pub struct SeenMessage {
    /// Of the request that opened the WebSocket.
    pub host: String,
    /// Of the request that opened the WebSocket.
    pub path: String,
    /// The message.
    pub text: String,
}

/// The most bytes of a request's body that are kept; bytes beyond are only counted.
pub const MAX_RECORDED_BODY: usize = 64 << 20;

/// A handler's response.
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// Headers besides those that HTTP itself needs.
    pub headers: HeaderMap,
    /// The body.
    pub body: AnswerBody,
}

/// The body of an answer.
pub enum AnswerBody {
    /// At once, with its length.
    Whole(Bytes),
    /// One part after another, each flushed.
    Parts {
        /// The parts.
        parts: Vec<Bytes>,
        /// Waited before each but the first.
        pause: Duration,
    },
    /// So many bytes, made as they are sent.
    Filler(u64),
    /// These bytes, and then the connection breaks although more was promised.
    BrokenOff {
        /// What is sent.
        sent: Bytes,
        /// `Content-Length`.
        promised: u64,
    },
    /// The request becomes a WebSocket; the status is 101 whatever the answer says.
    WebSocket(Box<dyn WebSocketSession>),
}

struct Shared {
    hosts: BTreeMap<String, Arc<dyn Handler>>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    requests: Vec<SeenRequest>,
    messages: Vec<SeenMessage>,
    connections: usize,
}

impl FakeUpstream {
    /// Begins the configuration.
    #[must_use]
    pub fn builder() -> FakeUpstreamBuilder {
        FakeUpstreamBuilder::default()
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate of the authority that clients have to trust, PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The names that it serves.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.shared.hosts.keys().map(String::as_str)
    }

    /// Every request so far, in the order in which their bodies were complete.
    #[must_use]
    pub fn requests(&self) -> Vec<SeenRequest> {
        self.shared.seen().requests.clone()
    }

    /// Every WebSocket message so far.
    #[must_use]
    pub fn messages(&self) -> Vec<SeenMessage> {
        self.shared.seen().messages.clone()
    }

    /// How many connections were accepted so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.seen().connections
    }
}

impl Drop for FakeUpstream {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl FakeUpstreamBuilder {
    /// Serves this name.
    #[must_use]
    pub fn host(mut self, name: &str, handler: impl Handler) -> Self {
        self.hosts.insert(name.to_owned(), Arc::new(handler));
        self
    }

    /// Offers no HTTP/2.
    #[must_use]
    pub fn http1_only(mut self) -> Self {
        self.http1_only = true;
        self
    }

    /// Starts the server. Names that are not served are answered with 421 (RFC 9110 section 15.5.20).
    ///
    /// # Errors
    /// When no port can be had, or a name cannot stand in a certificate.
    pub fn start(self) -> Result<FakeUpstream> {
        let authority = Authority::new()?;
        let mut names: Vec<String> = self.hosts.keys().cloned().collect();
        names.extend(["localhost".to_owned(), "127.0.0.1".to_owned()]);
        let (chain, key) = authority.issue(&names)?;
        let mut tls =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_no_client_auth()
                .with_single_cert(chain, key)?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        if self.http1_only {
            tls.alpn_protocols.remove(0);
        }

        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("fake-upstream")
            .enable_all()
            .build()?;
        let listener =
            runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).context("no port of 127.0.0.1 is free")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { hosts: self.hosts, seen: Mutex::default() });
        runtime.spawn(serve::accept(listener, Arc::new(tls), Arc::clone(&shared)));
        Ok(FakeUpstream {
            address,
            certificate: authority.certificate().to_owned(),
            shared,
            runtime: Some(runtime),
        })
    }
}

impl Shared {
    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        // A panic in another test thread must not hide the recorded requests.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SeenRequest {
    /// The header's value, if it is there once and is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as JSON; null where it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The value of this field of the query, not decoded.
    #[must_use]
    pub fn query_value(&self, name: &str) -> Option<&str> {
        self.query.as_deref()?.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }
}

impl Answer {
    /// An answer with a body of this type.
    #[must_use]
    pub fn new(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self {
            status: StatusCode::from_u16(status).expect("a status has three digits"),
            headers: HeaderMap::new(),
            body: AnswerBody::Whole(body.into()),
        }
        .with("content-type", content_type)
    }

    /// A JSON answer.
    #[must_use]
    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::new(status, "application/json", body.to_string())
    }

    /// A stream of server-sent events, each a type and its data, a moment apart.
    #[must_use]
    pub fn events(events: &[serde_json::Value], pause: Duration) -> Self {
        let parts = events
            .iter()
            .map(|data| {
                let kind = data["type"].as_str().unwrap_or("message");
                Bytes::from(format!("event: {kind}\ndata: {data}\n\n"))
            })
            .collect();
        let mut answer =
            Self::new(200, "text/event-stream; charset=utf-8", "").with("cache-control", "no-cache");
        answer.body = AnswerBody::Parts { parts, pause };
        answer
    }

    /// A WebSocket.
    #[must_use]
    pub fn web_socket(session: impl WebSocketSession + 'static) -> Self {
        Self {
            status: StatusCode::SWITCHING_PROTOCOLS,
            headers: HeaderMap::new(),
            body: AnswerBody::WebSocket(Box::new(session)),
        }
    }

    /// The same answer with one header more.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("a header's value is printable");
        self.headers.insert(HeaderName::from_static(name), value);
        self
    }
}
