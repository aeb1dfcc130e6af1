//! Options of sockets. Each is code that a socket's owner turns on; those that servers, clients and event
//! loops set are allowed, the answer to others is that of a kernel that does not know them.

use libc::ENOPROTOOPT;

use super::{
    super::{Answer, Case, Rule, Test},
    is,
};

const IP: Test = is(1, &[0]);
const SOCKET: Test = is(1, &[1]);
const TCP: Test = is(1, &[6]);
const UDP: Test = is(1, &[17]);
const IPV6: Test = is(1, &[41]);
const NETLINK: Test = is(1, &[270]);

/// asm-generic/socket.h.
const SOCKET_NAMES: &[u32] = &[
    2, 5, 6, 7, 8, 9, 10, 12, 13,
    15, // addresses, buffers, keepalive, urgent data, priority, linger, SO_REUSEPORT
    16, 34, 76, 83, // credentials, label, pidfd, rights
    18, 19, 20, 21, 66, 67, // low-water marks and timeouts
    25, 36, 47, 49, // device, mark, pacing, processor
    27, 44, // taking a filter off, locking it
    29, 35, 37, 63, 64, 65, // time stamps
    40, 42, 45, // overflow, peeking, errors
];

/// linux/in.h.
const IP_NAMES: &[u32] = &[
    1, 2, 13, 12, 21, // type of service and time to live
    6, 8, 20, 25, // what is told about a packet
    10, 14, 11, 26, // size of a packet, errors
    15, 24, 51, 50, // addresses and ports
    32, 33, 34, 35, 36, 49, // multicast
];

/// linux/tcp.h.
const TCP_NAMES: &[u32] = &[
    1, 2, 3, 12, 25, // TCP_NODELAY, segments, corks, acknowledgements, unsent data
    4, 5, 6, 18, // keepalive
    7, 8, 9, 10, // connecting, lingering, accepting, window
    13, 16, 17, // congestion control
    23, 30, 34, // fast open
    27, 36, // SYN, queue
];

/// linux/udp.h: `UDP_CORK`.
const UDP_NAMES: &[u32] = &[1];

/// linux/in6.h.
const IPV6_NAMES: &[u32] = &[
    16, 51, 52, 66, 67, 73, // hops and traffic class
    17, 18, 19, 20, 21, 29, // multicast
    23, 24, 60, 62, 25, 31, // size of a packet, errors
    26, 70, 72, 74, 76, 77, 78, // addresses
    49, 50, // what is told about a packet
];

/// linux/netlink.h: groups, and how much is told.
const NETLINK_NAMES: &[u32] = &[1, 2, 3, 4, 5, 10, 11, 12];

/// `TCP_ZEROCOPY_RECEIVE`.
const ZEROCOPY_RECEIVE: Test = is(2, &[35]);

const UNKNOWN_OPTION: Answer = Answer::Refuse(ENOPROTOOPT);

pub(super) const RULES: &[Rule] = &[
    Rule::by_argument(
        calls![SYS_setsockopt],
        &[
            Case { tests: &[SOCKET, is(2, SOCKET_NAMES)], answer: Answer::Allow },
            Case { tests: &[TCP, is(2, TCP_NAMES)], answer: Answer::Allow },
            Case { tests: &[IP, is(2, IP_NAMES)], answer: Answer::Allow },
            Case { tests: &[IPV6, is(2, IPV6_NAMES)], answer: Answer::Allow },
            Case { tests: &[UDP, is(2, UDP_NAMES)], answer: Answer::Allow },
            Case { tests: &[NETLINK, is(2, NETLINK_NAMES)], answer: Answer::Allow },
        ],
        UNKNOWN_OPTION,
        "what servers, clients and event loops set: addresses, buffers, timeouts, keepalive, credentials, time \
         stamps, time to live, packet size, joining of multicast groups, `TCP_NODELAY`, congestion control, \
         `UDP_CORK`; else `ENOPROTOOPT`",
        "`TCP_ULP` (TLS and IPsec in the kernel, CVE-2023-0461), `UDP_ENCAP`, BPF on sockets (`SO_ATTACH_*`), \
         `MSG_ZEROCOPY`, UDP segmentation, `TCP_REPAIR`, `IPV6_ADDRFORM`, IP options, source filters of multicast, \
         tables of netfilter and multicast routing (CVE-2021-22555): code of the kernel that no agent needs, and \
         without which programs do what they do on older kernels",
    )
    .elsewhere("Docker and Flatpak allow"),
    Rule::by_argument(
        calls![SYS_getsockopt],
        &[Case { tests: &[TCP, ZEROCOPY_RECEIVE], answer: UNKNOWN_OPTION }],
        Answer::Allow,
        "all but `TCP_ZEROCOPY_RECEIVE`: `ENOPROTOOPT`",
        "reading of options, which tells about one's own sockets; that one maps pages of the network into a program",
    )
    .elsewhere("Docker and Flatpak allow"),
];
