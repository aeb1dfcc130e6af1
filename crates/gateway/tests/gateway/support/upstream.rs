//! An HTTPS server that tells what it saw.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Version, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ServerConfig, crypto::aws_lc_rs};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::{Notify, mpsc},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::client::PATIENCE;

/// What the upstream saw of one request.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) uri: String,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body_bytes: usize,
    /// Of the body's bytes in their order.
    pub(crate) body_sum: u64,
    /// Whether the body came to its end.
    pub(crate) is_whole: bool,
}

/// What tells bodies apart.
pub(crate) fn sum(before: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(before, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)))
}

/// A running server. Plain HTTP is spoken too, if the first byte is not TLS.
pub(crate) struct TestUpstream {
    pub(crate) address: SocketAddr,
    pub(crate) ca_pem: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    open: AtomicUsize,
    produced: Arc<AtomicUsize>,
    go_on: Notify,
    abandoned: Notify,
    /// The one value of `Authorization` that is not answered 401.
    accepted: Mutex<Option<String>>,
}

/// Which protocols TLS offers.
pub(crate) const HTTP1: &[&[u8]] = &[b"http/1.1"];
pub(crate) const HTTP2: &[&[u8]] = &[b"h2", b"http/1.1"];

type AnyBody = BoxBody<Bytes, Infallible>;

impl TestUpstream {
    pub(crate) async fn start(alpn: &[&[u8]]) -> Self {
        let (config, ca_pem) = certified(&["api.test", "open.test", "other.test"], alpn);
        Self::start_with(config, ca_pem).await
    }

    /// With a certificate for other names.
    pub(crate) async fn start_as(names: &[&str]) -> Self {
        let (config, ca_pem) = certified(names, HTTP1);
        Self::start_with(config, ca_pem).await
    }

    async fn start_with(config: ServerConfig, ca_pem: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State::default());
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tokio::spawn({
            let state = Arc::clone(&state);
            async move {
                loop {
                    let (stream, _) = listener.accept().await.expect("a connection");
                    stream.set_nodelay(true).expect("nodelay");
                    state.connections.fetch_add(1, Ordering::SeqCst);
                    let (state, acceptor) = (Arc::clone(&state), acceptor.clone());
                    tokio::spawn(async move {
                        let _open = Open::new(&state);
                        let mut first = [0];
                        if stream.peek(&mut first).await.unwrap_or(0) == 0 {
                            return;
                        }
                        let service = service_fn(move |request| serve(Arc::clone(&state), request));
                        let mut builder = auto::Builder::new(TokioExecutor::new());
                        builder.http1().preserve_header_case(true).max_headers(1000);
                        if first == [0x16] {
                            let Ok(stream) = acceptor.accept(stream).await else { return };
                            let _ =
                                builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
                        } else {
                            let _ =
                                builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
                        }
                    });
                }
            }
        });
        Self { address, ca_pem, state }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().expect("not poisoned").clone()
    }

    /// Answers every request 401 from now on that does not have this value of `Authorization`.
    pub(crate) fn accept_only(&self, authorization: &str) {
        *self.state.accepted.lock().expect("not poisoned") = Some(authorization.to_owned());
    }

    /// Connections so far, of whatever kind.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Connections that are open now.
    pub(crate) fn open_connections(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }

    /// Bytes of large bodies that were asked for.
    pub(crate) fn produced(&self) -> usize {
        self.state.produced.load(Ordering::SeqCst)
    }

    /// Lets a response that waits go on.
    pub(crate) fn go_on(&self) {
        self.state.go_on.notify_one();
    }

    /// Waits until a response is given up that waits to go on. Each such response is told once.
    pub(crate) async fn abandoned(&self) {
        self.state.abandoned.notified().await;
    }
}

struct Open(Arc<State>);

impl Open {
    fn new(state: &Arc<State>) -> Self {
        state.open.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(state))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

pub(crate) fn certified(names: &[&str], alpn: &[&[u8]]) -> (ServerConfig, String) {
    let ca_key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).expect("a CA");
    let issuer = Issuer::new(params, ca_key);
    let key = KeyPair::generate().expect("a key");
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let leaf = CertificateParams::new(names).expect("names").signed_by(&key, &issuer).expect("a certificate");
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], der)
        .expect("a configuration");
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    (config, ca.pem())
}

async fn serve(state: Arc<State>, mut request: Request<Incoming>) -> Result<Response<AnyBody>, Infallible> {
    let path = request.uri().path().to_owned();
    let upgrade = request.headers().get(header::UPGRADE).is_some().then(|| hyper::upgrade::on(&mut request));
    let (parts, mut body) = request.into_parts();
    let (mut body_bytes, mut body_sum) = (0, 0);
    let accepted = state.accepted.lock().expect("not poisoned").clone();
    let (mut trailers, mut is_whole) = (None, true);
    if path != "/early" {
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                is_whole = false;
                break;
            };
            match frame.into_data() {
                Ok(data) => {
                    body_bytes += data.len();
                    if accepted.is_some() {
                        body_sum = sum(body_sum, &data);
                    }
                }
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
    }
    state.seen.lock().expect("not poisoned").push(Seen {
        uri: parts.uri.to_string(),
        version: parts.version,
        headers: parts.headers.clone(),
        body_bytes,
        body_sum,
        is_whole,
    });
    let given = parts.headers.get(header::AUTHORIZATION).map(http::HeaderValue::as_bytes);
    if accepted.is_some_and(|accepted| given != Some(accepted.as_bytes())) {
        let size = parts.uri.query().and_then(|size| size.parse().ok());
        let mut response = size.map_or_else(|| text("who are you?".into()), |size| large(size, &state));
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        response.headers_mut().insert(header::WWW_AUTHENTICATE, "Bearer".parse().expect("a value"));
        return Ok(response);
    }
    if parts.method == http::Method::HEAD {
        return Ok(Response::new(Empty::new().boxed()));
    }
    Ok(match path.as_str() {
        "/sse" => sse(state),
        "/events" => events(),
        "/trailers" => with_trailers(),
        "/received-trailers" => text(format!("{trailers:?}")),
        "/large" => large(parts.uri.query().and_then(|size| size.parse().ok()).unwrap_or(0), &state),
        "/slow" => {
            state.go_on.notified().await;
            text("at last".into())
        }
        "/ws" => web_socket(&parts.headers, upgrade),
        "/switch-unasked" => {
            let mut response = text(String::new());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response
        }
        "/hop" => {
            let mut response = text("hop".into());
            let headers = response.headers_mut();
            headers.insert("keep-alive", "timeout=5".parse().expect("a value"));
            headers.insert("x-end-to-end", "yes".parse().expect("a value"));
            headers.append("set-cookie", "a=1".parse().expect("a value"));
            headers.append("set-cookie", "b=2".parse().expect("a value"));
            headers.insert("content-encoding", "gzip".parse().expect("a value"));
            response
        }
        "/redirect" => {
            let mut response = text("elsewhere".into());
            *response.status_mut() = StatusCode::FOUND;
            let headers = response.headers_mut();
            headers.insert(header::LOCATION, "https://other.test/landed".parse().expect("a value"));
            // Nobody but the gateway may say this.
            headers.insert("bot-bottle-removed", "nothing-at-all".parse().expect("a value"));
            response
        }
        "/nothing" => {
            let mut response = text(String::new());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
        _ => text(format!("{} {} {body_bytes}", parts.method, parts.uri.path())),
    })
}

fn text(text: String) -> Response<AnyBody> {
    Response::new(Full::new(Bytes::from(text)).boxed())
}

/// One event at once, another when the test says so.
fn sse(state: Arc<State>) -> Response<AnyBody> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let _ = sender.send(Bytes::from_static(b"data: one\n\n")).await;
        tokio::select! {
            () = state.go_on.notified() => {
                let _ = sender.send(Bytes::from_static(b"data: two\n\n")).await;
            }
            // The server drops the body when its connection or stream has ended.
            () = sender.closed() => state.abandoned.notify_one(),
        }
    });
    let mut response = Response::new(BodyExt::boxed(ChannelBody(receiver)));
    response.headers_mut().insert(header::CONTENT_TYPE, "text/event-stream".parse().expect("a value"));
    response
}

/// Three events, and the end.
fn events() -> Response<AnyBody> {
    let events = ["data: one\n\n", "data: two\n\n", "data: three\n\n"];
    let frames = events.map(|event| Ok(Frame::data(Bytes::from_static(event.as_bytes()))));
    let mut response = Response::new(StreamBody::new(futures_util::stream::iter(frames)).boxed());
    response.headers_mut().insert(header::CONTENT_TYPE, "text/event-stream".parse().expect("a value"));
    response
}

/// A body of what is sent through a channel.
#[derive(Debug)]
pub(crate) struct ChannelBody(pub(crate) mpsc::Receiver<Bytes>);

impl Body for ChannelBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|data| data.map(|data| Ok(Frame::data(data))))
    }
}

fn with_trailers() -> Response<AnyBody> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().expect("a value"));
    // Of no known length, so that HTTP/1.1 sends it in chunks: without them there are no trailers.
    let frames = [Frame::data(Bytes::from_static(b"body")), Frame::trailers(trailers)].map(Ok);
    let mut response = Response::new(StreamBody::new(futures_util::stream::iter(frames)).boxed());
    response.headers_mut().insert(header::TRAILER, "grpc-status".parse().expect("a value"));
    response
}

fn large(size: usize, state: &State) -> Response<AnyBody> {
    const CHUNK: &[u8] = &[b'x'; 64 * 1024];
    struct Large(usize, Arc<AtomicUsize>);
    impl Body for Large {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let length = self.0.min(CHUNK.len());
            self.0 -= length;
            self.1.fetch_add(length, Ordering::SeqCst);
            Poll::Ready((length > 0).then(|| Ok(Frame::data(Bytes::from_static(&CHUNK[..length])))))
        }
    }
    Response::new(Large(size, Arc::clone(&state.produced)).boxed())
}

/// Echoes what comes, as bytes: the frames are the client's business.
fn web_socket(headers: &HeaderMap, upgrade: Option<hyper::upgrade::OnUpgrade>) -> Response<AnyBody> {
    use tokio_tungstenite::{
        WebSocketStream,
        tungstenite::{handshake::derive_accept_key, protocol::Role},
    };
    let Some(upgrade) = upgrade else { return text("not a WebSocket".into()) };
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map(|key| derive_accept_key(key.as_bytes()));
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        use futures_util::{SinkExt, StreamExt};
        while let Some(Ok(message)) = socket.next().await {
            if socket.send(message).await.is_err() {
                break;
            }
        }
    });
    let mut response = text(String::new());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, "websocket".parse().expect("a value"));
    headers.insert(header::CONNECTION, "Upgrade".parse().expect("a value"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, key.unwrap_or_default().parse().expect("a value"));
    response
}

/// A server of plain TCP that answers every connection with these bytes once it has read a request, closes
/// it, and then tells what it read.
pub(crate) async fn raw_upstream(answer: &'static [u8]) -> (SocketAddr, mpsc::UnboundedReceiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut read = Vec::new();
                let mut buffer = [0; 4096];
                loop {
                    // A request comes in pieces, however long they take. Something may come behind it that
                    // should not: until it is quiet.
                    let patience = if is_whole(&read) { QUIET } else { PATIENCE };
                    match timeout(patience, stream.read(&mut buffer)).await {
                        Ok(Ok(length)) if length > 0 => read.extend_from_slice(&buffer[..length]),
                        _ => break,
                    }
                }
                let _ = stream.write_all(answer).await;
                let _ = stream.shutdown().await;
                let _ = sender.send(read);
            });
        }
    });
    (address, receiver)
}

/// How long nothing comes from a client that has said everything.
const QUIET: Duration = Duration::from_millis(100);

/// Whether these bytes are a request with its body, or TLS, which is not understood here.
fn is_whole(read: &[u8]) -> bool {
    if read.first() == Some(&0x16) {
        return true;
    }
    let text = String::from_utf8_lossy(read).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    if head.contains("transfer-encoding: chunked") {
        body.ends_with("0\r\n\r\n")
    } else {
        body.len() >= length.unwrap_or(0)
    }
}
