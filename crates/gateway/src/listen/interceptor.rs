//! Connections of a virtual machine that come from smolvm's egress interceptor, each with its destination in front.
//!
//! smolvm dials this listener for every TCP connection of its guest and waits for one byte before it carries anything.
//! Two framings exist, and each begins with the token that only smolvm was given (smolvm, "External interceptor"):
//!
//! | bytes | version 1 | mediated |
//! |---|---|---|
//! | 8 | `SMOLICPT` | `SMOLMEG2` |
//! | 1 | the version, 1 | – |
//! | 32 | token | token |
//! | 32 | – | ids of the machine and of its parent |
//! | 1 | family: 4 or 6 | the same |
//! | 2 | port, big endian | the same |
//! | 4 or 16 | address | the same |
//! | 2 + n | – | length of the flow's first bytes, and those |
//! | answer | 0: connected; else an errno of Linux | 1: denied; 2: this connection carries the flow |
//!
//! The guest's connection has succeeded by then. So what is not allowed is refused inside, where its client shows the
//! reason, and an errno is for what can be no destination.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bot_bottle_core::{
    gateway_config::InterceptorToken,
    host::Host,
    plan::{BOTTLE_ADDRESS, PROXY_PORT},
};
use bytes::Bytes;
use subtle::ConstantTimeEq;
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    sync::Semaphore,
    time::timeout,
};

use crate::{
    bounded_stream::StreamSocket,
    client, dns,
    host_port::{HostPort, Tunnel},
    limits::{MAX_FIRST_BYTES, MAX_PREAMBLES, PREAMBLE_TIMEOUT, UNNAMED_SNIFF_TIMEOUT},
    state::State,
};

use super::transparent;

/// The port of DNS. A resolver that asks over TCP comes here whichever server it names.
const DNS_PORT: u16 = 53;

/// The listener's part of each connection.
#[derive(Debug)]
pub(crate) struct Interceptor {
    token: Arc<InterceptorToken>,
    /// Permits for connections that have not said yet where they lead: whoever has no token takes no more than these.
    preambles: Arc<Semaphore>,
}

/// What a connection begins with.
#[derive(Debug, PartialEq, Eq)]
struct Preamble {
    framing: Framing,
    destination: SocketAddr,
    /// What the guest's program has sent already.
    first_bytes: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Version1,
    Mediated,
}

/// A connection that is closed unanswered.
#[derive(Debug, Error)]
enum PreambleError {
    #[error("it broke off: {0}")]
    Broken(#[from] io::Error),
    #[error("it begins with no framing that is known")]
    Unknown,
    #[error("it has not the token of this gateway's machine")]
    WrongToken,
    #[error("its address is of no known family")]
    UnknownFamily,
    #[error("it says that {0} bytes were sent already, which are too many")]
    TooLong(usize),
}

impl Framing {
    /// The flow is carried by this connection.
    fn accepted(self) -> u8 {
        match self {
            Self::Version1 => 0,
            Self::Mediated => 2,
        }
    }

    fn refused(self) -> u8 {
        /// `ECONNREFUSED` of Linux, whatever this system is.
        const CONNECTION_REFUSED: u8 = 111;
        match self {
            Self::Version1 => CONNECTION_REFUSED,
            Self::Mediated => 1,
        }
    }
}

/// What a destination is.
enum Service {
    Proxy,
    Dns,
    Elsewhere(Tunnel),
}

impl Interceptor {
    pub(super) fn new(token: InterceptorToken) -> Self {
        Self { token: Arc::new(token), preambles: Arc::new(Semaphore::new(MAX_PREAMBLES)) }
    }

    /// Serves a connection, if it says in time where it leads.
    pub(super) fn accept(&self, state: Arc<State>, mut stream: StreamSocket) {
        let Ok(permit) = Arc::clone(&self.preambles).try_acquire_owned() else {
            tracing::warn!("a connection was closed: {MAX_PREAMBLES} others have not said where they lead");
            return;
        };
        let token = Arc::clone(&self.token);
        tokio::spawn(async move {
            let preamble = match timeout(PREAMBLE_TIMEOUT, read_preamble(&mut stream, &token)).await {
                Ok(Ok(preamble)) => preamble,
                Ok(Err(error)) => {
                    return tracing::warn!(%error, "a connection to the interceptor's port was closed");
                }
                Err(_) => return tracing::warn!("a connection was closed that did not say where it leads"),
            };
            drop(permit);
            serve(state, stream, preamble).await;
        });
    }
}

async fn serve(state: Arc<State>, mut stream: StreamSocket, preamble: Preamble) {
    let Preamble { framing, destination, first_bytes } = preamble;
    let service = service(&state, destination);
    let answer = if service.is_some() { framing.accepted() } else { framing.refused() };
    if let Err(error) = stream.write_all(&[answer]).await {
        return tracing::debug!(%error, "a connection of the interceptor is gone");
    }
    match service {
        None => tracing::debug!(%destination, "a connection leads to no other host"),
        Some(Service::Proxy) => super::accept(state, stream, |state, mut stream| {
            stream.unread(first_bytes);
            client::serve_proxy(state, stream)
        }),
        Some(Service::Dns) => super::accept(state, stream, |state, mut stream| async move {
            stream.unread(first_bytes);
            dns::serve_stream(&state, stream).await;
        }),
        Some(Service::Elsewhere(tunnel)) => {
            let first_byte_timeout = first_byte_timeout(&state, &tunnel);
            super::accept(state, stream, move |state, mut stream| {
                stream.unread(first_bytes);
                client::serve_tunnel(state, stream, tunnel, first_byte_timeout)
            });
        }
    }
}

/// What the guest connected to; `None` for what no host has.
fn service(state: &State, destination: SocketAddr) -> Option<Service> {
    let port = destination.port();
    // An IPv4 address in the form of an IPv6 one is what it stands for (RFC 4291 section 2.5.5.2).
    let address = destination.ip().to_canonical();
    if address.is_loopback() || address.is_unspecified() || address.is_multicast() || port == 0 {
        return None;
    }
    let name = match address {
        _ if port == DNS_PORT => return Some(Service::Dns),
        IpAddr::V4(BOTTLE_ADDRESS) => return (port == PROXY_PORT).then_some(Service::Proxy),
        IpAddr::V4(address) => state.fake_ips.name_at(address),
        IpAddr::V6(_) => None,
    };
    Some(Service::Elsewhere(match name {
        Some(name) => Tunnel::ToHost(HostPort { host: Host::Name(name), port }),
        None => Tunnel::ToAddress(SocketAddr::new(address, port)),
    }))
}

fn first_byte_timeout(state: &State, tunnel: &Tunnel) -> Duration {
    match tunnel {
        Tunnel::ToHost(target) => transparent::first_byte_timeout(state, target),
        Tunnel::ToAddress(_) => UNNAMED_SNIFF_TIMEOUT,
    }
}

/// Reads what a connection begins with, and not one byte more.
async fn read_preamble(
    stream: &mut (impl AsyncRead + Unpin),
    token: &InterceptorToken,
) -> Result<Preamble, PreambleError> {
    let mut magic = [0; 8];
    stream.read_exact(&mut magic).await?;
    let framing = match &magic {
        b"SMOLICPT" if stream.read_u8().await? == 1 => Framing::Version1,
        b"SMOLMEG2" => Framing::Mediated,
        _ => return Err(PreambleError::Unknown),
    };
    let mut sent = [0; 32];
    stream.read_exact(&mut sent).await?;
    if !bool::from(sent.ct_eq(token.as_bytes())) {
        return Err(PreambleError::WrongToken);
    }
    if framing == Framing::Mediated {
        // Each gateway has one machine, which the token tells.
        stream.read_exact(&mut [0; 32]).await?;
    }
    let family = stream.read_u8().await?;
    let port = stream.read_u16().await?;
    let address: IpAddr = match family {
        4 => Ipv4Addr::from_bits(stream.read_u32().await?).into(),
        6 => Ipv6Addr::from_bits(stream.read_u128().await?).into(),
        _ => return Err(PreambleError::UnknownFamily),
    };
    let mut first_bytes = Vec::new();
    if framing == Framing::Mediated {
        let length = usize::from(stream.read_u16().await?);
        if length > MAX_FIRST_BYTES {
            return Err(PreambleError::TooLong(length));
        }
        first_bytes.resize(length, 0);
        stream.read_exact(&mut first_bytes).await?;
    }
    Ok(Preamble { framing, destination: SocketAddr::new(address, port), first_bytes: first_bytes.into() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TOKEN: [u8; 32] = [9; 32];

    /// What comes of these bytes, and how many of them are left.
    fn read(bytes: &[u8]) -> (Result<Preamble, PreambleError>, usize) {
        let mut rest = bytes;
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let preamble = runtime.block_on(read_preamble(&mut rest, &InterceptorToken::new(TOKEN)));
        (preamble, rest.len())
    }

    fn written(mediated: bool, address: IpAddr, port: u16, first: &[u8]) -> Vec<u8> {
        let mut bytes = if mediated {
            [&b"SMOLMEG2"[..], &TOKEN, &[1; 32]].concat()
        } else {
            [&b"SMOLICPT\x01"[..], &TOKEN].concat()
        };
        bytes.push(if address.is_ipv4() { 4 } else { 6 });
        bytes.extend(port.to_be_bytes());
        match address {
            IpAddr::V4(address) => bytes.extend(address.octets()),
            IpAddr::V6(address) => bytes.extend(address.octets()),
        }
        if mediated {
            bytes.extend(u16::try_from(first.len()).expect("few").to_be_bytes());
            bytes.extend(first);
        }
        bytes
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_what_follows_is_left(
            mediated: bool, address: IpAddr, port: u16, first in prop::collection::vec(any::<u8>(), 0..64),
            following in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let bytes = written(mediated, address, port, &first);
            let (preamble, left) = read(&[&bytes[..], &following].concat());
            let preamble = preamble.expect("a preamble");
            prop_assert_eq!(preamble.destination, SocketAddr::new(address, port));
            prop_assert_eq!(preamble.framing == Framing::Mediated, mediated);
            prop_assert_eq!(&preamble.first_bytes[..], if mediated { &first[..] } else { &[] });
            prop_assert_eq!(left, following.len());
            // Every beginning of it alone is none yet.
            for length in 0..bytes.len() {
                let (beginning, _) = read(&bytes[..length]);
                prop_assert!(matches!(beginning, Err(PreambleError::Broken(_))), "{length}: {beginning:?}");
            }
        }

        #[test]
        fn nothing_without_the_token_is_a_preamble(
            mut bytes in prop::collection::vec(any::<u8>(), 0..160), framing in 0..3_usize,
        ) {
            // Two thirds begin as a framing does, so that what comes after is tried too.
            let magic = [&b"SMOLICPT\x01"[..], b"SMOLMEG2", b""][framing];
            bytes.splice(..magic.len().min(bytes.len()), magic.iter().copied());
            prop_assume!(bytes.get(magic.len()..magic.len() + 32) != Some(&TOKEN[..]));
            prop_assert!(read(&bytes).0.is_err());
        }

        #[test]
        fn one_changed_byte_of_the_token_is_another_token(at in 0..32_usize, bit in 0..8_u32, mediated: bool) {
            let mut bytes = written(mediated, Ipv4Addr::LOCALHOST.into(), 1, b"");
            bytes[if mediated { 8 } else { 9 } + at] ^= 1 << bit;
            prop_assert!(matches!(read(&bytes).0, Err(PreambleError::WrongToken)));
        }
    }
}
