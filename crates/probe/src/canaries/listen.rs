//! Listening sockets, with the address in the error.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr as UnixAddress, UnixListener},
    },
    path::Path,
};

use super::CanaryError;

/// How often a port is drawn until one is free for both TCP and UDP.
const PORT_ATTEMPTS: usize = 32;

pub(super) fn port(listener: &TcpListener) -> Result<u16, CanaryError> {
    listener.local_addr().map(|address| address.port()).map_err(CanaryError::Start)
}

fn listening<T>(place: impl std::fmt::Display, result: io::Result<T>) -> Result<T, CanaryError> {
    result.map_err(|source| CanaryError::Listen { place: place.to_string(), source })
}

pub(super) fn listen_tcp(address: SocketAddr) -> Result<TcpListener, CanaryError> {
    let listener = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listening(address, listener)
}

pub(super) fn listen_both(address: IpAddr) -> Result<(TcpListener, UdpSocket), CanaryError> {
    let mut last = None;
    for _ in 0..PORT_ATTEMPTS {
        let tcp = listen_tcp(SocketAddr::new(address, 0))?;
        let udp = UdpSocket::bind((address, port(&tcp)?)).and_then(|socket| {
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        match udp {
            Ok(udp) => return Ok((tcp, udp)),
            Err(error) => last = Some(error),
        }
    }
    listening(address, Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into())))
}

pub(super) fn listen_unix(path: &Path) -> Result<UnixListener, CanaryError> {
    let listener = UnixListener::bind(path).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listening(path.display(), listener)
}

pub(super) fn listen_abstract(name: &str) -> Result<UnixListener, CanaryError> {
    let listener = UnixAddress::from_abstract_name(name).and_then(|address| {
        let listener = UnixListener::bind_addr(&address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listening(format!("the abstract socket {name}"), listener)
}
