//! Accepting clients.

use std::{io, sync::Arc, time::Duration};

use bot_bottle_core::{
    decision::{Decision, Reason, Source},
    receipt::RequestSummary,
};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::{
    bounded_stream::BoundedStream, capture, dns, flow, gateway::Gateway, limits::CLIENT_IDLE_TIMEOUT,
};

/// How long accepting rests after the kernel refused to, for want of descriptors or memory.
pub(crate) const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// A [`Door`](bot_bottle_core::gateway_config::Door) with its socket, which a runtime serves or not yet.
#[derive(Debug)]
pub(crate) enum OpenDoor<Listener = TcpListener, Datagrams = UdpSocket> {
    Proxy(Listener),
    Captured(Listener),
    NameStreams(Listener),
    NameDatagrams(Datagrams),
}

/// Serves whoever comes through a door, for as long as the process lives.
pub(crate) fn open(gateway: &Arc<Gateway>, door: OpenDoor) {
    let gateway = Arc::clone(gateway);
    match door {
        OpenDoor::Proxy(listener) => tokio::spawn(accept_proxied(gateway, listener)),
        OpenDoor::Captured(listener) => tokio::spawn(capture::accept_captured(gateway, listener)),
        OpenDoor::NameStreams(listener) => tokio::spawn(dns::answer_streams(gateway, listener)),
        OpenDoor::NameDatagrams(socket) => tokio::spawn(dns::answer_datagrams(gateway, socket)),
    };
}

async fn accept_proxied(gateway: Arc<Gateway>, listener: TcpListener) {
    accept(gateway, listener, |gateway, stream| admit(gateway, stream, flow::serve_proxy)).await;
}

/// Accepts connections for as long as the process lives.
pub(crate) async fn accept(
    gateway: Arc<Gateway>,
    listener: TcpListener,
    serve: impl Fn(Arc<Gateway>, TcpStream),
) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => serve(Arc::clone(&gateway), stream),
            Err(error) => {
                tracing::warn!(%error, "a client could not be accepted");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

/// Serves a client, if there is a place for it.
pub(crate) fn admit<F>(
    gateway: Arc<Gateway>,
    stream: TcpStream,
    serve: impl FnOnce(Arc<Gateway>, BoundedStream) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    // Small writes must not wait for acknowledgements: responses of models come word by word.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a client went before it was served");
        return;
    }
    match Arc::clone(&gateway.connections).try_acquire_owned() {
        Ok(place) => {
            let stream = BoundedStream::of_client(stream, CLIENT_IDLE_TIMEOUT, place);
            tokio::spawn(serve(gateway, stream));
        }
        Err(_) => turn_away(&gateway, &stream),
    }
}

/// Tells a client that there is no place for it, if that takes no waiting.
fn turn_away(gateway: &Gateway, stream: &TcpStream) {
    let decision = Decision::refuse(Reason::LimitReached, Source::Limits);
    let summary = RequestSummary { method: "", host: "", port: 0, path: "" };
    let _ = gateway.receipts.record(summary, &decision, Some(429));
    let body = format!(
        r#"{{"reason":"{}","host":"","method":"","path":"","hint":"{}"}}"#,
        decision.reason,
        decision.reason.hint()
    );
    let response = format!(
        "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    match stream.try_write(response.as_bytes()) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(error) => tracing::debug!(%error, "a client that was turned away is gone"),
    }
}
