//! One connection of a client: what it is, and which of the ways in it takes.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use bot_bottle_core::{
    decision::{Decision, Reason, Source},
    host::Host,
    receipt::RequestSummary,
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    time::timeout,
};

use crate::{
    body::ResponseBody,
    bounded_stream::BoundedStream,
    framing::StrictStream,
    gateway::Gateway,
    limits::{
        CLIENT_HEADER_TIMEOUT, CONNECTION_WINDOW, MAX_CLIENT_STREAMS, MAX_HEAD_BYTES, MAX_HEADERS,
        MAX_READ_BUFFER, MAX_STREAM_SEND_BUFFER, SNIFF_BYTES, SNIFF_TIMEOUT, STREAM_WINDOW,
    },
    refusal::Denial,
    request, tls,
};

/// What is known about a connection before its first request.
#[derive(Debug, Clone)]
pub(crate) struct Flow {
    /// Where a CONNECT said that it leads, or where a captured connection was going; `None` on the proxy's port
    /// itself.
    pub(crate) tunnel: Option<Target>,
    /// The TLS server name that the client sent.
    pub(crate) server_name: Option<Host>,
    /// Whether the client speaks TLS in the tunnel.
    pub(crate) encrypted: bool,
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) host: Host,
    pub(crate) port: u16,
}

/// What the first bytes in a tunnel are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Tls,
    Http,
    Unknown,
}

/// Serves a connection to the proxy's port: CONNECT, and requests in absolute form.
pub(crate) async fn serve_proxy(gateway: Arc<Gateway>, stream: BoundedStream) {
    let flow = Arc::new(Flow { tunnel: None, server_name: None, encrypted: false });
    serve_http1(&gateway, &flow, stream).await;
}

/// Serves requests of HTTP/1.1, whatever carries them.
pub(crate) async fn serve_http1<S>(gateway: &Arc<Gateway>, flow: &Arc<Flow>, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = StrictStream::new(stream);
    let answers = stream.answers();
    let listening = answers.clone();
    let service = service_fn(async |request: Request<Incoming>| {
        let is_tunnel = request.method() == Method::CONNECT;
        let mut response = respond(gateway, flow, request).await;
        if response.status() == StatusCode::BAD_REQUEST {
            // Who is not understood once is not listened to again.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        answers.answered(switches(is_tunnel, response.status()));
        Ok::<_, Infallible>(response)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(CLIENT_HEADER_TIMEOUT)
        .preserve_header_case(true)
        .auto_date_header(false)
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(MAX_READ_BUFFER)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        gateway.broken(flow, &error, listening.is_inside_a_head());
    }
}

/// Serves requests of HTTP/2, inside TLS.
pub(crate) async fn serve_http2<S>(gateway: &Arc<Gateway>, flow: &Arc<Flow>, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = {
        let (gateway, flow) = (Arc::clone(gateway), Arc::clone(flow));
        service_fn(move |request| {
            let (gateway, flow) = (Arc::clone(&gateway), Arc::clone(&flow));
            async move { Ok::<_, Infallible>(respond(&gateway, &flow, request).await) }
        })
    };
    let served = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_CLIENT_STREAMS)
        .max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX))
        .max_send_buf_size(MAX_STREAM_SEND_BUFFER)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        gateway.broken(flow, &error, false);
    }
}

async fn respond(gateway: &Arc<Gateway>, flow: &Flow, request: Request<Incoming>) -> Response<ResponseBody> {
    if request.method() == Method::CONNECT && flow.tunnel.is_none() {
        return open_tunnel(gateway, request);
    }
    request::answer(gateway, flow, request).await
}

/// Whether what the client sends after this answer is another protocol than HTTP/1.1.
fn switches(is_tunnel: bool, status: StatusCode) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS || (is_tunnel && status.is_success())
}

/// Answers a CONNECT. Whether the destination may be reached is told inside the tunnel, where clients show the
/// refusal to their user; a CONNECT that is refused they retry for minutes. Only a destination that nobody
/// could connect to is refused here.
fn open_tunnel(gateway: &Arc<Gateway>, request: Request<Incoming>) -> Response<ResponseBody> {
    let written = request.uri().authority().map_or("", http::uri::Authority::as_str).to_owned();
    // Host and port alone (RFC 9110 section 9.3.6), not the URL of something.
    let is_bare = request.uri().scheme().is_none() && request.uri().path_and_query().is_none();
    let target = if is_bare { Target::parse(&written, None) } else { Err(Denial::malformed()) };
    match target {
        Ok(target) => {
            let gateway = Arc::clone(gateway);
            tokio::spawn(async move {
                match hyper::upgrade::on(request).await {
                    Ok(upgraded) => match upgraded.downcast::<TokioIo<StrictStream<BoundedStream>>>() {
                        Ok(parts) => {
                            let (mut stream, held_back) = parts.io.into_inner().into_parts();
                            stream.unread(held_back);
                            stream.unread(parts.read_buf);
                            serve_tunnel(gateway, stream, target, SNIFF_TIMEOUT).await;
                        }
                        Err(_) => tracing::error!("a tunnel is not on a connection of ours"),
                    },
                    Err(error) => tracing::debug!(%error, "a tunnel ended before it began"),
                }
            });
            Response::new(ResponseBody::empty())
        }
        Err(denial) => {
            let host = written.rsplit('@').next().unwrap_or_default();
            let summary = RequestSummary { method: Method::CONNECT.as_str(), host, port: 0, path: "" };
            gateway.refuse(summary, denial)
        }
    }
}

/// Serves a connection of which it is known where it leads, and not yet what is spoken. The client has
/// `patience` to begin.
pub(crate) async fn serve_tunnel(
    gateway: Arc<Gateway>,
    mut stream: BoundedStream,
    target: Target,
    patience: Duration,
) {
    match timeout(patience, sniff(&mut stream)).await {
        Ok(Ok(Some(Protocol::Tls))) => tls::serve(&gateway, stream, target).await,
        Ok(Ok(Some(Protocol::Http))) => {
            let flow = Arc::new(Flow { tunnel: Some(target), server_name: None, encrypted: false });
            serve_http1(&gateway, &flow, stream).await;
        }
        // A client of a protocol in which the server speaks first waits for ever.
        Ok(Ok(Some(Protocol::Unknown))) | Err(_) => {
            let decision =
                gateway.policy.load().policy.decide_destination(&target.host, target.port).map_or_else(
                    |refusal| refusal,
                    |route| Decision::refuse(Reason::UnknownProtocol, Source::Protocol).on(&route.host),
                );
            gateway.refuse_tunnel(&target, &decision);
        }
        Ok(Ok(None)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a tunnel broke off"),
    }
}

/// Reads until it is clear what the client speaks, and gives back what was read. `None`: it said nothing.
async fn sniff(stream: &mut BoundedStream) -> io::Result<Option<Protocol>> {
    let mut read = Vec::with_capacity(SNIFF_BYTES);
    let protocol = loop {
        let mut buffer = [0; SNIFF_BYTES];
        let length = stream.read(&mut buffer[..SNIFF_BYTES - read.len()]).await?;
        read.extend_from_slice(&buffer[..length]);
        match recognise(&read) {
            Some(protocol) => break Some(protocol),
            None if length == 0 && read.is_empty() => break None,
            None if length == 0 || read.len() >= SNIFF_BYTES => break Some(Protocol::Unknown),
            None => {}
        }
    };
    stream.unread(Bytes::from(read));
    Ok(protocol)
}

/// A TLS record of type handshake, or a request line: a method and the start of a target. `None`: more is needed.
fn recognise(start: &[u8]) -> Option<Protocol> {
    const TLS_HANDSHAKE: u8 = 0x16;
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    match start {
        [] => None,
        [TLS_HANDSHAKE, ..] => Some(Protocol::Tls),
        _ => {
            let method = start.iter().take_while(|byte| is_token(byte)).count();
            match &start[method..] {
                [] | [b' '] => None,
                // SSH's banner would pass for a method and a space, but no target starts like its comment.
                [b' ', b'/' | b'*' | b'h' | b'H', ..] if method > 0 => Some(Protocol::Http),
                _ => Some(Protocol::Unknown),
            }
        }
    }
}

impl Gateway {
    /// Writes down that a tunnel ends without a request having been seen in it.
    pub(crate) fn refuse_tunnel(&self, target: &Target, decision: &Decision) {
        let host = target.host.to_string();
        let summary =
            RequestSummary { method: Method::CONNECT.as_str(), host: &host, port: target.port, path: "" };
        // There is nobody to tell. If this fails, the next request is refused.
        let _ = self.receipts.record(summary, decision, None);
    }

    /// Writes down that hyper refused what came, which it does with an answer of its own.
    fn broken(&self, flow: &Flow, error: &hyper::Error, inside_a_head: bool) {
        tracing::debug!(%error, "a client's connection ended");
        let reason = if error.is_parse_too_large() {
            Reason::LimitReached
        } else if error.is_timeout() && inside_a_head {
            Reason::Timeout
        } else if error.is_parse() {
            Reason::MalformedRequest
        } else {
            return;
        };
        let (host, port) =
            flow.tunnel.as_ref().map_or((String::new(), 0), |target| (target.host.to_string(), target.port));
        let summary = RequestSummary { method: "", host: &host, port, path: "" };
        let _ = self.receipts.record(summary, &Decision::refuse(reason, Source::Protocol), Some(400));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_told_by_their_first_bytes() {
        for (start, expected) in [
            (&b""[..], None),
            (b"\x16\x03\x01", Some(Protocol::Tls)),
            (b"GET", None),
            (b"GET ", None),
            (b"GET /", Some(Protocol::Http)),
            (b"OPTIONS * HTTP/1.1", Some(Protocol::Http)),
            (b"PROPFIND http://a/", Some(Protocol::Http)),
            (b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", Some(Protocol::Unknown)),
            (b"SSH-2.0-Go\r\n", Some(Protocol::Unknown)),
            (b" GET /", Some(Protocol::Unknown)),
            (b"\0\0\0", Some(Protocol::Unknown)),
            (b"EHLO there\r\n", Some(Protocol::Unknown)),
        ] {
            assert_eq!(recognise(start), expected, "{}", start.escape_ascii());
        }
    }
}
