//! Hosts that a policy is about: one with a credential, one without, and those that no route names.

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

use crate::honest::{EVENT_INTERVAL, STREAMED_EVENTS};

use super::{ALLOWED_HEADER, Call, Records};

/// How long a connection may wait with its first byte and its handshake.
const GREETING_TIME: Duration = Duration::from_secs(10);

/// The longest body that is read, in bytes.
const MAX_BODY_BYTES: usize = 1024 * 1024;

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
    pub(super) allowed_host: String,
    pub(super) open_host: String,
    pub(super) credential: String,
    pub(super) mark: String,
}

/// Starts a host on the current runtime.
pub(super) fn spawn(shared: &Arc<Shared>, role: Role, listener: TcpListener) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(greet(Arc::clone(&shared), role, stream));
        }
    });
    Ok(())
}

async fn greet(shared: Arc<Shared>, role: Role, stream: TcpStream) {
    let mut first = [0];
    let peeked = tokio::time::timeout(GREETING_TIME, stream.peek(&mut first)).await;
    match peeked {
        Ok(Ok(count)) if count > 0 && first[0] == TLS_HANDSHAKE => {
            let accept = TlsAcceptor::from(Arc::clone(&shared.tls)).accept(stream);
            match tokio::time::timeout(GREETING_TIME, accept).await {
                Ok(Ok(tls)) => serve(shared, role, true, TokioIo::new(tls)).await,
                // To an allowed host it is the gateway's honest try; elsewhere nobody should have come.
                Ok(Err(_)) | Err(_) if role != Role::Unlisted => {}
                Ok(Err(_)) | Err(_) => {
                    shared.records.saw("an unlisted host", b"a TLS handshake that broke off")
                }
            }
        }
        Ok(Ok(count)) if count > 0 => serve(shared, role, false, TokioIo::new(stream)).await,
        _ if role == Role::Unlisted => {
            shared.records.saw("an unlisted host", b"a connection without a request")
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
    // A client that breaks off, or says what is no HTTP, has said nothing that this host would act on.
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await;
}

async fn answer(
    shared: &Shared,
    role: Role,
    encrypted: bool,
    request: Request<Incoming>,
) -> Response<BoxBody<Bytes, Infallible>> {
    let (method, path) = obeyed(&request);
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
                && name == shared.allowed_host
                && path.starts_with("/v1/")
                && matches!(method.as_str(), "GET" | "POST")
        }
        Role::Open => name == shared.open_host && !request.uri().to_string().to_lowercase().contains("git"),
        Role::Unlisted => false,
    };
    if !allowed {
        shared.records.saw(format!("{role:?} host").to_lowercase(), head_of(&request).as_bytes());
        return respond(shared.mark.clone().into(), "text/plain", false);
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
            let length = body.map_or(0, |body| body.to_bytes().len());
            respond(format!("stored {length} bytes").into(), "text/plain", true)
        }
        "/v1/stream" => stream(),
        _ => respond("a page".into(), "text/plain", true),
    }
}

/// The method and the path that a server goes by which honours every override that some server honours.
fn obeyed(request: &Request<Incoming>) -> (String, String) {
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
        // What the gateway injected stays out of what is shown.
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
