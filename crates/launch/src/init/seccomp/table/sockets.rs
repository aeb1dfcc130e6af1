//! Sockets: Unix, TCP, UDP, and netlink for routes.

use libc::{EAFNOSUPPORT, EPROTONOSUPPORT, c_int};

use super::{
    super::{Answer, Case, REFUSED, Rule, Test},
    is, masked,
};

const UNIX: Test = is(0, &[libc::AF_UNIX.cast_unsigned()]);
const NETLINK: Test = is(0, &[libc::AF_NETLINK.cast_unsigned()]);
const INTERNET: Test = is(0, &[libc::AF_INET.cast_unsigned(), libc::AF_INET6.cast_unsigned()]);
const STREAM: Test = kind(&[libc::SOCK_STREAM.cast_unsigned()]);
const DATAGRAM: Test = kind(&[libc::SOCK_DGRAM.cast_unsigned()]);

/// Beside the kind the same argument holds flags.
const fn kind(values: &'static [u32]) -> Test {
    masked(1, 0xF, values)
}

const NO_PROTOCOL: Answer = Answer::Refuse(EPROTONOSUPPORT);
const NO_FAMILY: Answer = Answer::Refuse(EAFNOSUPPORT);
const TCP: &[u32] = &[0, c_int::cast_unsigned(libc::IPPROTO_TCP)];
const UDP: &[u32] = &[0, c_int::cast_unsigned(libc::IPPROTO_UDP)];
const ROUTE: &[u32] = &[c_int::cast_unsigned(libc::NETLINK_ROUTE)];

pub(super) const RULES: &[Rule] = &[
    Rule::by_argument(
        calls![SYS_socket],
        &[
            Case { tests: &[UNIX], answer: Answer::Allow },
            Case { tests: &[NETLINK, is(2, ROUTE)], answer: Answer::Allow },
            Case { tests: &[NETLINK], answer: NO_PROTOCOL },
            Case { tests: &[INTERNET, STREAM, is(2, TCP)], answer: Answer::Allow },
            Case { tests: &[INTERNET, STREAM], answer: NO_PROTOCOL },
            Case { tests: &[INTERNET, DATAGRAM, is(2, UDP)], answer: Answer::Allow },
            Case { tests: &[INTERNET, DATAGRAM], answer: NO_PROTOCOL },
            Case { tests: &[INTERNET], answer: REFUSED },
        ],
        NO_FAMILY,
        "Unix, TCP, UDP, netlink for routes; raw ones `EPERM`, other protocols `EPROTONOSUPPORT`, other families \
         `EAFNOSUPPORT`",
        "vsock is not separated by a network namespace; packet, raw, ICMP, SCTP, `AF_ALG`, netfilter are not needed, \
         and each is a wide door",
    )
    .elsewhere("Docker allows all but vsock and `AF_ALG`, Flatpak every protocol of these families"),
    Rule::by_argument(
        calls![SYS_socketpair],
        &[Case { tests: &[UNIX], answer: Answer::Allow }],
        NO_FAMILY,
        "Unix; else `EAFNOSUPPORT`",
        "as above",
    )
    .elsewhere("Docker and Flatpak allow"),
    Rule::allowed(
        calls![
            SYS_connect SYS_bind SYS_listen SYS_accept SYS_accept4 SYS_shutdown SYS_getsockname SYS_getpeername SYS_sendto
            SYS_recvfrom SYS_sendmsg SYS_recvmsg SYS_sendmmsg SYS_recvmmsg
        ],
        "what is done with a socket; where it leads to is decided by the network namespace and the gateway",
    ),
];
