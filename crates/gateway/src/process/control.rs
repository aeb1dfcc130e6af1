//! The socket between the launcher and its gateway.

use std::{
    io::{self, IoSliceMut, Read},
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::net::UnixStream},
};

use bot_bottle_core::gateway_config::{ControlMessage, GatewayEvent, GatewayStart, ListenerKind};
use futures_util::StreamExt;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde::Serialize;
use thiserror::Error;
use tokio::{io::AsyncWriteExt, net::unix::OwnedWriteHalf};
use tokio_util::codec::LengthDelimitedCodec;
use zeroize::Zeroizing;

use crate::{
    limits::{MAX_LISTENERS, MAX_START_BYTES},
    listen,
    state::{GatewayError, State},
};

/// The launcher did not start the gateway as agreed.
#[derive(Debug, Error)]
pub enum ControlError {
    /// The socket failed.
    #[error("the launcher's control socket failed: {0}")]
    Socket(#[from] io::Error),
    /// The launcher went away before it had said everything.
    #[error("the launcher closed the control socket before the gateway was started")]
    Closed,
    /// More than a start message can be.
    #[error("the launcher's start message says that it has {0} bytes, which is too many")]
    TooLong(usize),
    /// Not JSON of the agreed shape. What it was is not told: it holds secrets.
    #[error("the launcher's start message cannot be read")]
    Malformed,
    /// What was handed over is not a listening TCP socket, or a bound UDP socket.
    #[error("a descriptor that the launcher handed over is not a socket for {0:?}")]
    WrongSocket(ListenerKind),
    /// It is not said of each socket what it is for.
    #[error("the launcher handed over {sockets} sockets and said of {listeners} what they are for")]
    ListenersUncounted {
        /// What was said.
        listeners: usize,
        /// What came.
        sockets: usize,
    },
    /// Any program of the host could be the bottle.
    #[error(
        "the launcher handed over a socket for an interceptor, and not the token that its connections begin with"
    )]
    NoInterceptorToken,
    /// More than there may be.
    #[error("the launcher handed over more than {MAX_LISTENERS} listening sockets")]
    TooManyListeners,
}

/// A socket that the launcher made, before there is a runtime to serve it.
#[derive(Debug)]
pub(super) struct InheritedSocket {
    pub(super) kind: ListenerKind,
    pub(super) socket: OwnedFd,
}

/// Reads the first message: what the gateway is told, and the sockets that it listens on. Blocks.
pub(super) fn receive(control: &UnixStream) -> Result<(GatewayStart, Vec<InheritedSocket>), ControlError> {
    let mut length = [0; 4];
    let (received, descriptors) = receive_descriptors(control, &mut length)?;
    (&*control).read_exact(&mut length[received..]).map_err(closed)?;
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_START_BYTES {
        return Err(ControlError::TooLong(length));
    }
    let mut message = Zeroizing::new(vec![0; length]);
    (&*control).read_exact(&mut message).map_err(closed)?;
    let start: GatewayStart = serde_json::from_slice(&message).map_err(|_| ControlError::Malformed)?;
    let inherited = inherited(&start, descriptors)?;
    Ok((start, inherited))
}

/// Each socket with what it is for, checked.
pub(super) fn inherited(
    start: &GatewayStart,
    descriptors: Vec<OwnedFd>,
) -> Result<Vec<InheritedSocket>, ControlError> {
    if start.listeners.len() != descriptors.len() {
        return Err(ControlError::ListenersUncounted {
            listeners: start.listeners.len(),
            sockets: descriptors.len(),
        });
    }
    let inherited = start.listeners.iter().zip(descriptors).map(|(&kind, socket)| {
        let is_right = listen::is_of_kind(&socket, kind);
        is_right.then_some(InheritedSocket { kind, socket }).ok_or(ControlError::WrongSocket(kind))
    });
    inherited.collect()
}

/// The first bytes, with the descriptors that are attached to the first of them.
fn receive_descriptors(
    control: &UnixStream,
    bytes: &mut [u8],
) -> Result<(usize, Vec<OwnedFd>), ControlError> {
    // Room for one more than is allowed, so that too many are seen and not silently closed by the kernel.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_LISTENERS + 1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match recvmsg(control, &mut [IoSliceMut::new(bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            received => break received.map_err(io::Error::from)?,
        }
    };
    if received.bytes == 0 {
        return Err(ControlError::Closed);
    }
    let descriptors: Vec<OwnedFd> = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    if descriptors.len() > MAX_LISTENERS {
        return Err(ControlError::TooManyListeners);
    }
    Ok((received.bytes, descriptors))
}

fn closed(error: io::Error) -> ControlError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ControlError::Closed,
        _ => ControlError::Socket(error),
    }
}

/// Tells the launcher that the gateway serves, then carries messages both ways until the launcher is gone.
pub(super) async fn serve(state: &State, control: UnixStream) -> Result<(), ControlError> {
    control.set_nonblocking(true)?;
    let (reader, mut writer) = tokio::net::UnixStream::from_std(control)?.into_split();
    let mut messages =
        LengthDelimitedCodec::builder().little_endian().max_frame_length(MAX_START_BYTES).new_read(reader);
    let mut events = state.questions.events().ok_or(ControlError::Malformed)?;
    let mut renewals = state.renewals.events().ok_or(ControlError::Malformed)?;
    write_line(&mut writer, &state.ready()).await?;
    loop {
        let event = tokio::select! {
            message = messages.next() => match message {
                None => return Ok(()),
                Some(message) => match handle(state, &message?)? {
                    Some(event) => event,
                    None => continue,
                },
            },
            Some(event) = events.recv() => event,
            Some(event) = renewals.recv() => event,
        };
        write_line(&mut writer, &event).await?;
    }
}

fn handle(state: &State, message: &[u8]) -> Result<Option<GatewayEvent>, ControlError> {
    match serde_json::from_slice(message).map_err(|_| ControlError::Malformed)? {
        ControlMessage::Reload { policy, secrets } => Ok(Some(reloaded(state.reload(policy, &secrets.0)))),
        ControlMessage::Renew { secrets, expires, cause } => {
            Ok(Some(reloaded(state.renew(&secrets.0, &expires, cause))))
        }
        ControlMessage::NotRenewed { reference, why } => {
            state.not_renewed(&reference, &why);
            Ok(None)
        }
        ControlMessage::Answer { exchange, allow } => {
            state.questions.answer(exchange, allow);
            Ok(None)
        }
    }
}

fn reloaded(reloaded: Result<(), GatewayError>) -> GatewayEvent {
    match reloaded {
        Ok(()) => GatewayEvent::Reloaded,
        Err(error) => GatewayEvent::NotReloaded { why: error.to_string() },
    }
}

async fn write_line(writer: &mut OwnedWriteHalf, line: &impl Serialize) -> Result<(), ControlError> {
    let mut line = serde_json::to_vec(line).map_err(|_| ControlError::Malformed)?;
    line.push(b'\n');
    Ok(writer.write_all(&line).await?)
}
