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

use bot_bottle_core::error::{IoContext, IoError};

/// How often a port is drawn until one is free for both TCP and UDP.
const PORT_ATTEMPTS: usize = 32;

pub(super) fn port(listener: &TcpListener) -> Result<u16, IoError> {
    listener.local_addr().map(|address| address.port()).io_context(|| "reading the address of a socket")
}

pub(super) fn listen_tcp(address: SocketAddr) -> Result<TcpListener, IoError> {
    let listener = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.io_context(|| format!("listening on {address}"))
}

pub(super) fn listen_both(address: IpAddr) -> Result<(TcpListener, UdpSocket), IoError> {
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
    Err(IoError::new(
        format!("listening on {address}"),
        last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()),
    ))
}

pub(super) fn listen_unix(path: &Path) -> Result<UnixListener, IoError> {
    let listener = UnixListener::bind(path).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.io_context(|| format!("listening on {}", path.display()))
}

pub(super) fn listen_abstract(name: &str) -> Result<UnixListener, IoError> {
    let listener = UnixAddress::from_abstract_name(name).and_then(|address| {
        let listener = UnixListener::bind_addr(&address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.io_context(|| format!("listening on the abstract socket {name}"))
}
