//! Messages with descriptors over a local stream socket: four bytes of length, little endian, then the bytes.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, recvmsg, sendmsg,
    },
};
use tokio::{io::Interest, net::UnixStream};
use zeroize::Zeroizing;

use crate::HANG_UP_INTERVAL;

/// Largest message, in bytes: what the launcher's own channel to a sandbox allows.
pub const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// Most descriptors of one message. Linux allows 253 (`SCM_MAX_FD`).
pub const MAX_DESCRIPTORS: usize = 128;

/// Bytes by which the buffer of a message grows, so that a length alone takes no memory.
const GROWTH_BYTES: usize = 64 << 10;

/// A message, and its descriptors.
#[derive(Debug)]
pub struct LocalMessage {
    /// The message without its length. Wiped when dropped, because messages hold secrets.
    pub bytes: Zeroizing<Vec<u8>>,
    /// In the order in which they were sent; close-on-exec.
    pub descriptors: Vec<OwnedFd>,
}

/// Sends a message, with the descriptors on its first byte.
///
/// # Errors
/// `InvalidInput` if the message or its descriptors are too many, and those of sendmsg(2). Part of a message may
/// have been sent then.
pub async fn send(socket: &UnixStream, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    if message.len() > MAX_MESSAGE_BYTES || descriptors.len() > MAX_DESCRIPTORS {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "message too long"));
    }
    let length = u32::try_from(message.len()).map_err(io::Error::other)?.to_le_bytes();
    let mut sent = 0;
    while sent < length.len() + message.len() {
        let parts = match length.get(sent..) {
            Some(length) => [IoSlice::new(length), IoSlice::new(message)],
            None => [IoSlice::new(&message[sent - length.len()..]), IoSlice::new(&[])],
        };
        socket.ready(Interest::WRITABLE).await?;
        let result = socket.try_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if sent == 0 && !descriptors.is_empty() {
                control.push(SendAncillaryMessage::ScmRights(descriptors));
            }
            Ok(sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?)
        });
        match result {
            Ok(count) => sent += count,
            Err(error) if is_transient(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Receives a message and its descriptors, or `None` at the end of the connection. A call that is cancelled may
/// lose part of a message.
///
/// # Errors
/// `InvalidData` if the message or its descriptors are too many, `UnexpectedEof` if the connection ends within
/// it, and those of recvmsg(2).
pub async fn receive(socket: &UnixStream) -> io::Result<Option<LocalMessage>> {
    let mut descriptors = Vec::new();
    let mut header = [0; 4];
    if !fill(socket, &mut header, &mut descriptors).await? {
        return Ok(None);
    }
    let length = u32::from_le_bytes(header) as usize;
    if length > MAX_MESSAGE_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "message too long"));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    while bytes.len() < length {
        let filled = grow(&mut bytes, length);
        if !fill(socket, &mut bytes[filled..], &mut descriptors).await? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(Some(LocalMessage { bytes, descriptors }))
}

/// Makes room for the next piece of a message; the number of bytes before it. A `Vec` that grows by itself leaves
/// what it held in freed memory, so the old one is wiped.
pub(crate) fn grow(bytes: &mut Zeroizing<Vec<u8>>, length: usize) -> usize {
    let filled = bytes.len();
    if bytes.capacity() == filled {
        let mut larger = Zeroizing::new(Vec::with_capacity(length.min((filled * 2).max(GROWTH_BYTES))));
        larger.extend_from_slice(bytes);
        *bytes = larger;
    }
    let room = length.min(bytes.capacity());
    bytes.resize(room, 0);
    filled
}

/// Fills the buffer; false if the connection ended before its first byte.
async fn fill(socket: &UnixStream, buffer: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<bool> {
    let mut filled = 0;
    while filled < buffer.len() {
        socket.ready(Interest::READABLE).await?;
        let result = socket.try_io(Interest::READABLE, || {
            // Room for as many as Linux passes at once: the kernel closes silently what has none.
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut parts = [IoSliceMut::new(&mut buffer[filled..])];
            let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
            let count = recvmsg(socket, &mut parts, &mut control, flags)?.bytes;
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = message {
                    descriptors.extend(rights);
                }
            }
            Ok(count)
        });
        if descriptors.len() > MAX_DESCRIPTORS {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too many descriptors"));
        }
        match result {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(error) if is_transient(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Whether the other end of a socket is closed in both directions (POLLHUP, poll(2)).
fn is_hung_up(socket: impl AsFd) -> bool {
    let mut wait = [PollFd::new(&socket, PollFlags::empty())];
    let answered = poll(&mut wait, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    answered.is_ok() && wait[0].revents().contains(PollFlags::HUP)
}

/// Returns when the other end of a socket is closed in both directions.
pub(crate) async fn hung_up(socket: impl AsFd) {
    while !is_hung_up(&socket) {
        tokio::time::sleep(HANG_UP_INTERVAL).await;
    }
}
