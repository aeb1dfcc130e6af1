//! A terminal over one stream: what its programs write one way; the operator's input and window sizes the other.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use futures_util::{
    AsyncReadExt as _, AsyncWriteExt as _,
    io::{ReadHalf, WriteHalf},
};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        UnixStream,
        unix::{ReadHalf as ReadHalfOfSocket, pipe},
    },
};
use yamux::Stream;

use crate::{local, pump::BUFFER_BYTES};

/// Largest piece of input, in bytes.
const MAX_INPUT_BYTES: usize = 4096;

/// Bytes of a window size: rows and columns, each of two bytes in native order.
const WINDOW_BYTES: usize = 4;

/// What a frame of the operator's side holds. Its length follows, in two bytes, little endian.
const INPUT: u8 = 0;
const WINDOW: u8 = 1;

/// The launcher's end: joins the stream with the data socket and the window socket.
pub(crate) async fn launcher_side(stream: Stream, mut data: UnixStream, window: UnixStream) {
    let (mut from_link, to_link) = stream.split();
    // The same socket once more, to be looked at while both of its halves are in use.
    let Ok(watched) = data.as_fd().try_clone_to_owned() else { return };
    let (from_operator, mut to_operator) = data.split();
    let output = async {
        let mut buffer = vec![0; BUFFER_BYTES];
        while let Ok(count @ 1..) = from_link.read(&mut buffer).await {
            if to_operator.write_all(&buffer[..count]).await.is_err() {
                break;
            }
        }
    };
    // Whichever ends first hangs up: this drops the stream, and both sockets. A socket that is closed ends it even
    // while what it said cannot be sent, because the programs do not read.
    tokio::select! {
        biased;
        () = output => {}
        () = operator_frames(from_operator, window, to_link) => {}
        () = local::hung_up(&watched) => {}
    }
}

/// Sends input and window sizes until the operator's side is closed.
async fn operator_frames(
    mut data: ReadHalfOfSocket<'_>,
    mut window: UnixStream,
    mut to_link: WriteHalf<Stream>,
) {
    let mut input = [0; MAX_INPUT_BYTES];
    let mut size = [0; WINDOW_BYTES];
    let mut filled = 0;
    let mut has_window = true;
    loop {
        let sent = tokio::select! {
            read = data.read(&mut input) => match read {
                Ok(count @ 1..) => frame(&mut to_link, INPUT, &input[..count]).await,
                _ => return,
            },
            read = window.read(&mut size[filled..]), if has_window => match read {
                Ok(count @ 1..) => {
                    filled += count;
                    if filled < WINDOW_BYTES {
                        continue;
                    }
                    filled = 0;
                    frame(&mut to_link, WINDOW, &size).await
                }
                _ => {
                    has_window = false;
                    Ok(())
                }
            },
        };
        if sent.is_err() {
            return;
        }
    }
}

async fn frame(to: &mut WriteHalf<Stream>, kind: u8, bytes: &[u8]) -> io::Result<()> {
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    let mut frame = vec![kind];
    frame.extend(length.to_le_bytes());
    frame.extend(bytes);
    to.write_all(&frame).await
}

/// The container's end: joins the stream with the controlling side, which is closed when this returns.
pub(crate) async fn container_side(stream: Stream, controller: OwnedFd) -> io::Result<()> {
    rustix::io::ioctl_fionbio(&controller, true)?;
    // Tokio's ends of pipes read and write any descriptor that can be polled; unchecked, because this is no pipe.
    let input = pipe::Sender::from_owned_fd_unchecked(controller.try_clone()?)?;
    let programs = pipe::Receiver::from_owned_fd_unchecked(controller)?;
    let (from_link, to_link) = stream.split();
    // The launcher's end ends the stream when it has written the last output, and when its side is closed.
    tokio::select! {
        () = operator_actions(from_link, input) => {}
        () = output(programs, to_link) => {}
    }
    Ok(())
}

/// Carries output until the last program has closed the terminal, then waits for the launcher's end.
async fn output(mut programs: pipe::Receiver, mut to_link: WriteHalf<Stream>) {
    let mut buffer = vec![0; BUFFER_BYTES];
    // EIO: no program has the terminal open.
    while let Ok(count @ 1..) = programs.read(&mut buffer).await {
        if to_link.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
    if to_link.close().await.is_ok() {
        std::future::pending::<()>().await;
    }
}

/// Does what the operator's side says, until it hangs up.
async fn operator_actions(mut from_link: ReadHalf<Stream>, mut controller: pipe::Sender) {
    let mut bytes = [0; MAX_INPUT_BYTES];
    loop {
        let mut head = [0; 3];
        if from_link.read_exact(&mut head).await.is_err() {
            return;
        }
        let length = usize::from(u16::from_le_bytes([head[1], head[2]]));
        let Some(bytes) = bytes.get_mut(..length) else { return };
        if from_link.read_exact(bytes).await.is_err() {
            return;
        }
        match (head[0], &*bytes) {
            // Fails when the programs are gone; their last output is still carried.
            (INPUT, input) => tokio::select! {
                biased;
                _ = controller.write_all(input) => {}
                // Reading nothing returns when the stream has ended, whatever waits in it: programs that do not
                // read their input are hung up too.
                _ = from_link.read(&mut []) => return,
            },
            (WINDOW, &[a, b, c, d]) => {
                let (ws_row, ws_col) = (u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]));
                // Fails only for a terminal that is gone.
                let _ = tcsetwinsize(&controller, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 });
            }
            _ => return,
        }
    }
}
