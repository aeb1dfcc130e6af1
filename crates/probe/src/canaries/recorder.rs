//! Services of the host that nothing in a bottle may reach: whatever arrives is a leak.

use std::{
    io,
    net::{TcpListener, UdpSocket},
    os::unix::net::UnixListener,
    sync::Arc,
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{MAX_LEAK_BYTES, Records};

/// How long a recorder waits for a client's first bytes.
const FIRST_BYTES_TIMEOUT: Duration = Duration::from_millis(300);

/// Starts all of them on the current runtime.
pub(super) fn spawn(
    records: &Arc<Records>,
    mark: &str,
    services: Vec<(TcpListener, UdpSocket)>,
    unix: [UnixListener; 2],
) -> io::Result<()> {
    let reply: Arc<str> =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{mark}", mark.len())
            .into();
    for (tcp, udp) in services {
        let place = format!("the host's service at {}", tcp.local_addr()?);
        record_datagrams(records, &place, mark, tokio::net::UdpSocket::from_std(udp)?);
        let tcp = tokio::net::TcpListener::from_std(tcp)?;
        let (records, reply) = (Arc::clone(records), Arc::clone(&reply));
        tokio::spawn(async move {
            while let Ok((stream, _)) = tcp.accept().await {
                tokio::spawn(record(Arc::clone(&records), place.clone(), Arc::clone(&reply), stream));
            }
        });
    }
    for listener in unix {
        let listener = tokio::net::UnixListener::from_std(listener)?;
        let (records, reply) = (Arc::clone(records), Arc::clone(&reply));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let place = "the host's unix socket".to_owned();
                tokio::spawn(record(Arc::clone(&records), place, Arc::clone(&reply), stream));
            }
        });
    }
    Ok(())
}

fn record_datagrams(records: &Arc<Records>, place: &str, mark: &str, socket: tokio::net::UdpSocket) {
    let (records, place, mark) = (Arc::clone(records), place.to_owned(), mark.to_owned());
    tokio::spawn(async move {
        let mut datagram = [0; MAX_LEAK_BYTES];
        loop {
            // An error reports that an earlier reply was undeliverable (ICMP, udp(7)); the socket itself goes
            // on.
            if let Ok((count, from)) = socket.recv_from(&mut datagram).await {
                records.leaked(place.as_str(), &datagram[..count]);
                let _ = socket.send_to(mark.as_bytes(), from).await;
            }
        }
    });
}

async fn record(
    records: Arc<Records>,
    place: String,
    reply: Arc<str>,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
) {
    let mut said = vec![0; MAX_LEAK_BYTES];
    let count = match tokio::time::timeout(FIRST_BYTES_TIMEOUT, stream.read(&mut said)).await {
        Ok(Ok(count)) => count,
        Ok(Err(_)) | Err(_) => 0,
    };
    records.leaked(place, &said[..count]);
    let _ = stream.write_all(reply.as_bytes()).await;
    let _ = stream.shutdown().await;
}
