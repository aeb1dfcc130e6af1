//! Connections and requests.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use hyper::{
    body::{Body as _, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use super::{
    Answer, AnswerBody, SeenRequest, Shared,
    body::{self, OutgoingBody},
    websocket,
};

/// The first byte of a TLS connection: a handshake record (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// The facts of the connection that each request is recorded with.
#[derive(Clone)]
struct Connection {
    encrypted: bool,
    server_name: Option<String>,
    shared: Arc<Shared>,
}

pub(super) async fn accept(listener: TcpListener, tls: Arc<ServerConfig>, shared: Arc<Shared>) {
    let acceptor = TlsAcceptor::from(tls);
    while let Ok((stream, _)) = listener.accept().await {
        shared.seen().connections += 1;
        tokio::spawn(connection(stream, acceptor.clone(), Arc::clone(&shared)));
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let mut first = [0];
    // Ignored: the client sees errors of the connection.
    match stream.peek(&mut first).await {
        Ok(1) if first[0] == TLS_HANDSHAKE => {
            if let Ok(stream) = acceptor.accept(stream).await {
                let server_name = stream.get_ref().1.server_name().map(str::to_owned);
                serve(stream, Connection { encrypted: true, server_name, shared }).await;
            }
        }
        Ok(1) => serve(stream, Connection { encrypted: false, server_name: None, shared }).await,
        _ => {}
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, connection: Connection) {
    let service = service_fn(move |request| {
        let connection = connection.clone();
        async move { Ok::<_, Infallible>(respond(request, connection).await) }
    });
    let _ = auto::Builder::new(TokioExecutor::new())
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await;
}

async fn respond(mut request: Request<Incoming>, connection: Connection) -> Response<OutgoingBody> {
    let upgrade = hyper::upgrade::on(&mut request);
    let (parts, incoming) = request.into_parts();
    let Ok((raw, body_length)) = body::read(incoming).await else {
        return response(Answer::new(400, "text/plain", "the body broke off"));
    };
    let host = parts
        .uri
        .host()
        .or_else(|| parts.headers.get("host")?.to_str().ok()?.split(':').next())
        .unwrap_or_default()
        .to_ascii_lowercase();
    let seen = SeenRequest {
        host,
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().map(str::to_owned),
        body: body::decode(raw, &parts.headers),
        body_length,
        server_name: connection.server_name,
        encrypted: connection.encrypted,
        version: parts.version,
        headers: parts.headers,
    };
    connection.shared.seen().requests.push(seen.clone());
    let answer = match connection.shared.hosts.get(&seen.host) {
        Some(handler) => handler.answer(&seen),
        None => Answer::new(421, "text/plain", "this name is not served here"),
    };
    match answer.body {
        AnswerBody::WebSocket(session) => {
            let messages = websocket::Messages::new(&seen, connection.shared);
            tokio::spawn(websocket::run(upgrade, session, messages));
            response(websocket::accepted(&seen))
        }
        _ if seen.method == "HEAD" => {
            // hyper does not take the body away itself over HTTP/2.
            let (head, body) = response(answer).into_parts();
            let mut empty = Response::from_parts(head, body::outgoing(AnswerBody::Whole(Bytes::new())));
            if let Some(length) = body.size_hint().exact() {
                empty.headers_mut().insert("content-length", HeaderValue::from(length));
            }
            empty
        }
        _ => response(answer),
    }
}

fn response(answer: Answer) -> Response<OutgoingBody> {
    let promised = match &answer.body {
        AnswerBody::BrokenOff { promised, .. } | AnswerBody::Filler(promised) => Some(*promised),
        _ => None,
    };
    let body = body::outgoing(answer.body);
    let mut response = Response::new(body);
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    if let Some(promised) = promised {
        response.headers_mut().insert("content-length", HeaderValue::from(promised));
    }
    response
}
