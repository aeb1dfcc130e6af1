//! The bottle's only network device: loopback, with one more address and a local route for every other one.
//! rtnetlink(7).

use std::{io, net::Ipv4Addr};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink::SocketAddrNetlink, recv, sendto,
    socket_with,
};

/// The loopback device is the first of every network namespace.
const LOOPBACK: u32 = 1;

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTA_OIF: u16 = 4;
const RTA_PREFSRC: u16 = 7;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const IFF_UP: u32 = 1;
const IFA_LOCAL: u16 = 2;

/// Brings loopback up and gives it this address, alone. A local route makes every other IPv4 address one of
/// the bottle's own too, so that connections to it can be accepted. IPv6 has no route.
///
/// The C library's resolver asks for no IPv4 address where it sees none but 127.0.0.1 (`AI_ADDRCONFIG`), so
/// one more is needed; it opens no way anywhere.
pub(crate) fn bring_up(address: Ipv4Addr) -> io::Result<()> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    // struct ifinfomsg: family, padding, type, index, flags, and which of the flags are meant.
    let mut up = vec![0, 0, 0, 0];
    for word in [LOOPBACK, IFF_UP, IFF_UP] {
        up.extend(word.to_ne_bytes());
    }
    request(&socket, RTM_NEWLINK, 0, &up)?;
    // struct ifaddrmsg: family, prefix length, flags, scope (254: this host), index; one attribute.
    let mut message = vec![2, 32, 0, 254];
    message.extend(LOOPBACK.to_ne_bytes());
    attribute(&mut message, IFA_LOCAL, address.octets());
    request(&socket, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &message)?;
    // struct rtmsg: family, lengths of destination (0: everything) and source, type of service, table (255:
    // local), who made it (4: an administrator), scope (254: this host), kind (2: local), flags.
    let mut message = vec![2, 0, 0, 0, 255, 4, 254, 2, 0, 0, 0, 0];
    attribute(&mut message, RTA_OIF, LOOPBACK.to_ne_bytes());
    attribute(&mut message, RTA_PREFSRC, address.octets());
    request(&socket, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &message)
}

/// An attribute of four bytes, with its header.
fn attribute(message: &mut Vec<u8>, kind: u16, value: [u8; 4]) {
    message.extend(8_u16.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(value);
}

fn request(socket: &impl std::os::fd::AsFd, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(16 + body.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend((NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    sendto(socket, &message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut reply = [0; 1024];
    let (received, _) = recv(socket, &mut reply, RecvFlags::empty())?;
    let is_error = received >= 20 && reply[4..6] == NLMSG_ERROR.to_ne_bytes();
    match i32::from_ne_bytes([reply[16], reply[17], reply[18], reply[19]]) {
        0 if is_error => Ok(()),
        code if is_error => Err(io::Error::from_raw_os_error(-code)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "unexpected netlink answer")),
    }
}
