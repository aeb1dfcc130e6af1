//! A proxy beside a git client that writes its requests in another way, as an agent would to get past a gate.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::rewrites::Rewrite;

/// Where the shim sends what it has rewritten.
#[derive(Clone, Copy)]
pub(super) enum Upstream {
    /// To the server itself: what would happen without a gateway.
    Direct(SocketAddr),
    /// Through the gateway, to the name of the server.
    Gateway(SocketAddr),
}

/// The server's name at the gateway.
pub(super) const HOST: &str = "git.test";

/// Serves a git client on the returned address, until the runtime ends.
pub(super) async fn start(upstream: Upstream, rewrite: &'static Rewrite, knows_git: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(relay(client, upstream, rewrite, knows_git));
        }
    });
    address
}

/// One request and its response; then the connection is closed.
async fn relay(
    mut client: TcpStream,
    upstream: Upstream,
    rewrite: &Rewrite,
    knows_git: bool,
) -> std::io::Result<()> {
    let mut read = Vec::new();
    let head_end = loop {
        if let Some(at) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if client.read_buf(&mut read).await? == 0 {
            return Ok(());
        }
    };
    let head = String::from_utf8_lossy(&read[..head_end]).into_owned();
    let mut lines = head.split("\r\n");
    let mut request_line = lines.next().unwrap_or_default().splitn(3, ' ');
    let (method, target) = (request_line.next().unwrap_or_default(), request_line.next().unwrap_or_default());
    let mut headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = head_end + 4 + length.map_or(0, |(_, value)| value.parse().unwrap_or(0));
    if headers.iter().any(|(name, _)| name == "expect") {
        client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    while read.len() < length {
        if client.read_buf(&mut read).await? == 0 {
            return Ok(());
        }
    }
    headers.retain(|(name, _)| !["host", "connection", "expect"].contains(&name.as_str()));
    headers.push(("host".to_owned(), HOST.to_owned()));
    headers.push(("connection".to_owned(), "close".to_owned()));
    let mut target = rewrite.request(method, target, &mut headers);
    if !knows_git && let Some((path, _)) = target.split_once('?') {
        target.truncate(path.len());
    }
    let (address, prefix) = match upstream {
        Upstream::Direct(address) => (address, String::new()),
        Upstream::Gateway(address) => (address, format!("http://{HOST}")),
    };
    let mut request = format!("{method} {prefix}{target} HTTP/1.1\r\n").into_bytes();
    for (name, value) in headers {
        request.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    request.extend_from_slice(b"\r\n");
    request.extend_from_slice(&read[head_end + 4..]);
    let mut server = TcpStream::connect(address).await?;
    server.write_all(&request).await?;
    tokio::io::copy(&mut server, &mut client).await?;
    client.shutdown().await
}
