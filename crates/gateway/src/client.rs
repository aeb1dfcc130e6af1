//! One connection of a client: detect the protocol → terminate TLS → serve HTTP/1.1 or HTTP/2 → one exchange
//! a request.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bot_bottle_core::{
    decision::{DecidedBy, Decision, Reason},
    receipt::RequestSummary,
};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body as _;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

mod detect;
mod sent_frames;
mod strict_http1;
mod tls;

use detect::{Protocol, detect};
use sent_frames::OwnHeads;
use strict_http1::{StrictStream, Unreadable};

use crate::{
    bounded_stream::BoundedStream,
    exchange::{self, ClientConnection, refuse::Refusal, response_body::ResponseBody},
    host_port::{HostPort, Tunnel},
    limits::{
        CLIENT_CONNECTION_WINDOW, CLIENT_HEADER_TIMEOUT, CLIENT_STREAM_WINDOW, MAX_CLIENT_STREAMS,
        MAX_HEAD_BYTES, MAX_HEADERS, MAX_READ_BUFFER, MAX_STREAM_SEND_BUFFER, SNIFF_TIMEOUT,
    },
    state::State,
    upstream::Party,
};

/// Serves a connection to the proxy's port: CONNECT, and requests in absolute form.
pub(crate) async fn serve_proxy(state: Arc<State>, stream: BoundedStream) {
    let activity = stream.activity();
    let client =
        Arc::new(ClientConnection { tunnel: None, sni: None, tls: false, activity, party: Party::default() });
    serve_http1(&state, &client, stream).await;
}

/// Serves requests of HTTP/1.1, whatever carries them.
pub(crate) async fn serve_http1<S>(state: &Arc<State>, client: &Arc<ClientConnection>, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = StrictStream::new(stream);
    let upgrades = stream.upgrade_state();
    let heads = upgrades.clone();
    let service = service_fn(async |request: Request<Incoming>| {
        let is_tunnel = request.method() == Method::CONNECT;
        let unreadable = upgrades.unreadable();
        let mut response = match unreadable {
            Some(why) => refuse_unreadable(state, client, why),
            // Boxed, so that its memory is free while the response is on its way.
            None => Box::pin(respond(state, client, request)).await,
        };
        if unreadable.is_some() || response.status() == StatusCode::BAD_REQUEST {
            // Close after a 400: a desynchronised connection can be used for request smuggling (CWE-444).
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        upgrades.answered(switches(is_tunnel, response.status()));
        Ok::<_, Infallible>(upgrades.track(response))
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
        record_parse_error(state, client, &error, heads.is_inside_a_head());
    }
}

/// Serves requests of HTTP/2, inside TLS.
pub(crate) async fn serve_http2<S>(state: &Arc<State>, client: &Arc<ClientConnection>, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let own_heads = OwnHeads::default();
    let service = {
        let (state, client, own_heads) = (Arc::clone(state), Arc::clone(client), own_heads.clone());
        service_fn(move |request| {
            let (state, client, own_heads) = (Arc::clone(&state), Arc::clone(&client), own_heads.clone());
            async move {
                // As above: here the task lives as long as the stream.
                let response = Box::pin(respond(&state, &client, request)).await;
                if response.body().is_end_stream() {
                    own_heads.expect();
                }
                Ok::<_, Infallible>(response)
            }
        })
    };
    let stream = sent_frames::watch(stream, own_heads, {
        let (state, client) = (Arc::clone(state), Arc::clone(client));
        Box::new(move |reason, status| {
            record_unseen(&state, &client, reason, status.as_ref().map(StatusCode::as_u16));
        })
    });
    let served = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .initial_stream_window_size(CLIENT_STREAM_WINDOW)
        .initial_connection_window_size(CLIENT_CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_CLIENT_STREAMS)
        .max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX))
        .max_send_buf_size(MAX_STREAM_SEND_BUFFER)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a client's connection ended");
    }
}

async fn respond(
    state: &Arc<State>,
    client: &ClientConnection,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    if request.method() == Method::CONNECT && client.tunnel.is_none() {
        return open_tunnel(state, request);
    }
    exchange::answer(state, client, request).await
}

/// Refuses bytes that were not read as a request.
fn refuse_unreadable(state: &State, client: &ClientConnection, why: Unreadable) -> Response<ResponseBody> {
    let refusal = match why {
        Unreadable::Ambiguous => Refusal::malformed(),
        Unreadable::TooLarge => Refusal::new(Reason::LimitReached, DecidedBy::Limits)
            .with_status(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
    };
    let (host, port) = described(client);
    exchange::refuse::refuse(
        &state.receipts,
        RequestSummary { method: "", host: &host, port, path: "" },
        refusal,
    )
}

/// Where the tunnel of a connection leads, for receipts.
fn described(client: &ClientConnection) -> (String, u16) {
    let target = client.tunnel.as_ref().map(Tunnel::target);
    target.map_or((String::new(), 0), |target| (target.host.to_string(), target.port))
}

/// Whether what the client sends after this answer is another protocol than HTTP/1.1.
fn switches(is_tunnel: bool, status: StatusCode) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS || (is_tunnel && status.is_success())
}

/// Answers a CONNECT. Whether the destination may be reached is told inside the tunnel, where clients show
/// the refusal to their user; a CONNECT that is refused they retry for minutes. Only a destination that
/// nobody could connect to is refused here.
fn open_tunnel(state: &Arc<State>, request: Request<Incoming>) -> Response<ResponseBody> {
    let written = request.uri().authority().map_or("", http::uri::Authority::as_str).to_owned();
    // Host and port alone (RFC 9110 section 9.3.6), not the URL of something.
    let is_bare = request.uri().scheme().is_none() && request.uri().path_and_query().is_none();
    let target = if is_bare {
        HostPort::parse(&written, None).map_err(Refusal::from)
    } else {
        Err(Refusal::malformed())
    };
    match target {
        Ok(target) => {
            let state = Arc::clone(state);
            tokio::spawn(async move {
                match hyper::upgrade::on(request).await {
                    Ok(upgraded) => match upgraded.downcast::<TokioIo<StrictStream<BoundedStream>>>() {
                        Ok(parts) => {
                            let (mut stream, held_back) = parts.io.into_inner().into_parts();
                            stream.unread(held_back);
                            stream.unread(parts.read_buf);
                            serve_tunnel(state, stream, Tunnel::ToHost(target), SNIFF_TIMEOUT).await;
                        }
                        Err(_) => tracing::error!("a tunnel is not on a connection of ours"),
                    },
                    Err(error) => tracing::debug!(%error, "a tunnel ended before it began"),
                }
            });
            Response::new(ResponseBody::empty())
        }
        Err(refusal) => {
            let host = written.rsplit('@').next().unwrap_or_default();
            let summary = RequestSummary { method: Method::CONNECT.as_str(), host, port: 0, path: "" };
            exchange::refuse::refuse(&state.receipts, summary, refusal)
        }
    }
}

/// Serves a tunnel: its protocol is not known yet. The client has `first_byte_timeout` to begin.
pub(crate) async fn serve_tunnel(
    state: Arc<State>,
    mut stream: BoundedStream,
    tunnel: Tunnel,
    first_byte_timeout: Duration,
) {
    match timeout(first_byte_timeout, detect(&mut stream)).await {
        Ok(Ok(Some(Protocol::Tls))) => serve_tls(&state, stream, tunnel).await,
        Ok(Ok(Some(Protocol::Http))) => {
            let activity = stream.activity();
            let client = Arc::new(ClientConnection {
                tunnel: Some(tunnel),
                sni: None,
                tls: false,
                activity,
                party: Party::default(),
            });
            serve_http1(&state, &client, stream).await;
        }
        // Silence: in the client's protocol the server speaks first (SSH, SMTP).
        Ok(Ok(Some(Protocol::Unknown))) | Err(_) => {
            let target = tunnel.target();
            let decision =
                state.policy.load().policy.decide_destination(&target.host, target.port).map_or_else(
                    |refusal| refusal,
                    |route| Decision::refuse(Reason::UnknownProtocol, DecidedBy::Protocol).on(&route.host),
                );
            refuse_tunnel(&state, &target, &decision);
        }
        Ok(Ok(None)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a tunnel broke off"),
    }
}

/// Terminates TLS and serves the requests inside.
async fn serve_tls(state: &Arc<State>, stream: BoundedStream, tunnel: Tunnel) {
    let activity = stream.activity();
    let target = tunnel.target();
    match tls::terminate(state, stream, &target).await {
        Ok((stream, sni)) => {
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let client = Arc::new(ClientConnection {
                tunnel: Some(tunnel.named(sni.as_ref())),
                sni,
                tls: true,
                activity,
                party: Party::default(),
            });
            if is_http2 {
                serve_http2(state, &client, stream).await;
            } else {
                serve_http1(state, &client, stream).await;
            }
        }
        Err(refusal) => refuse_tunnel(state, &target, &refusal),
    }
}

/// Records that a tunnel ended before a request was seen in it.
fn refuse_tunnel(state: &State, target: &HostPort, decision: &Decision) {
    let host = target.host.to_string();
    let summary =
        RequestSummary { method: Method::CONNECT.as_str(), host: &host, port: target.port, path: "" };
    // Ignored: the tunnel ends anyway, and `Receipts` fails every later request.
    let _ = state.receipts.refuse(summary, decision, None);
}

/// Records a request that hyper could not parse; hyper has answered it with a 400 of its own.
fn record_parse_error(state: &State, client: &ClientConnection, error: &hyper::Error, inside_a_head: bool) {
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
    record_unseen(state, client, reason, Some(400));
}

/// Records a request that a library refused before it was one.
fn record_unseen(state: &State, client: &ClientConnection, reason: Reason, status: Option<u16>) {
    let (host, port) = described(client);
    let summary = RequestSummary { method: "", host: &host, port, path: "" };
    // Ignored: it is refused anyway, and `Receipts` fails every later request.
    let _ = state.receipts.refuse(summary, &Decision::refuse(reason, DecidedBy::Protocol), status);
}
