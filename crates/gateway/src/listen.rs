//! Accepts clients.

use std::{
    fs::File,
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use bot_bottle_core::{
    decision::{DecidedBy, Decision, Reason, RefusalBody},
    gateway_config::{InterceptorToken, ListenerKind},
    receipt::RequestSummary,
};
use rustix::net::{AddressFamily, SocketType, sockopt};
use tokio::{
    net::{TcpListener, UdpSocket, UnixListener},
    time::timeout,
};

use crate::{
    bounded_stream::{BoundedStream, StreamSocket},
    client, dns,
    host_port::Tunnel,
    limits::{ACCEPT_BACKOFF, CLIENT_IDLE_TIMEOUT},
    state::State,
};

mod interceptor;
mod transparent;

use interceptor::Interceptor;

/// A listening socket, and with it what its clients speak.
#[derive(Debug)]
pub(crate) enum Listener {
    Proxy(StreamListener),
    Transparent(StreamListener),
    DnsTcp(StreamListener),
    Interceptor(StreamListener, Interceptor),
    DnsUdp(UdpSocket),
}

/// A listening socket for connections.
#[derive(Debug)]
pub(crate) enum StreamListener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Binds the proxy's port on an address.
    pub(crate) async fn bind_proxy(address: SocketAddr) -> io::Result<Self> {
        TcpListener::bind(address).await.map(Self::proxy)
    }

    /// Serves the proxy's port on a listener.
    pub(crate) fn proxy(listener: TcpListener) -> Self {
        Self::Proxy(StreamListener::Tcp(listener))
    }

    /// Takes over a socket that was made elsewhere. It has to be of the kind: [`is_of_kind`]. `None`: it is for an
    /// interceptor, and nobody said what its connections begin with.
    pub(crate) fn adopt(
        kind: ListenerKind,
        socket: OwnedFd,
        token: Option<&InterceptorToken>,
    ) -> io::Result<Option<Self>> {
        Ok(Some(match kind {
            ListenerKind::Interceptor => {
                let Some(token) = token else { return Ok(None) };
                Self::Interceptor(StreamListener::adopt(socket)?, Interceptor::new(token.clone()))
            }
            ListenerKind::Proxy => Self::Proxy(StreamListener::adopt(socket)?),
            ListenerKind::Transparent => Self::Transparent(StreamListener::adopt(socket)?),
            ListenerKind::DnsTcp => Self::DnsTcp(StreamListener::adopt(socket)?),
            ListenerKind::DnsUdp => {
                let socket = std::net::UdpSocket::from(socket);
                socket.set_nonblocking(true)?;
                Self::DnsUdp(UdpSocket::from_std(socket)?)
            }
        }))
    }

    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Proxy(StreamListener::Tcp(listener)) => listener.local_addr().ok(),
            _ => None,
        }
    }
}

/// Whether a socket can be a listener of the kind. Only the kernel knows the original destination of a
/// redirected TCP connection; a proxy's clients may come over a Unix socket.
pub(crate) fn is_of_kind(socket: impl AsFd, kind: ListenerKind) -> bool {
    let (Ok(family), Ok(socket_type)) = (sockopt::socket_domain(&socket), sockopt::socket_type(&socket))
    else {
        return false;
    };
    let is_ip = family == AddressFamily::INET || family == AddressFamily::INET6;
    let accepts = sockopt::socket_acceptconn(&socket).unwrap_or(false);
    match kind {
        ListenerKind::Proxy => accepts && (is_ip || family == AddressFamily::UNIX),
        ListenerKind::Transparent | ListenerKind::DnsTcp | ListenerKind::Interceptor => accepts && is_ip,
        ListenerKind::DnsUdp => is_ip && socket_type == SocketType::DGRAM,
    }
}

impl StreamListener {
    fn adopt(socket: OwnedFd) -> io::Result<Self> {
        if sockopt::socket_domain(&socket)? == AddressFamily::UNIX {
            let listener = std::os::unix::net::UnixListener::from(socket);
            listener.set_nonblocking(true)?;
            return UnixListener::from_std(listener).map(Self::Unix);
        }
        let listener = std::net::TcpListener::from(socket);
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener).map(Self::Tcp)
    }

    async fn accept(&self) -> io::Result<StreamSocket> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| StreamSocket::Tcp(stream)),
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| StreamSocket::Unix(stream)),
        }
    }
}

/// Spawns the accept loop of one listener; it never ends.
pub(crate) fn spawn(state: &Arc<State>, listener: Listener) {
    let state = Arc::clone(state);
    match listener {
        Listener::Proxy(listener) => tokio::spawn(accept_loop(state, listener, |state, stream| {
            accept(state, stream, client::serve_proxy);
        })),
        Listener::Transparent(listener) => tokio::spawn(accept_loop(state, listener, |state, stream| {
            let Some(target) = transparent::destination(&state, &stream) else {
                tracing::debug!("a redirected connection is gone, or was not redirected");
                return;
            };
            let first_byte_timeout = transparent::first_byte_timeout(&state, &target);
            accept(state, stream, move |state, stream| {
                client::serve_tunnel(state, stream, Tunnel::ToHost(target), first_byte_timeout)
            });
        })),
        Listener::Interceptor(listener, interceptor) => {
            tokio::spawn(accept_loop(state, listener, move |state, stream| interceptor.accept(state, stream)))
        }
        Listener::DnsTcp(listener) => tokio::spawn(accept_loop(state, listener, |state, stream| {
            let Ok(permit) = Arc::clone(&state.connections).try_acquire_owned() else { return };
            tokio::spawn(async move {
                dns::serve_stream(&state, stream).await;
                drop(permit);
            });
        })),
        Listener::DnsUdp(socket) => tokio::spawn(dns::serve_datagrams(state, socket)),
    };
}

async fn accept_loop(state: Arc<State>, listener: StreamListener, serve: impl Fn(Arc<State>, StreamSocket)) {
    let mut spare = spare_descriptor();
    loop {
        match listener.accept().await {
            Ok(stream) => serve(Arc::clone(&state), stream),
            Err(error) => {
                tracing::warn!(%error, "a client could not be accepted");
                // With the spare one a client can at least be told, where it would otherwise wait for ever.
                if spare.take().is_some()
                    && let Ok(Ok(stream)) = timeout(ACCEPT_BACKOFF, listener.accept()).await
                {
                    reject(&state, &stream);
                }
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
        if spare.is_none() {
            spare = spare_descriptor();
        }
    }
}

/// A descriptor that is kept for the time when there are no others.
fn spare_descriptor() -> Option<File> {
    File::open("/dev/null").ok()
}

/// Serves a client if there is a permit for it, and rejects it otherwise.
fn accept<F>(state: Arc<State>, stream: StreamSocket, serve: impl FnOnce(Arc<State>, BoundedStream) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    if let Err(error) = stream.set_nodelay() {
        tracing::debug!(%error, "a client went before it was served");
        return;
    }
    match Arc::clone(&state.connections).try_acquire_owned() {
        Ok(permit) => {
            let stream = BoundedStream::of_client(stream, CLIENT_IDLE_TIMEOUT, permit);
            tokio::spawn(serve(state, stream));
        }
        Err(_) => reject(&state, &stream),
    }
}

/// Answers 429, if that takes no waiting: a client that does not read must not hold up the accept loop.
fn reject(state: &State, stream: &StreamSocket) {
    let decision = Decision::refuse(Reason::LimitReached, DecidedBy::Limits);
    let summary = RequestSummary { method: "", host: "", port: 0, path: "" };
    let _ = state.receipts.refuse(summary, &decision, Some(429));
    let (reason, hint) = (decision.reason, decision.reason.hint());
    let body =
        serde_json::to_string(&RefusalBody { reason, host: "", method: "", path: "", hint, why: None })
            .unwrap_or_default();
    let response = format!(
        "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    match stream.try_write(response.as_bytes()) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(error) => tracing::debug!(%error, "a rejected client is gone"),
    }
}
