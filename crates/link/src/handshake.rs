//! What each end says first: that it is a link, of which version, and what it carries.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use crate::{LinkEnd, LocalKind};

/// How long the other end may take to begin. An engine may take seconds to start the program.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// Most bytes that are shown of what came instead.
pub const MAX_SHOWN_BYTES: usize = 256;

/// How long more of what came instead is waited for, so that the error shows a line and not its first byte.
const SHOW_TIMEOUT: Duration = Duration::from_millis(200);

/// The first line of both ends: the version of the protocol, what the local sockets carry, and the names of the
/// files. Ends that do not agree on all of that are no pair.
pub(crate) fn first_line<'a>(local: LocalKind, files: impl Iterator<Item = &'a str>) -> String {
    let local = match local {
        LocalKind::Messages => "messages",
        LocalKind::Bytes => "bytes",
    };
    let mut files: Vec<_> = files.collect();
    files.sort_unstable();
    format!("bot-bottle link 1 {local} [{}]\n", files.join(" "))
}

/// Says what this end is and reads that the other is the same. Reads no byte more than the first line.
pub(crate) async fn handshake<S>(stream: &mut S, line: &str) -> Result<(), LinkEnd>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut came = Vec::new();
    match timeout(HANDSHAKE_TIMEOUT, exchange(stream, line.as_bytes(), &mut came)).await {
        Ok(result) => result,
        Err(_) => Err(LinkEnd::HandshakeTimeout { limit: HANDSHAKE_TIMEOUT, said: came }),
    }
}

async fn exchange<S>(stream: &mut S, line: &[u8], came: &mut Vec<u8>) -> Result<(), LinkEnd>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let lost = |error: std::io::Error| LinkEnd::Lost(Some(error.to_string()));
    stream.write_all(line).await.map_err(lost)?;
    stream.flush().await.map_err(lost)?;
    while came.len() < line.len() {
        let mut piece = [0; 64];
        let wanted = piece.len().min(line.len() - came.len());
        let count = stream.read(&mut piece[..wanted]).await.map_err(lost)?;
        came.extend_from_slice(&piece[..count]);
        if !line.starts_with(came) {
            let _ = timeout(SHOW_TIMEOUT, show_more(stream, came)).await;
            return Err(LinkEnd::NotALink(std::mem::take(came)));
        }
        if count == 0 {
            return Err(LinkEnd::Lost(None));
        }
    }
    Ok(())
}

/// Reads on until there is enough to show.
async fn show_more(stream: &mut (impl AsyncRead + Unpin), came: &mut Vec<u8>) {
    let mut piece = [0; MAX_SHOWN_BYTES];
    while let wanted @ 1.. = MAX_SHOWN_BYTES.saturating_sub(came.len()) {
        match stream.read(&mut piece[..wanted]).await {
            Ok(count @ 1..) => came.extend_from_slice(&piece[..count]),
            _ => return,
        }
    }
}
