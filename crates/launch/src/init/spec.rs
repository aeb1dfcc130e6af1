//! What the first process of every sandbox is told, whatever the backend.

use std::net::{Ipv4Addr, SocketAddrV4};

use bot_bottle_core::{
    gateway_config::ListenerKind,
    plan::{BOTTLE_ADDRESS, PROXY_ADDRESS, PROXY_PORT},
};
use serde::{Deserialize, Serialize};

/// User and group of every program in a bottle.
pub(crate) const AGENT_USER: u32 = 1000;

/// Where the bottle's DNS is answered.
pub(crate) const NAME_SERVER: SocketAddrV4 = SocketAddrV4::new(BOTTLE_ADDRESS, 53);

/// Where redirected connections are accepted. A program that connects to it directly gains nothing.
const REDIRECT_ADDRESS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 3129);

/// A bottle's network: one loopback device, whose sockets the gateway serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// Address of the loopback device besides 127.0.0.1, with a prefix of 32 bits.
    pub address: Ipv4Addr,
    /// Sockets that are handed to the gateway, in this order.
    pub listen_sockets: Vec<ListenSocket>,
    /// How connections of programs that ignore proxy variables reach the gateway.
    pub redirect: Redirect,
}

impl NetworkSpec {
    /// The network of every bottle whose programs are in it.
    pub(crate) fn of_bottle() -> Self {
        Self::with_proxy(PROXY_ADDRESS.parse().expect("the constant is an address"))
    }

    /// The network in which the connections of a machine's programs arrive. They reach its loopback addresses from
    /// nowhere but the machine itself, so that the proxy is at another one.
    pub(crate) fn of_machine() -> Self {
        Self::with_proxy(SocketAddrV4::new(BOTTLE_ADDRESS, PROXY_PORT))
    }

    fn with_proxy(address: SocketAddrV4) -> Self {
        Self {
            address: BOTTLE_ADDRESS,
            listen_sockets: vec![
                ListenSocket { kind: ListenerKind::Proxy, address },
                ListenSocket { kind: ListenerKind::DnsUdp, address: NAME_SERVER },
                ListenSocket { kind: ListenerKind::DnsTcp, address: NAME_SERVER },
            ],
            redirect: Redirect { redirected_to: REDIRECT_ADDRESS, ports_without_redirection: vec![80, 443] },
        }
    }
}

/// A socket of the bottle's network that the gateway serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenSocket {
    /// What it is for.
    pub kind: ListenerKind,
    /// Where it listens.
    pub address: SocketAddrV4,
}

/// How TCP connections to any other address reach the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redirect {
    /// Where they are redirected to, where the kernel has nftables.
    pub redirected_to: SocketAddrV4,
    /// Where they are accepted otherwise: at every address, which is the bottle's own, but on these ports
    /// alone.
    pub ports_without_redirection: Vec<u16>,
}

/// How each program in a bottle is confined, the agent and the commands of `exec` alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// User and group that programs run as, inside.
    pub user: u32,
    /// Most processes and threads in the bottle (`RLIMIT_NPROC`, counted in its user namespace).
    pub processes: Option<u64>,
    /// Longest file that can be written, in bytes.
    pub file_size: Option<u64>,
    /// How many processors may be used, where no cgroup counts their time.
    pub processors: Option<usize>,
}
