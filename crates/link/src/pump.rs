//! Carries one direction of data between a descriptor and a yamux stream.

use std::{io, time::Duration};

use futures_util::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use yamux::Stream;

/// Bytes that are read at once.
pub(crate) const BUFFER_BYTES: usize = 64 << 10;

/// How a direction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// All data was written where it was to go.
    Finished,
    /// The reader is gone, or the link has ended.
    Aborted,
}

/// The side of a stream that writes. Dropped before it has finished, it resets the stream.
pub(crate) struct Sender(pub(crate) Stream);

impl Sender {
    /// Writes; `Err` if the reader is gone.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await
    }

    /// Returns when the reader is gone. The reading side never writes, so whatever comes is its end.
    pub(crate) async fn reader_gone(&mut self) {
        let _ = self.0.read(&mut [0; 1]).await;
    }

    /// Ends the data, and waits until the other end has written all of it and ends the stream.
    pub(crate) async fn finish(mut self) -> Direction {
        if self.0.is_closed() || self.0.close().await.is_err() {
            return Direction::Aborted;
        }
        self.reader_gone().await;
        Direction::Finished
    }
}

/// The side of a stream that reads. Dropped before the end of the data, it resets the stream.
pub(crate) struct Receiver(pub(crate) Stream);

impl Receiver {
    /// Reads; 0 at the end of the data, `BrokenPipe` if the writer or the link went away before.
    pub(crate) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer).await? {
            // After a FIN this side is still open; after a RST, and when the link has ended, it is closed.
            0 if self.0.is_closed() => Err(io::ErrorKind::BrokenPipe.into()),
            count => Ok(count),
        }
    }

    /// Fills the buffer; false if the data ended before its first byte.
    pub(crate) async fn fill(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read(&mut buffer[filled..]).await? {
                0 if filled == 0 => return Ok(false),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => filled += count,
            }
        }
        Ok(true)
    }
}

/// From a descriptor to the link.
pub(crate) async fn carry_out(from: &mut (impl AsyncRead + Unpin), mut to: Sender) -> Direction {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            () = to.reader_gone() => return Direction::Aborted,
        };
        match read {
            Ok(0) => return to.finish().await,
            Ok(count) => {
                if to.write(&buffer[..count]).await.is_err() {
                    return Direction::Aborted;
                }
            }
            Err(_) => return Direction::Aborted,
        }
    }
}

/// From the link to a descriptor, which is shut down at the end of the data.
pub(crate) async fn carry_in(mut from: Receiver, to: &mut (impl AsyncWrite + Unpin)) -> Direction {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match from.read(&mut buffer).await {
            // A reader that is gone already needs no end.
            Ok(0) => {
                let _ = to.shutdown().await;
                return Direction::Finished;
            }
            Ok(count) => {
                if to.write_all(&buffer[..count]).await.is_err() {
                    return Direction::Aborted;
                }
            }
            Err(_) => return Direction::Aborted,
        }
    }
}

/// Both directions of a connection. When one of them is aborted the connection is reset, because TCP has no way
/// to say that the reader alone is gone.
pub(crate) async fn both(from: Receiver, mut connection: TcpStream, to: Sender) {
    let aborted = {
        let (mut reader, mut writer) = connection.split();
        let (carry_in, carry_out) = (carry_in(from, &mut writer), carry_out(&mut reader, to));
        tokio::pin!(carry_in, carry_out);
        let (first, second) = tokio::select! {
            first = &mut carry_in => match first {
                Direction::Finished => (first, carry_out.await),
                Direction::Aborted => (first, first),
            },
            first = &mut carry_out => match first {
                Direction::Finished => (first, carry_in.await),
                Direction::Aborted => (first, first),
            },
        };
        [first, second].contains(&Direction::Aborted)
    };
    if aborted {
        reset(&connection);
    }
}

/// Makes a connection end with a RST when it is closed (SO_LINGER with a time of 0, socket(7)).
pub(crate) fn reset(connection: &TcpStream) {
    // Without it the connection ends as if the data had.
    let _ = rustix::net::sockopt::set_socket_linger(connection, Some(Duration::ZERO));
}
