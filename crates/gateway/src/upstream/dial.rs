//! A connection to an upstream: only to addresses that were approved, and TLS only with the name that was
//! asked for.

use std::{
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use bot_bottle_core::host::HostName;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustix::io::Errno;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::TlsConnector;

use super::{
    Alpn, Sender, Upstream, UpstreamError,
    multiplexed::{Allowed, Multiplexed, Party},
    proxy,
    public_address::{is_private, is_public},
    reads::Reads,
    resolve::ResolveError,
};
use crate::bounded_stream::BoundedStream;
use crate::host_port::Origin;
use crate::limits::{
    CONNECT_ATTEMPT_TIMEOUT, CONNECT_TIMEOUT, INITIAL_UPSTREAM_STREAMS, MAX_ADDRESSES,
    MAX_RESPONSE_HEAD_BYTES, MAX_RESPONSE_HEADERS, MAX_STREAM_SEND_BUFFER, RESOLVE_TIMEOUT, TLS_BUFFER,
    UPSTREAM_HANDSHAKE_TIMEOUT, UPSTREAM_IDLE_TIMEOUT, UPSTREAM_PING_INTERVAL, UPSTREAM_PING_TIMEOUT,
};

/// Connects and makes the connection ready for requests.
pub(super) async fn dial(
    upstream: &Upstream,
    origin: &Origin,
    alpn: Alpn,
    party: &Party,
) -> Result<Sender, UpstreamError> {
    let permit = place(upstream).await?;
    let stream = match &upstream.proxy {
        Some(proxy) if upstream.config.proxy_for(&origin.host).is_some() => {
            proxy::tunnel(upstream, proxy, origin).await?
        }
        _ => direct(upstream, origin).await?,
    };
    stream.set_nodelay(true).map_err(UpstreamError::Unreachable)?;
    let stream = BoundedStream::of_upstream(stream, UPSTREAM_IDLE_TIMEOUT, permit);
    let handshake = async {
        if !origin.tls {
            return http1_sender(Reads::new(stream, &upstream.connections)).await;
        }
        let settings = upstream.trust.settings().await.ok_or(UpstreamError::NoTrust)?;
        let config = match alpn {
            Alpn::Any => &settings.any,
            Alpn::Http1 => &settings.http1,
        };
        let name = ServerName::try_from(origin.host.as_str().to_owned())
            .map_err(|_| UpstreamError::Tls("the name cannot be in a certificate".into()))?;
        let stream = TlsConnector::from(Arc::clone(config))
            .connect_with(name, stream, |tls| tls.set_buffer_limit(Some(TLS_BUFFER)))
            .await
            .map_err(tls_error)?;
        match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => http2_sender(stream, upstream, party).await,
            Some(_) | None => http1_sender(Reads::new(stream, &upstream.connections)).await,
        }
    };
    timeout(UPSTREAM_HANDSHAKE_TIMEOUT, handshake).await.map_err(|_| UpstreamError::Timeout)?
}

/// Connects to where the name leads.
async fn direct(upstream: &Upstream, origin: &Origin) -> Result<TcpStream, UpstreamError> {
    let addresses = approved_addresses(upstream, origin).await?;
    if let Some(proxy) = &upstream.proxy
        && proxy.is_among(&addresses, upstream).await?
    {
        return Err(UpstreamError::NotPublic);
    }
    let stream = connect(&addresses).await?;
    // What the connection really is, whatever was found out before: a byte that was sent cannot be taken
    // back.
    if upstream.config.fixed_address(&origin.host).is_none()
        && is_to_self(&stream).map_err(UpstreamError::Unreachable)?
    {
        return Err(UpstreamError::NotPublic);
    }
    Ok(stream)
}

/// A place among the connections. Those that are not in use make room for one that is.
async fn place(upstream: &Upstream) -> Result<OwnedSemaphorePermit, UpstreamError> {
    let places = Arc::clone(&upstream.connections);
    if let Ok(permit) = Arc::clone(&places).try_acquire_owned() {
        return Ok(permit);
    }
    if upstream.pool.drop_idle() == 0 {
        return Err(UpstreamError::TooManyConnections);
    }
    match timeout(CONNECT_TIMEOUT, places.acquire_owned()).await {
        Ok(Ok(permit)) => Ok(permit),
        Ok(Err(_)) | Err(_) => Err(UpstreamError::TooManyConnections),
    }
}

/// Where the name leads: to the operator's fixed address, or else to public addresses alone, and to private ones too
/// where the operator said so of the name. A name that leads to both what it may and other addresses is refused whole,
/// because that is how rebinding attacks look and no honest name does it.
async fn approved_addresses(upstream: &Upstream, origin: &Origin) -> Result<Vec<SocketAddr>, UpstreamError> {
    if let Some(fixed) = upstream.config.fixed_address(&origin.host) {
        return Ok(vec![SocketAddr::new(fixed.address, fixed.port.unwrap_or(origin.port))]);
    }
    let may_be_private = upstream.config.may_be_private(&origin.host);
    let addresses = lookup(upstream, &origin.host).await?;
    for &address in &addresses {
        let is_approved = is_public(address) || (may_be_private && is_private(address));
        if !is_approved || is_own(address).map_err(UpstreamError::Unreachable)? {
            return Err(UpstreamError::NotPublic);
        }
    }
    Ok(in_order(addresses, origin.port))
}

/// The addresses that are tried, in this order.
pub(super) fn in_order(addresses: Vec<IpAddr>, port: u16) -> Vec<SocketAddr> {
    alternating(addresses).take(MAX_ADDRESSES).map(|address| SocketAddr::new(address, port)).collect()
}

pub(super) async fn lookup(upstream: &Upstream, host: &HostName) -> Result<Vec<IpAddr>, UpstreamError> {
    let found = timeout(RESOLVE_TIMEOUT, upstream.resolver.resolve(host)).await;
    match found.unwrap_or_else(|_| Err(ResolveError::Unanswered("no answer in time".into()))) {
        Ok(addresses) if addresses.is_empty() => Err(UpstreamError::Unresolvable),
        Ok(addresses) => Ok(addresses),
        Err(error) => {
            tracing::debug!(%host, %error, "a name could not be resolved");
            Err(UpstreamError::Unresolvable)
        }
    }
}

/// Whether the address is this machine's own, public or not: its services are not the internet.
///
/// Connects a UDP socket, which sends nothing; if the kernel picks the target as the source, the address is
/// ours. An address that cannot be reached is nobody's; where it cannot be found out for another reason, such
/// as a lack of descriptors, that is an error.
fn is_own(address: IpAddr) -> io::Result<bool> {
    let unspecified: IpAddr = match address {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let source = UdpSocket::bind((unspecified, 0)).and_then(|socket| {
        socket.connect((address, 9))?;
        socket.local_addr()
    });
    match source {
        Ok(source) => Ok(source.ip() == address),
        Err(error) => match Errno::from_io_error(&error) {
            Some(
                Errno::NETUNREACH
                | Errno::HOSTUNREACH
                | Errno::ADDRNOTAVAIL
                | Errno::AFNOSUPPORT
                | Errno::INVAL
                | Errno::ACCESS,
            ) => Ok(false),
            _ => Err(error),
        },
    }
}

/// Whether both ends of a connection have one address.
fn is_to_self(stream: &TcpStream) -> io::Result<bool> {
    Ok(stream.local_addr()?.ip() == stream.peer_addr()?.ip())
}

/// IPv6 and IPv4 in turns (RFC 8305 section 4), so that one broken family costs one attempt.
fn alternating(addresses: Vec<IpAddr>) -> impl Iterator<Item = IpAddr> {
    let first_is_v6 = addresses.first().is_some_and(IpAddr::is_ipv6);
    let (leading, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let longest = leading.len().max(other.len());
    (0..longest).flat_map(move |at| [leading.get(at).copied(), other.get(at).copied()]).flatten()
}

pub(super) async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, UpstreamError> {
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    let mut last_error = UpstreamError::Timeout;
    for (at, address) in addresses.iter().enumerate() {
        let is_last = at + 1 == addresses.len();
        let attempt = if is_last { deadline } else { deadline.min(Instant::now() + CONNECT_ATTEMPT_TIMEOUT) };
        match timeout_at(attempt, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last_error = UpstreamError::Unreachable(error),
            Err(_) => last_error = UpstreamError::Timeout,
        }
    }
    Err(last_error)
}

/// A certificate that is not believed is another thing than a connection that broke.
fn tls_error(error: io::Error) -> UpstreamError {
    match error.kind() {
        io::ErrorKind::TimedOut => UpstreamError::Timeout,
        _ => UpstreamError::Tls(error.to_string()),
    }
}

async fn http1_sender<S>(stream: S) -> Result<Sender, UpstreamError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .preserve_header_case(true)
        .max_headers(MAX_RESPONSE_HEADERS)
        .max_header_size(MAX_RESPONSE_HEAD_BYTES)
        .max_buf_size(MAX_RESPONSE_HEAD_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(UpstreamError::Protocol)?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to an upstream ended");
        }
    });
    Ok(Sender::Http1(sender))
}

async fn http2_sender<S>(stream: S, upstream: &Upstream, party: &Party) -> Result<Sender, UpstreamError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let window = upstream.windows.lease();
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(window.stream)
        .initial_connection_window_size(window.connection)
        .initial_max_send_streams(INITIAL_UPSTREAM_STREAMS)
        .max_header_list_size(u32::try_from(MAX_RESPONSE_HEAD_BYTES).unwrap_or(u32::MAX))
        .max_send_buf_size(MAX_STREAM_SEND_BUFFER)
        .keep_alive_interval(Some(UPSTREAM_PING_INTERVAL))
        .keep_alive_timeout(UPSTREAM_PING_TIMEOUT)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(UpstreamError::Protocol)?;
    let connection = Arc::new(Mutex::new(connection));
    let observed = Arc::downgrade(&connection);
    let allowed = Allowed(Box::new(move || {
        observed.upgrade().map_or(0, |connection| {
            connection.lock().unwrap_or_else(PoisonError::into_inner).current_max_send_streams()
        })
    }));
    tokio::spawn(async move {
        let ended = poll_fn(|context| {
            Pin::new(&mut *connection.lock().unwrap_or_else(PoisonError::into_inner)).poll(context)
        });
        if let Err(error) = ended.await {
            tracing::debug!(%error, "a connection to an upstream ended");
        }
    });
    let Upstream { windows, pool, .. } = upstream;
    Ok(Sender::Http2(Multiplexed::start(sender, allowed, window, windows, pool.idle_places(), party)))
}

const _: () = assert!(CONNECT_ATTEMPT_TIMEOUT.as_millis() < CONNECT_TIMEOUT.as_millis());

#[cfg(test)]
mod tests {
    use bot_bottle_core::gateway_config::UpstreamConfig;

    use super::{
        super::resolve::{Resolution, Resolve},
        *,
    };

    #[test]
    fn families_take_turns() {
        let parse = |text: &str| text.parse::<IpAddr>().expect("an address");
        let found: Vec<_> = alternating(["::1", "::2", "::3", "1.1.1.1"].map(parse).to_vec()).collect();
        assert_eq!(found, ["::1", "1.1.1.1", "::2", "::3"].map(parse));
    }

    /// Every name has these addresses.
    #[derive(Debug)]
    struct Everywhere(Vec<IpAddr>);

    impl Resolve for Everywhere {
        fn resolve<'a>(&'a self, _: &'a HostName) -> Resolution<'a> {
            Box::pin(async { Ok(self.0.clone()) })
        }
    }

    #[tokio::test]
    async fn private_addresses_are_opened_by_name() {
        for (host, addresses, is_approved) in [
            ("registry.corp.test", &["10.213.7.9"][..], true),
            ("registry.corp.test", &["fd12:3456::7", "172.20.213.9"], true),
            ("registry.corp.test", &["100.64.213.9", "8.8.8.8"], true),
            ("a.lab.test", &["192.168.213.9"], true),
            ("lab.test", &["192.168.213.9"], false),
            ("other.corp.test", &["10.213.7.9"], false),
            ("registry.corp.test", &["198.18.0.9"], false),
            ("registry.corp.test", &["10.213.7.9", "127.0.0.1"], false),
            ("registry.corp.test", &["169.254.169.254"], false),
        ] {
            let config = UpstreamConfig {
                private: ["registry.corp.test", "*.lab.test"].map(|name| name.parse().expect(name)).into(),
                ..UpstreamConfig::default()
            };
            let found = addresses.iter().map(|address| address.parse().expect("an address")).collect();
            let upstream = Upstream::new(&config, None, Box::new(Everywhere(found))).expect("an upstream");
            let origin = Origin { host: HostName::parse(host).expect("a name"), port: 443, tls: true };
            let approved = approved_addresses(&upstream, &origin).await;
            assert_eq!(approved.is_ok(), is_approved, "{host} {addresses:?}: {approved:?}");
        }
    }

    #[test]
    fn own_addresses_are_known() {
        assert!(is_own("127.0.0.1".parse().expect("an address")).expect("found out"));
        assert!(!is_own("192.0.2.1".parse().expect("an address")).expect("found out"));
    }

    #[tokio::test]
    async fn a_connection_to_this_machine_is_known_by_its_ends() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let stream = TcpStream::connect(address).await.expect("a connection");
        assert!(is_to_self(&stream).expect("found out"));
        // From another address of this machine, as a host with several has them.
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.2:0".parse().expect("an address")).expect("bound");
        let stream = socket.connect(address).await.expect("a connection");
        assert!(!is_to_self(&stream).expect("found out"));
    }
}
