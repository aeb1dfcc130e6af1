//! Carries the connections to the proxy's address in a virtual machine to the machine's network card, which leads to the
//! gateway together with where each connection goes.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};

/// Connections that are carried at a time; a gateway serves no more. One more waits to be accepted.
const MAX_FORWARDED: usize = 1024;

/// How long a connection may take to be made. The gateway is on this host.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long accepting rests after the kernel refused to.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Carries each client of the listener to this address, until the listener fails.
///
/// # Errors
/// When it is none.
pub(super) async fn forward(listener: std::net::TcpListener, to: SocketAddr) -> io::Result<Infallible> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(MAX_FORWARDED));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
        let Ok((client, _)) = listener.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        tokio::spawn(async move {
            let _place = place;
            carry(client, to).await;
        });
    }
}

async fn carry(mut client: TcpStream, to: SocketAddr) {
    let carried = async {
        let mut server = timeout(DIAL_TIMEOUT, TcpStream::connect(to)).await??;
        // Small writes must not wait for acknowledgements: responses of models come word by word.
        server.set_nodelay(true)?;
        client.set_nodelay(true)?;
        copy_bidirectional(&mut client, &mut server).await
    };
    if carried.await.is_err() {
        // A connection that failed is no end of its data. Ignored: the client may be gone.
        let _ = client.set_zero_linger();
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A client of a forwarder to this address.
    async fn client_of(to: SocketAddr) -> TcpStream {
        let front = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = front.local_addr().expect("an address");
        tokio::spawn(forward(front, to));
        TcpStream::connect(address).await.expect("connected")
    }

    #[tokio::test]
    async fn a_connection_is_carried_with_its_half_close() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let mut client = client_of(listener.local_addr().expect("an address")).await;
        client.write_all(b"question").await.expect("written");
        client.shutdown().await.expect("shut down");
        let (mut served, _) = listener.accept().await.expect("accepted");
        let mut read = String::new();
        served.read_to_string(&mut read).await.expect("read to its end");
        served.write_all(b"answer").await.expect("the other direction is open");
        drop(served);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("read to its end");
        assert_eq!((read.as_str(), answer.as_str()), ("question", "answer"));
    }

    #[tokio::test]
    async fn a_connection_that_is_refused_there_is_reset_here() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let mut client = client_of(address).await;
        let error = client.read_u8().await.expect_err("nobody answers");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
