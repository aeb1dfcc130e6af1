//! Socket families and protocols that no program in a bottle needs.

use rustix::net::SocketType;

use crate::{attempt::Attempt, direct::socket, outcome::Observation};

const DGRAM: SocketType = SocketType::DGRAM;
const RAW: SocketType = SocketType::RAW;
const SEQPACKET: SocketType = SocketType::SEQPACKET;
const STREAM: SocketType = SocketType::STREAM;

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt {
        id: "protocols.icmp-datagram",
        promise: 1,
        what: "makes a ping socket, for IPv4 and IPv6",
        source: "https://man7.org/linux/man-pages/man7/icmp.7.html",
        run: |_| {
            Observation::all([
                socket(libc::AF_INET, DGRAM, libc::IPPROTO_ICMP),
                socket(libc::AF_INET6, DGRAM, libc::IPPROTO_ICMPV6),
            ])
        },
    },
    Attempt {
        id: "protocols.icmp-raw",
        promise: 1,
        what: "makes a raw ICMP socket, for IPv4 and IPv6",
        source: "https://man7.org/linux/man-pages/man7/raw.7.html",
        run: |_| {
            Observation::all([
                socket(libc::AF_INET, RAW, libc::IPPROTO_ICMP),
                socket(libc::AF_INET6, RAW, libc::IPPROTO_ICMPV6),
            ])
        },
    },
    Attempt {
        id: "protocols.raw",
        promise: 1,
        what: "makes raw sockets: any protocol, TCP, GRE, IP in IP",
        source: "https://man7.org/linux/man-pages/man7/raw.7.html",
        run: |_| {
            Observation::all(
                [libc::IPPROTO_RAW, libc::IPPROTO_TCP, libc::IPPROTO_GRE, libc::IPPROTO_IPIP]
                    .map(|protocol| socket(libc::AF_INET, RAW, protocol)),
            )
        },
    },
    Attempt {
        id: "protocols.packet",
        promise: 1,
        what: "makes packet sockets, which see and send whole frames",
        source: "https://nvd.nist.gov/vuln/detail/CVE-2020-14386",
        run: |_| Observation::all([RAW, DGRAM].map(|kind| socket(libc::AF_PACKET, kind, 0))),
    },
    Attempt {
        id: "protocols.vsock",
        promise: 1,
        what: "makes a vsock socket, which no network namespace isolates",
        source: "https://man7.org/linux/man-pages/man7/vsock.7.html",
        run: |_| Observation::all([STREAM, DGRAM, SEQPACKET].map(|kind| socket(libc::AF_VSOCK, kind, 0))),
    },
    Attempt {
        id: "protocols.alg",
        promise: 1,
        what: "makes a socket of the kernel's crypto interface",
        source: "https://docs.kernel.org/crypto/userspace-if.html",
        run: |_| socket(libc::AF_ALG, SEQPACKET, 0),
    },
    Attempt {
        id: "protocols.bluetooth",
        promise: 1,
        what: "makes a Bluetooth socket",
        source: "https://nvd.nist.gov/vuln/detail/CVE-2020-12351",
        run: |_| Observation::all([0, 1, 3].map(|protocol| socket(libc::AF_BLUETOOTH, RAW, protocol))),
    },
    Attempt {
        id: "protocols.xdp",
        promise: 1,
        what: "makes an XDP socket",
        source: "https://docs.kernel.org/networking/af_xdp.html",
        run: |_| socket(libc::AF_XDP, RAW, 0),
    },
    Attempt {
        id: "protocols.key",
        promise: 1,
        what: "makes a PF_KEY socket",
        source: "https://www.rfc-editor.org/rfc/rfc2367",
        run: |_| socket(libc::AF_KEY, RAW, 2),
    },
    Attempt {
        id: "protocols.tipc",
        promise: 1,
        what: "makes a TIPC socket",
        source: "https://nvd.nist.gov/vuln/detail/CVE-2021-43267",
        run: |_| socket(libc::AF_TIPC, SEQPACKET, 0),
    },
    Attempt {
        id: "protocols.rds",
        promise: 1,
        what: "makes an RDS socket",
        source: "https://nvd.nist.gov/vuln/detail/CVE-2010-3904",
        run: |_| socket(libc::AF_RDS, SEQPACKET, 0),
    },
    Attempt {
        id: "protocols.can",
        promise: 1,
        what: "makes a CAN bus socket",
        source: "https://nvd.nist.gov/vuln/detail/CVE-2021-32606",
        run: |_| Observation::all([socket(libc::AF_CAN, RAW, 1), socket(libc::AF_CAN, DGRAM, 2)]),
    },
    Attempt {
        id: "protocols.dccp",
        promise: 1,
        what: "makes a DCCP socket",
        source: "https://nvd.nist.gov/vuln/detail/CVE-2017-6074",
        // SOCK_DCCP
        run: |_| socket(libc::AF_INET, SocketType::from_raw(6), 33),
    },
    Attempt {
        id: "protocols.smc",
        promise: 1,
        what: "makes an SMC socket",
        source: "https://man7.org/linux/man-pages/man7/address_families.7.html",
        // AF_SMC
        run: |_| socket(43, STREAM, 0),
    },
    Attempt {
        id: "protocols.old-families",
        promise: 1,
        what: "makes sockets of AX.25, IPX, AppleTalk, X.25, NetRom, Phonet, IEEE 802.15.4, NFC, KCM, QIPCRTR",
        source: "https://man7.org/linux/man-pages/man7/address_families.7.html",
        run: |_| {
            Observation::all(
                [3, 4, 5, 6, 9, 11, 35, 36, 39, 41, 42, 45]
                    .into_iter()
                    .flat_map(|family| [RAW, DGRAM, SEQPACKET, STREAM].map(|kind| socket(family, kind, 0))),
            )
        },
    },
    Attempt {
        id: "protocols.netlink",
        promise: 1,
        what: "makes netlink sockets other than for routes: netfilter, xfrm, audit, generic, kobject, connector",
        source: "https://nvd.nist.gov/vuln/detail/CVE-2024-1086",
        // NETFILTER 12, XFRM 6, AUDIT 9, GENERIC 16, KOBJECT_UEVENT 15, CONNECTOR 11, SOCK_DIAG 4, CRYPTO 21,
        // RDMA 20
        run: |_| {
            Observation::all(
                [12, 6, 9, 16, 15, 11, 4, 21, 20].map(|protocol| socket(libc::AF_NETLINK, RAW, protocol)),
            )
        },
    },
];
