//! A proxy that forwards everything to one upstream, so that a real program can use a fake API without a
//! gateway.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// Accepts `CONNECT` for any name and dials the one upstream, without any policy.
pub struct ConnectForwarder {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
}

impl ConnectForwarder {
    /// Starts to forward.
    ///
    /// # Errors
    /// When no port of 127.0.0.1 is free.
    pub fn start(upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopped);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                thread::spawn(move || forward(&client, upstream));
            }
        });
        Ok(Self { address, stopped })
    }

    /// For `HTTPS_PROXY`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for ConnectForwarder {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

fn forward(client: &TcpStream, upstream: SocketAddr) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let is_connect = line.starts_with("CONNECT ");
    while line.trim_end() != "" {
        line.clear();
        reader.read_line(&mut line)?;
    }
    if !is_connect {
        return (&*client).write_all(b"HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\n\r\n");
    }
    let upstream = TcpStream::connect(upstream)?;
    (&*client).write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    let (mut from_upstream, mut to_client) = (upstream.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut from_upstream, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Write);
    });
    io::copy(&mut reader, &mut &upstream)?;
    upstream.shutdown(Shutdown::Write)
}
