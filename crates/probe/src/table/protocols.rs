//! Connections that bypass the gateway.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::{linux::net::SocketAddrExt, unix::net::UnixStream},
};

use rustix::net::SocketType;

use crate::{attempt::Attempt, context::Context, direct, errno, outcome::Observation};

const CONNECT: &str = "https://man7.org/linux/man-pages/man2/connect.2.html";
const UDP: &str = "https://man7.org/linux/man-pages/man7/udp.7.html";
const NAMESPACES: &str = "https://man7.org/linux/man-pages/man7/network_namespaces.7.html";
const UNIX: &str = "https://man7.org/linux/man-pages/man7/unix.7.html";

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt {
        id: "protocols.tcp-host-loopback",
        promise: 1,
        what: "connects to a service on the host's loopback",
        source: NAMESPACES,
        run: |s| direct::tcp(s, s.host_loopback()),
    },
    Attempt {
        id: "protocols.tcp-host-address",
        promise: 1,
        what: "connects to services on every address of the host",
        source: "https://docs.docker.com/engine/network/drivers/bridge/",
        run: |s| Observation::all(s.host_services.iter().map(|address| direct::tcp(s, *address))),
    },
    Attempt {
        id: "protocols.tcp-public",
        promise: 1,
        what: "connects to public addresses over TCP, past the proxy variables",
        source: CONNECT,
        run: |s| {
            Observation::all(
                [([1, 1, 1, 1], 443), ([1, 1, 1, 1], 80), ([8, 8, 8, 8], 443), ([192, 0, 2, 7], 8443)]
                    .map(|address| direct::tcp(s, SocketAddr::from(address))),
            )
        },
    },
    Attempt {
        id: "protocols.tcp-public-v6",
        promise: 1,
        what: "connects to a public address over TCP on IPv6",
        source: CONNECT,
        run: |s| {
            let address = Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1111);
            Observation::all([443, 80, 8443].map(|port| direct::tcp(s, SocketAddr::from((address, port)))))
        },
    },
    Attempt {
        id: "protocols.tcp-private",
        promise: 1,
        what: "connects to the operator's network: 10/8, 172.16/12, 192.168/16, 100.64/10",
        source: "https://www.rfc-editor.org/rfc/rfc1918",
        run: |s| {
            Observation::all(
                [[10, 0, 0, 1], [172, 17, 0, 1], [192, 168, 1, 1], [100, 100, 100, 100]]
                    .map(|address| direct::tcp(s, SocketAddr::from((address, 80)))),
            )
        },
    },
    Attempt {
        id: "protocols.tcp-metadata",
        promise: 1,
        what: "connects to the cloud's metadata service",
        source: "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html",
        run: |s| direct::tcp(s, SocketAddr::from(([169, 254, 169, 254], 80))),
    },
    Attempt {
        id: "protocols.tcp-mapped",
        promise: 1,
        what: "connects to the host's loopback by an IPv4-mapped IPv6 address",
        source: "https://www.rfc-editor.org/rfc/rfc4291#section-2.5.5.2",
        run: |s| {
            let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
            direct::tcp(s, SocketAddr::from((mapped, s.host_loopback().port())))
        },
    },
    Attempt {
        id: "protocols.ssh-direct",
        promise: 1,
        what: "speaks SSH straight to port 22",
        source: "https://www.rfc-editor.org/rfc/rfc4253#section-4.2",
        run: |s| direct::tcp(s, SocketAddr::from(([192, 0, 2, 22], 22))),
    },
    Attempt {
        id: "protocols.udp-host-loopback",
        promise: 1,
        what: "sends a datagram to a service on the host's loopback",
        source: UDP,
        run: |s| direct::udp(s, s.host_loopback(), s.tag().as_bytes()),
    },
    Attempt {
        id: "protocols.udp-host-address",
        promise: 1,
        what: "sends datagrams to services on every address of the host",
        source: UDP,
        run: |s| {
            Observation::all(
                s.host_services.iter().map(|address| direct::udp(s, *address, s.tag().as_bytes())),
            )
        },
    },
    Attempt {
        id: "protocols.udp-public",
        promise: 1,
        what: "sends datagrams to public addresses: QUIC, NTP, an odd port",
        source: "https://www.rfc-editor.org/rfc/rfc9000",
        run: |s| {
            Observation::all(
                [443, 123, 9999]
                    .map(|port| direct::udp(s, SocketAddr::from(([1, 1, 1, 1], port)), &[0xc3; 1200])),
            )
        },
    },
    Attempt {
        id: "protocols.udp-public-v6",
        promise: 1,
        what: "sends a datagram to a public address on IPv6",
        source: UDP,
        run: |s| {
            let address = Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1111);
            direct::udp(s, SocketAddr::from((address, 443)), &[0xc3; 1200])
        },
    },
    Attempt {
        id: "protocols.udp-broadcast",
        promise: 1,
        what: "sends datagrams to the local network: broadcast, SSDP",
        source: UDP,
        run: |s| {
            Observation::all(
                [([255, 255, 255, 255], 67), ([239, 255, 255, 250], 1900)]
                    .map(|address| direct::udp(s, SocketAddr::from(address), s.tag().as_bytes())),
            )
        },
    },
    Attempt {
        id: "protocols.mptcp",
        promise: 1,
        what: "connects to the host's loopback by Multipath TCP",
        source: "https://docs.kernel.org/networking/mptcp.html",
        run: |s| direct::stream(s, s.host_loopback(), SocketType::STREAM, libc::IPPROTO_MPTCP),
    },
    Attempt {
        id: "protocols.sctp",
        promise: 1,
        what: "connects to the host's loopback by SCTP",
        source: "https://man7.org/linux/man-pages/man7/sctp.7.html",
        run: |s| direct::stream(s, s.host_loopback(), SocketType::STREAM, libc::IPPROTO_SCTP),
    },
    Attempt {
        id: "protocols.unix-path",
        promise: 1,
        what: "connects to a unix socket of the host by its path",
        source: UNIX,
        run: |s| errno::by_absence(UnixStream::connect(&s.unix_socket), "the host's unix socket"),
    },
    Attempt {
        id: "protocols.unix-abstract",
        promise: 1,
        what: "connects to a unix socket of the host in the abstract namespace",
        source: "https://nvd.nist.gov/vuln/detail/CVE-2020-15257",
        run: |s| abstract_socket(s.abstract_socket.as_bytes()),
    },
    Attempt {
        id: "protocols.unix-abstract-well-known",
        promise: 1,
        what: "connects to the abstract sockets of X11, containerd's shim and a session bus",
        source: "https://nvd.nist.gov/vuln/detail/CVE-2020-15257",
        run: well_known_abstract,
    },
];

fn abstract_socket(name: &[u8]) -> Observation {
    let address = match std::os::unix::net::SocketAddr::from_abstract_name(name) {
        Ok(address) => address,
        Err(error) => return Observation::inconclusive(errno::name(&error)),
    };
    errno::by_absence(UnixStream::connect_addr(&address), "the host's abstract socket")
}

fn well_known_abstract(_scene: &Context) -> Observation {
    Observation::all(
        [
            "/tmp/.X11-unix/X0",
            "/tmp/.X11-unix/X1",
            "/containerd-shim/moby",
            "/tmp/dbus-session",
            "/tmp/.ICE-unix/1",
        ]
        .map(|name| abstract_socket(name.as_bytes())),
    )
}
