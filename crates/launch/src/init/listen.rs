//! The listening sockets of a bottle's network, which the gateway serves.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket},
    os::fd::OwnedFd,
};

use bot_bottle_core::{
    error::{IoContext, IoError},
    gateway_config::ListenerKind,
};

use super::{
    network, redirect,
    spec::{ListenSocket, NetworkSpec, Redirect},
};

/// The sockets, bound.
pub(crate) struct Listening {
    /// What each of them is for.
    pub(crate) kinds: Vec<ListenerKind>,
    pub(crate) sockets: Vec<OwnedFd>,
    /// Says which connections are not redirected.
    pub(crate) note: Option<String>,
}

/// Brings the network up and binds its sockets. Needs CAP_NET_ADMIN over this network namespace.
pub(crate) fn listen(network: &NetworkSpec) -> Result<Listening, IoError> {
    network::bring_up(network.address).io_context(|| "bringing the loopback device up")?;
    let Redirect { redirected_to, ports_without_redirection } = &network.redirect;
    let mut listen_sockets = network.listen_sockets.clone();
    let redirected = |address| ListenSocket { kind: ListenerKind::Transparent, address };
    let note = match redirect::install(&[network.address], *redirected_to) {
        Ok(()) => {
            listen_sockets.push(redirected(*redirected_to));
            None
        }
        Err(error) => {
            let everywhere = |port: &u16| redirected(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, *port));
            listen_sockets.extend(ports_without_redirection.iter().map(everywhere));
            let ports: Vec<_> = ports_without_redirection.iter().map(u16::to_string).collect();
            Some(format!(
                "no nftables here ({error}): programs that ignore the proxy variables reach the gateway on ports {} \
                 only, and nothing on others",
                ports.join(" and ")
            ))
        }
    };
    let sockets = listen_sockets.iter().map(bind).collect::<io::Result<_>>().io_context(|| "listening")?;
    Ok(Listening { kinds: listen_sockets.iter().map(|socket| socket.kind).collect(), sockets, note })
}

fn bind(socket: &ListenSocket) -> io::Result<OwnedFd> {
    match socket.kind {
        ListenerKind::DnsUdp => UdpSocket::bind(socket.address).map(OwnedFd::from),
        ListenerKind::Proxy
        | ListenerKind::Transparent
        | ListenerKind::DnsTcp
        | ListenerKind::Interceptor => TcpListener::bind(socket.address).map(OwnedFd::from),
    }
}
