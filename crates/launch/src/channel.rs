//! Messages with descriptors over a local stream socket: four bytes of length, little endian, then JSON.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use bot_bottle_core::error::{IoContext, IoError};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
        sockopt::{Timeout, set_socket_timeout},
    },
};
use serde::{Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

/// Largest message, in bytes. The largest in use is the spec of a native bottle, with the text of its files.
pub(crate) const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// Most descriptors that come with one message. Linux allows 253 (`SCM_MAX_FD`).
pub(crate) const MAX_DESCRIPTORS: usize = 128;

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl Channel {
    /// Takes a connected stream socket.
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Two connected ends.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        Ok((Self(one), Self(other)))
    }

    /// The longest that one read or write may wait for the other side.
    pub(crate) fn set_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        set_socket_timeout(&self.0, Timeout::Recv, limit)?;
        set_socket_timeout(&self.0, Timeout::Send, limit)?;
        Ok(())
    }

    /// Sends a message, with the descriptors on its first byte.
    pub(crate) fn send(&self, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        if descriptors.len() > MAX_DESCRIPTORS {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
        }
        // Messages to the gateway hold secrets, so the bytes are wiped when they are sent.
        let mut bytes = Zeroizing::new(vec![0; 4]);
        serde_json::to_writer(&mut *bytes, message)?;
        let length = bytes.len() - 4;
        let header = u32::try_from(length).ok().filter(|_| length <= MAX_MESSAGE_BYTES);
        let header = header.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "message too long"))?;
        bytes[..4].copy_from_slice(&header.to_le_bytes());
        let mut rest = &bytes[..];
        let mut first = true;
        while !rest.is_empty() {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if first && !descriptors.is_empty() {
                control.push(SendAncillaryMessage::ScmRights(descriptors));
            }
            match sendmsg(&self.0, &[IoSlice::new(rest)], &mut control, SendFlags::NOSIGNAL) {
                Ok(sent) => {
                    rest = &rest[sent..];
                    first = false;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Receives a message and its descriptors, or `None` at the end of the connection.
    pub(crate) fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut descriptors = Vec::new();
        let mut header = [0; 4];
        if !self.fill(&mut header, &mut descriptors)? {
            return Ok(None);
        }
        let length = u32::from_le_bytes(header) as usize;
        if length > MAX_MESSAGE_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "message too long"));
        }
        let mut body = Zeroizing::new(vec![0; length]);
        if !self.fill(&mut body, &mut descriptors)? && length > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Some((serde_json::from_slice(&body)?, descriptors)))
    }

    /// The next message, which has to come: the end of the connection is an error. `doing` says what it is for.
    pub(crate) fn next<T: DeserializeOwned>(
        &self,
        doing: &'static str,
    ) -> Result<(T, Vec<OwnedFd>), IoError> {
        let message = self.receive().io_context(|| doing)?;
        message.ok_or_else(|| IoError::new(doing, io::ErrorKind::UnexpectedEof))
    }

    /// Fills the buffer; false if the connection ended before its first byte.
    fn fill(&self, buffer: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<bool> {
        let mut filled = 0;
        while filled < buffer.len() {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut parts = [IoSliceMut::new(&mut buffer[filled..])];
            let received = match recvmsg(&self.0, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Ok(received) => received.bytes,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = message {
                    descriptors.extend(rights);
                }
            }
            match (received, filled) {
                (0, 0) => return Ok(false),
                (0, _) => return Err(io::ErrorKind::UnexpectedEof.into()),
                (count, _) => filled += count,
            }
        }
        Ok(true)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write};

    use super::*;

    #[test]
    fn a_message_arrives_with_its_descriptors() {
        let (one, other) = Channel::pair().expect("a pair");
        let (read, write) = rustix::pipe::pipe().expect("a pipe");
        one.send(&vec!["a".repeat(100)], &[write.as_fd(), read.as_fd()]).expect("sent");
        one.send(&1, &[]).expect("sent");
        let (text, descriptors): (Vec<String>, _) = other.receive().expect("received").expect("a message");
        assert_eq!((text[0].len(), descriptors.len()), (100, 2));
        File::from(descriptors.into_iter().next().expect("one")).write_all(b"x").expect("it is the pipe");
        assert_eq!(other.receive::<u8>().expect("received").expect("a message").0, 1);
        drop(one);
        assert!(other.receive::<u8>().expect("the end").is_none());
    }

    #[test]
    fn a_message_that_is_too_long_is_refused_on_both_sides() {
        let (one, other) = Channel::pair().expect("a pair");
        assert!(one.send(&"x".repeat(MAX_MESSAGE_BYTES), &[]).is_err());
        rustix::io::write(&one.0, &u32::MAX.to_le_bytes()).expect("written");
        assert!(other.receive::<u8>().is_err());
    }
}
