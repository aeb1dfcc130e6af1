//! Messages over the link: four bytes of length, little endian, one with the number of descriptors, one for the
//! kind of each, then the message.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use rustix::{
    fs::{OFlags, fcntl_getfl},
    termios::isatty,
};
use zeroize::Zeroizing;

use crate::{
    LinkEnd, MAX_DESCRIPTORS, MAX_MESSAGE_BYTES,
    local::grow,
    pump::{Receiver, Sender},
};

/// What a descriptor of a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DescriptorKind {
    /// The reading end of a pipe.
    Output,
    /// The writing end of a pipe.
    Input,
    /// The controlling side of a terminal.
    Terminal,
}

impl DescriptorKind {
    /// What a descriptor is, or `InvalidInput` if it is none of these.
    pub(crate) fn of(descriptor: BorrowedFd<'_>) -> io::Result<Self> {
        use rustix::fs::{FileType, fstat};
        if isatty(descriptor) {
            return Ok(Self::Terminal);
        }
        let is_pipe = FileType::from_raw_mode(fstat(descriptor)?.st_mode) == FileType::Fifo;
        match fcntl_getfl(descriptor)? & OFlags::RWMODE {
            OFlags::RDONLY if is_pipe => Ok(Self::Output),
            OFlags::WRONLY if is_pipe => Ok(Self::Input),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a descriptor is neither the end of a pipe nor a terminal",
            )),
        }
    }

    /// How many sockets the launcher gets for it.
    pub(crate) fn sockets(self) -> usize {
        match self {
            Self::Output | Self::Input => 1,
            Self::Terminal => 2,
        }
    }

    fn from_byte(byte: u8) -> Result<Self, LinkEnd> {
        match byte {
            0 => Ok(Self::Output),
            1 => Ok(Self::Input),
            2 => Ok(Self::Terminal),
            _ => Err(LinkEnd::violation("a descriptor of an unknown kind")),
        }
    }

    fn byte(self) -> u8 {
        match self {
            Self::Output => 0,
            Self::Input => 1,
            Self::Terminal => 2,
        }
    }
}

/// What each of a message's descriptors is.
pub(crate) fn kinds(descriptors: &[impl AsFd]) -> io::Result<Vec<DescriptorKind>> {
    descriptors.iter().map(|descriptor| DescriptorKind::of(descriptor.as_fd())).collect()
}

/// Writes a message.
pub(crate) async fn write(to: &mut Sender, message: &[u8], kinds: &[DescriptorKind]) -> io::Result<()> {
    let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "message too long");
    let length = u32::try_from(message.len()).map_err(|_| too_long())?;
    let mut head = length.to_le_bytes().to_vec();
    head.push(u8::try_from(kinds.len()).map_err(|_| too_long())?);
    head.extend(kinds.iter().map(|kind| kind.byte()));
    to.write(&head).await?;
    to.write(message).await
}

/// A message, and what its descriptors are.
pub(crate) type Message = (Zeroizing<Vec<u8>>, Vec<DescriptorKind>);

/// Reads a message, or `None` at the end of the data.
pub(crate) async fn read(from: &mut Receiver) -> Result<Option<Message>, LinkEnd> {
    let lost = |_| LinkEnd::Lost(Some("it ended within a message".to_owned()));
    let mut head = [0; 5];
    if !from.fill(&mut head).await.map_err(lost)? {
        return Ok(None);
    }
    let [length @ .., descriptors] = head;
    let length = u32::from_le_bytes(length) as usize;
    let descriptors = usize::from(descriptors);
    if length > MAX_MESSAGE_BYTES || descriptors > MAX_DESCRIPTORS {
        return Err(LinkEnd::violation(format!("a message of {length} bytes and {descriptors} descriptors")));
    }
    let mut kinds = vec![0; descriptors];
    if !from.fill(&mut kinds).await.map_err(lost)? && descriptors > 0 {
        return Err(LinkEnd::Lost(None));
    }
    let kinds = kinds.into_iter().map(DescriptorKind::from_byte).collect::<Result<Vec<_>, _>>()?;
    if kinds.iter().map(|kind| kind.sockets()).sum::<usize>() > MAX_DESCRIPTORS {
        return Err(LinkEnd::violation("a message with too many terminals"));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    while bytes.len() < length {
        let filled = grow(&mut bytes, length);
        if !from.fill(&mut bytes[filled..]).await.map_err(lost)? {
            return Err(LinkEnd::Lost(None));
        }
    }
    Ok(Some((bytes, kinds)))
}
