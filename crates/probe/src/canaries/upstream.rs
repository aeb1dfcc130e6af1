//! The embedded hosts: one with a credential, one without, and those that no route names.

use std::{
    convert::Infallible,
    io,
    net::TcpListener,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full, Limited, combinators::BoxBody};
use hyper::body::{Body, Frame, Incoming};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rustls::ServerConfig;
use tokio::{net::TcpStream, sync::mpsc};
use tokio_rustls::TlsAcceptor;

use crate::benign_work::{EVENT_INTERVAL, STREAMED_EVENTS};

use super::{ALLOWED_HEADER, ALLOWED_HOST, Call, OPEN_HOST, Records};

/// Limits the wait for a connection's first byte, and its TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest body that is read, in bytes.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// Where clients send a key, and the gateway none of its own.
const API_KEY: &str = "x-api-key";

/// The first byte of a TLS record with a handshake (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// Which of the hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Allowed,
    Open,
    Unlisted,
}

pub(super) struct Shared {
    pub(super) records: Arc<Records>,
    pub(super) tls: Arc<ServerConfig>,
    pub(super) credential: String,
    pub(super) mark: String,
}

/// Starts a host on the current runtime.
pub(super) fn spawn(shared: &Arc<Shared>, role: Role, listener: TcpListener) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(detect_tls(Arc::clone(&shared), role, stream));
        }
    });
    Ok(())
}

async fn detect_tls(shared: Arc<Shared>, role: Role, stream: TcpStream) {
    let mut first = [0];
    let peeked = tokio::time::timeout(HANDSHAKE_TIMEOUT, stream.peek(&mut first)).await;
    match peeked {
        Ok(Ok(count)) if count > 0 && first[0] == TLS_HANDSHAKE => {
            let accept = TlsAcceptor::from(Arc::clone(&shared.tls)).accept(stream);
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, accept).await {
                Ok(Ok(tls)) => serve(shared, role, true, TokioIo::new(tls)).await,
                // At an allowed host the gateway itself may break off; nothing may connect to an unlisted
                // one.
                Ok(Err(_)) | Err(_) if role != Role::Unlisted => {}
                Ok(Err(_)) | Err(_) => {
                    shared.records.leaked("an unlisted host", b"a TLS handshake that broke off")
                }
            }
        }
        Ok(Ok(count)) if count > 0 => serve(shared, role, false, TokioIo::new(stream)).await,
        _ if role == Role::Unlisted => {
            shared.records.leaked("an unlisted host", b"a connection without a request")
        }
        _ => {}
    }
}

async fn serve<S>(shared: Arc<Shared>, role: Role, encrypted: bool, stream: S)
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
{
    let service = hyper::service::service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(&shared, role, encrypted, request).await) }
    });
    // Ignored: a broken or malformed request was not acted on, so it is no leak.
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await;
}

async fn answer(
    shared: &Shared,
    role: Role,
    encrypted: bool,
    request: Request<Incoming>,
) -> Response<BoxBody<Bytes, Infallible>> {
    let (method, path) = overridden(&request);
    let host = request
        .uri()
        .authority()
        .map(|authority| authority.to_string())
        .or_else(|| Some(request.headers().get(header::HOST)?.to_str().ok()?.to_owned()))
        .unwrap_or_default();
    let name = host.strip_suffix(":443").or_else(|| host.strip_suffix(":80")).unwrap_or(&host);
    let allowed = match role {
        Role::Allowed => {
            encrypted
                && name == ALLOWED_HOST
                && path.starts_with("/v1/")
                && matches!(method.as_str(), "GET" | "POST")
        }
        Role::Open => name == OPEN_HOST && !request.uri().to_string().to_lowercase().contains("git"),
        Role::Unlisted => false,
    };
    if !allowed {
        shared.records.leaked(format!("{role:?} host").to_lowercase(), head_of(&request).as_bytes());
        return respond(shared.mark.clone().into(), "text/plain", false);
    }
    if request.headers().contains_key(API_KEY) {
        shared.records.leaked("a credential of the agent's own", head_of(&request).as_bytes());
    }
    let expected = format!("Bearer {}", shared.credential);
    let authenticated =
        request.headers().get(header::AUTHORIZATION).is_some_and(|value| value == expected.as_str());
    shared.records.called(Call { host: name.to_owned(), method, path: path.clone(), authenticated });
    match path.as_str() {
        "/v1/whoami" => {
            let body = format!(r#"{{"account":"demo","authenticated":{authenticated}}}"#);
            respond(body.into(), "application/json", true)
        }
        "/v1/items" => {
            let body = Limited::new(request.into_body(), MAX_BODY_BYTES).collect().await;
            let key = body.as_ref().ok().and_then(|body| body.trailers()?.get(API_KEY).cloned());
            if let Some(key) = key {
                shared.records.leaked("a credential of the agent's own, in a trailer", key.as_bytes());
            }
            let length = body.map_or(0, |body| body.to_bytes().len());
            respond(format!("stored {length} bytes").into(), "text/plain", true)
        }
        "/v1/stream" => stream(),
        _ => respond("a page".into(), "text/plain", true),
    }
}

/// The method and path after every override header and parameter that some server honours: a gateway that
/// ignores them must still not let the request through.
fn overridden(request: &Request<Incoming>) -> (String, String) {
    let named = |names: &[&str]| names.iter().find_map(|name| request.headers().get(*name)?.to_str().ok());
    let in_query = request.uri().query().and_then(|query| query.strip_prefix("_method="));
    let method = named(&["x-http-method-override", "x_http_method"]).or(in_query);
    let path = named(&["x-original-url", "x-rewrite-url"]);
    (method.unwrap_or(request.method().as_str()).to_owned(), path.unwrap_or(request.uri().path()).to_owned())
}

fn head_of(request: &Request<Incoming>) -> String {
    let headers = request
        .headers()
        .iter()
        // Leave out the header with the injected credential.
        .filter(|(name, _)| *name != header::AUTHORIZATION)
        .map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
    format!("{} {}\n{}", request.method(), request.uri(), headers.collect::<String>())
}

fn respond(body: Bytes, kind: &'static str, allowed: bool) -> Response<BoxBody<Bytes, Infallible>> {
    let mut response = Response::new(Full::new(body).boxed());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if allowed {
        response.headers_mut().insert(ALLOWED_HEADER, HeaderValue::from_static("1"));
    }
    response
}

fn stream() -> Response<BoxBody<Bytes, Infallible>> {
    let (events, receiver) = mpsc::channel(STREAMED_EVENTS);
    tokio::spawn(async move {
        for number in 1..=STREAMED_EVENTS {
            if events.send(Bytes::from(format!("data: {{\"event\":{number}}}\n\n"))).await.is_err() {
                return;
            }
            tokio::time::sleep(EVENT_INTERVAL).await;
        }
    });
    let mut response = Response::new(Events(receiver).boxed());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert(ALLOWED_HEADER, HeaderValue::from_static("1"));
    response
}

struct Events(mpsc::Receiver<Bytes>);

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.0.poll_recv(context).map(|event| event.map(|bytes| Ok(Frame::data(bytes))))
    }
}
