//! The transparent proxy's rules: nftables in the bottle's network namespace redirect programs that ignore
//! proxy variables to the gateway.
//!
//! Every address is the bottle's own (see [`super::network`]), so nothing can leave in any case. The rules
//! decide where packets go instead: TCP connections are redirected to the gateway, which asks the kernel
//! where they were going (`SO_ORIGINAL_DST`), and UDP is refused at once, so that QUIC clients fall back
//! without waiting.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType,
    netlink::{self, SocketAddrNetlink},
    recv, sendto, socket_with,
};

const NAME: &str = "bottle";

// linux/netfilter/nfnetlink.h and nf_tables.h
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_NEWTABLE: u16 = 0;
const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_NEWRULE: u16 = 6;
const NFPROTO_IPV4: u8 = 2;
const NF_INET_LOCAL_OUT: u32 = 3;
const PRIORITY_DNAT: i32 = -100;
const PRIORITY_FILTER: i32 = 0;
const NF_DROP: i32 = 0;
const NFT_RETURN: i32 = -5;
const NFT_REG_VERDICT: u32 = 0;
const NFT_REG_1: u32 = 1;
const NFT_META_L4PROTO: u32 = 16;
const NFT_PAYLOAD_NETWORK_HEADER: u32 = 1;
const NF_NAT_RANGE_PROTO_SPECIFIED: u32 = 2;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;
const NLMSG_ERROR: u16 = 2;
const NLA_F_NESTED: u16 = 0x8000;

/// Where the destination lies in an IPv4 header (RFC 791), in bytes.
const DESTINATION_OFFSET: u32 = 16;

/// Redirects all TCP, and drops all UDP, that goes neither to loopback nor to one of these addresses.
pub(super) fn install(own: &[Ipv4Addr], listener: SocketAddrV4) -> io::Result<()> {
    let socket =
        socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(netlink::NETFILTER))?;
    sendto(&socket, &rules(own, listener), SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    // The kernel has answered before sendto(2) returns.
    let mut answered = false;
    let mut reply = [0; 8192];
    loop {
        match recv(&socket, &mut reply, RecvFlags::DONTWAIT) {
            Ok((length, _)) => {
                check(&reply[..length])?;
                answered = true;
            }
            Err(rustix::io::Errno::AGAIN) if answered => return Ok(()),
            Err(rustix::io::Errno::AGAIN) => return Err(io::ErrorKind::InvalidData.into()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether every message is the acknowledgement of one of ours.
fn check(mut messages: &[u8]) -> io::Result<()> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    while !messages.is_empty() {
        let (length, kind) = match messages {
            [a, b, c, d, e, f, ..] => (u32::from_ne_bytes([*a, *b, *c, *d]), u16::from_ne_bytes([*e, *f])),
            _ => return Err(invalid()),
        };
        let length = usize::try_from(length).map_err(|_| invalid())?.next_multiple_of(4);
        let message = messages.get(..length).ok_or_else(invalid)?;
        let code = message.get(16..20).and_then(|code| code.try_into().ok()).map(i32::from_ne_bytes);
        match code {
            Some(0) if kind == NLMSG_ERROR => {}
            Some(code) if kind == NLMSG_ERROR => return Err(io::Error::from_raw_os_error(-code)),
            _ => return Err(invalid()),
        }
        messages = &messages[length..];
    }
    Ok(())
}

/// The rule set, as one batch: all of it or nothing.
fn rules(own: &[Ipv4Addr], listener: SocketAddrV4) -> Vec<u8> {
    let mut batch = Vec::new();
    message(&mut batch, NFNL_MSG_BATCH_BEGIN, 0, 0, NFNL_SUBSYS_NFTABLES, &[]);
    let mut nftables = |kind: u16, flags, body: &[u8]| {
        message(&mut batch, NFNL_SUBSYS_NFTABLES << 8 | kind, NLM_F_ACK | flags, NFPROTO_IPV4, 0, body);
    };
    nftables(NFT_MSG_NEWTABLE, NLM_F_CREATE, &text(1, NAME));
    for (chain, kind, priority, verdict) in [
        ("redirect", "nat", PRIORITY_DNAT, redirect(libc::IPPROTO_TCP, listener.port())),
        ("refuse", "filter", PRIORITY_FILTER, discard(libc::IPPROTO_UDP)),
    ] {
        let hook = [number(1, NF_INET_LOCAL_OUT), attribute(2, &priority.to_be_bytes())].concat();
        let body = [text(1, NAME), text(3, chain), nested(4, &hook), text(7, kind)].concat();
        nftables(NFT_MSG_NEWCHAIN, NLM_F_CREATE, &body);
        let loopback = leave_alone(&[127]);
        let own = own.iter().map(|address| leave_alone(&address.octets()));
        for expressions in [loopback].into_iter().chain(own).chain([verdict]) {
            let body = [text(1, NAME), text(2, chain), nested(4, &expressions)].concat();
            nftables(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, &body);
        }
    }
    message(&mut batch, NFNL_MSG_BATCH_END, 0, 0, NFNL_SUBSYS_NFTABLES, &[]);
    batch
}

/// Returns from the chain for addresses with this prefix.
fn leave_alone(prefix: &[u8]) -> Vec<u8> {
    let length = u32::try_from(prefix.len()).unwrap_or(4);
    let destination = [
        number(1, NFT_REG_1),
        number(2, NFT_PAYLOAD_NETWORK_HEADER),
        number(3, DESTINATION_OFFSET),
        number(4, length),
    ];
    [expression("payload", &destination.concat()), equals(prefix), verdict(NFT_RETURN)].concat()
}

fn redirect(protocol: i32, port: u16) -> Vec<u8> {
    let load = [number(1, NFT_REG_1), nested(2, &attribute(1, &port.to_be_bytes()))].concat();
    let redirect = [number(1, NFT_REG_1), number(3, NF_NAT_RANGE_PROTO_SPECIFIED)].concat();
    [of_protocol(protocol), expression("immediate", &load), expression("redir", &redirect)].concat()
}

/// Drops in the output hook, where the sender gets EPERM.
fn discard(protocol: i32) -> Vec<u8> {
    [of_protocol(protocol), verdict(NF_DROP)].concat()
}

fn of_protocol(protocol: i32) -> Vec<u8> {
    let meta = [number(2, NFT_META_L4PROTO), number(1, NFT_REG_1)].concat();
    [expression("meta", &meta), equals(&[u8::try_from(protocol).unwrap_or(0)])].concat()
}

fn equals(value: &[u8]) -> Vec<u8> {
    const EQUAL: u32 = 0;
    let data = [number(1, NFT_REG_1), number(2, EQUAL), nested(3, &attribute(1, value))].concat();
    expression("cmp", &data)
}

fn verdict(code: i32) -> Vec<u8> {
    let verdict = nested(2, &attribute(1, &code.to_be_bytes()));
    expression("immediate", &[number(1, NFT_REG_VERDICT), nested(2, &verdict)].concat())
}

/// One element of a rule's list.
fn expression(name: &str, data: &[u8]) -> Vec<u8> {
    nested(1, &[text(1, name), nested(2, data)].concat())
}

fn text(kind: u16, value: &str) -> Vec<u8> {
    attribute(kind, &[value.as_bytes(), b"\0"].concat())
}

fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

fn nested(kind: u16, content: &[u8]) -> Vec<u8> {
    attribute(kind | NLA_F_NESTED, content)
}

/// A netlink attribute: length, kind, value, filled up to a multiple of four.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).expect("a rule set is shorter than 64 KiB");
    let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Appends a message with the header of netlink and that of netfilter.
fn message(batch: &mut Vec<u8>, kind: u16, flags: u16, family: u8, resource: u16, body: &[u8]) {
    let length = u32::try_from(20 + body.len()).expect("a rule set is shorter than 64 KiB");
    batch.extend(length.to_ne_bytes());
    batch.extend(kind.to_ne_bytes());
    batch.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    batch.extend([0; 8]);
    batch.extend([family, 0]);
    batch.extend(resource.to_be_bytes());
    batch.extend(body);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_the_kernel_is_an_error_and_an_acknowledgement_is_none() {
        let reply = |code: i32| {
            let mut bytes = Vec::new();
            bytes.extend(36_u32.to_ne_bytes());
            bytes.extend(NLMSG_ERROR.to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend(code.to_ne_bytes());
            bytes.extend([0; 16]);
            bytes
        };
        assert!(check(&reply(0)).is_ok());
        assert!(check(&[reply(0), reply(0)].concat()).is_ok());
        let refused = [reply(0), reply(-libc::EOPNOTSUPP)].concat();
        assert_eq!(check(&refused).err().and_then(|error| error.raw_os_error()), Some(libc::EOPNOTSUPP));
        for short in [&reply(0)[..3], &reply(0)[..18], &reply(0)[..30]] {
            assert!(check(short).is_err());
        }
    }
}
