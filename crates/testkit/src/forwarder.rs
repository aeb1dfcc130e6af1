//! A proxy that forwards everything to one upstream, so that a real program can use a fake API without a
//! gateway.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// Accepts `CONNECT` for any name and dials the one upstream, without any policy.
pub struct ConnectForwarder {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl ConnectForwarder {
    /// Starts to forward.
    ///
    /// # Errors
    /// When no port of 127.0.0.1 is free.
    pub fn start(upstream: SocketAddr) -> io::Result<Self> {
        Self::start_with(upstream, None)
    }

    /// The same for clients that send this `Proxy-Authorization`, like the proxy of a company.
    ///
    /// # Errors
    /// When no port of 127.0.0.1 is free.
    pub fn with_login(upstream: SocketAddr, login: &str) -> io::Result<Self> {
        Self::start_with(upstream, Some(login))
    }

    fn start_with(upstream: SocketAddr, login: Option<&str>) -> io::Result<Self> {
        let line = login.map(|login| Arc::from(format!("Proxy-Authorization: {login}\r\n")));
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let heads = Arc::clone(&asked);
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopped);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (line, heads) = (line.clone(), Arc::clone(&heads));
                thread::spawn(move || forward(&client, upstream, line.as_deref(), &heads));
            }
        });
        Ok(Self { address, stopped, asked })
    }

    /// The heads of the requests so far.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
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

fn forward(
    client: &TcpStream,
    upstream: SocketAddr,
    login: Option<&str>,
    asked: &Mutex<Vec<String>>,
) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut head = String::new();
    while reader.read_line(&mut head)? > 0 && !head.ends_with("\r\n\r\n") {}
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(head.clone());
    if !head.starts_with("CONNECT ") {
        return (&*client).write_all(b"HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\n\r\n");
    }
    if login.is_some_and(|login| !head.contains(login)) {
        let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"corp\"\r\n\
                       content-length: 0\r\n\r\n";
        return (&*client).write_all(refusal.as_bytes());
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
