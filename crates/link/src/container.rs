//! The container's end.

use std::{
    collections::HashMap,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::net::Shutdown;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixStream, unix::pipe},
    sync::{Semaphore, oneshot, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use yamux::{Mode, Stream};

use crate::{
    ContainerOptions, DRAIN_TIMEOUT, LinkEnd, LocalKind, MAX_DIALS, MAX_FILES, MAX_OPEN_DESCRIPTORS,
    handshake::{first_line, handshake},
    header::{self, HEADER_TIMEOUT, Header},
    liveness, local,
    messages::{self, DescriptorKind},
    mux::{Mux, Opener},
    pump::{Direction, Receiver, Sender, both, carry_in, carry_out, reset},
    socket_half::SocketHalf,
    terminal,
};

/// How long a listener waits after a connection could not be accepted: accept(2) fails while there are too many
/// descriptors.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

type Ended = Result<(), LinkEnd>;

/// Counts what has still to be carried out of the container. One is held for as long as that takes.
struct Outgoing(watch::Sender<usize>);

impl Outgoing {
    fn one_more(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// A descriptor of a message, until the launcher's end opens its stream.
struct Waiting {
    kind: DescriptorKind,
    descriptor: OwnedFd,
    outgoing: Option<Outgoing>,
}

/// What the tasks share.
struct Shared {
    local: UnixStream,
    kind: LocalKind,
    opener: Opener,
    outgoing: watch::Sender<usize>,
    descriptors: Mutex<HashMap<u64, Waiting>>,
    files: Mutex<HashMap<String, (OwnedFd, Outgoing)>>,
    dialled: Mutex<HashMap<u64, oneshot::Sender<Stream>>>,
    next_dial: AtomicU64,
    dials: Arc<Semaphore>,
    ping: Mutex<Option<oneshot::Sender<Stream>>>,
    /// Told when the process has ended its part.
    ended: watch::Sender<bool>,
}

/// Serves the process in the container until the link ends.
pub async fn container_end<S>(stream: S, local: UnixStream, options: ContainerOptions) -> LinkEnd
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match run(stream, local, options).await {
        Ok(()) => LinkEnd::Finished,
        Err(end) => end,
    }
}

async fn run<S>(mut stream: S, local: UnixStream, options: ContainerOptions) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let ContainerOptions { local: kind, files, dials, liveness } = options;
    if files.len() > MAX_FILES {
        return Err(LinkEnd::TooMany("files"));
    }
    let line = first_line(kind, files.iter().map(|(name, _)| name.as_str()));
    handshake(&mut stream, &line).await?;
    let (mut mux, opener) = Mux::new(stream, Mode::Server);
    let (outgoing, mut is_carried) = watch::channel(0);
    let (ended, mut has_ended) = watch::channel(false);
    let (ping, pinged) = oneshot::channel();
    let files = files.into_iter().map(|(name, file)| (name, (file, Outgoing::one_more(&outgoing))));
    let shared = Arc::new(Shared {
        local,
        kind,
        opener,
        files: Mutex::new(files.collect()),
        outgoing,
        descriptors: Mutex::default(),
        dialled: Mutex::default(),
        next_dial: AtomicU64::new(0),
        dials: Arc::new(Semaphore::new(MAX_DIALS)),
        ping: Mutex::new(Some(ping)),
        ended,
    });
    let mut tasks: JoinSet<Ended> = JoinSet::new();
    tasks.spawn(liveness::answer(pinged, liveness));
    for (listener, address) in dials {
        tasks.spawn(listen(Arc::clone(&shared), listener, address));
    }
    // Connections to the host end with the link, and are not waited for.
    let drained = async {
        let _ = has_ended.wait_for(|ended| *ended).await;
        let _ = timeout(DRAIN_TIMEOUT, is_carried.wait_for(|count| *count == 0)).await;
    };
    tokio::pin!(drained);
    loop {
        tokio::select! {
            biased;
            opened = mux.next() => drop(tasks.spawn(serve(Arc::clone(&shared), opened?))),
            Some(ended) = tasks.join_next() => {
                ended.map_err(|error| LinkEnd::Lost(Some(error.to_string())))??;
            }
            () = &mut drained => break,
        }
    }
    let _ = timeout(DRAIN_TIMEOUT, mux.close()).await;
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves a stream that the launcher's end has opened.
async fn serve(shared: Arc<Shared>, mut stream: Stream) -> Ended {
    let header = timeout(HEADER_TIMEOUT, header::read(&mut stream)).await;
    match header.map_err(|_| LinkEnd::violation("it opened a stream and did not say for what"))? {
        Ok(Header::FromLauncher) => from_launcher(&shared, Receiver(stream)).await,
        Ok(Header::FromContainer) => from_container(&shared, Sender(stream)).await,
        Ok(Header::Ping) => {
            let ping = lock(&shared.ping).take();
            let ping = ping.ok_or_else(|| LinkEnd::violation("it opened a second stream for pings"))?;
            ping.send(stream).map_err(|_| LinkEnd::Lost(None))
        }
        Ok(Header::Descriptor(number)) => {
            let waiting = lock(&shared.descriptors).remove(&number);
            let waiting = waiting.ok_or_else(|| LinkEnd::violation("it opened an unknown descriptor"))?;
            carry(waiting, stream).await
        }
        Ok(Header::File(name)) => {
            let file = lock(&shared.files).remove(&name);
            let (file, _outgoing) = file.ok_or(LinkEnd::UnknownFile(name))?;
            let mut file = pipe::Receiver::from_owned_fd(file).map_err(LinkEnd::Local)?;
            carry_out(&mut file, Sender(stream)).await;
            Ok(())
        }
        Ok(Header::Dialled(number)) => {
            // The connection may have been closed meanwhile: the stream is reset then.
            if let Some(dialled) = lock(&shared.dialled).remove(&number) {
                drop(dialled.send(stream));
            }
            Ok(())
        }
        Ok(header @ Header::Dial { .. }) => {
            Err(LinkEnd::violation(format!("it opened a stream for {header:?}")))
        }
        Err(error) => Err(LinkEnd::violation(format!("it opened a stream that cannot be read: {error}"))),
    }
}

async fn from_launcher(shared: &Shared, mut from: Receiver) -> Ended {
    if shared.kind == LocalKind::Bytes {
        carry_in(from, &mut SocketHalf(&shared.local)).await;
        return Ok(());
    }
    while let Some((bytes, kinds)) = messages::read(&mut from).await? {
        if !kinds.is_empty() {
            return Err(LinkEnd::violation("a message to the container has descriptors"));
        }
        if local::send(&shared.local, &bytes, &[]).await.is_err() {
            // The process has ended; what it had said is still carried.
            return Ok(());
        }
    }
    // The process may have ended already.
    let _ = rustix::net::shutdown(&shared.local, Shutdown::Write);
    Ok(())
}

async fn from_container(shared: &Shared, mut to: Sender) -> Ended {
    if shared.kind == LocalKind::Bytes {
        let carried = async {
            if carry_out(&mut SocketHalf(&shared.local), to).await == Direction::Aborted {
                // The process's next write fails then.
                let _ = rustix::net::shutdown(&shared.local, Shutdown::Read);
            }
            local::hung_up(&shared.local).await;
        };
        let closed = async {
            local::hung_up(&shared.local).await;
            sleep(DRAIN_TIMEOUT).await;
        };
        tokio::select! {
            () = carried => {}
            () = closed => {}
        }
        shared.ended.send_replace(true);
        return Ok(());
    }
    let mut number = 0;
    while let Some(message) = local::receive(&shared.local).await.map_err(LinkEnd::Local)? {
        let kinds = messages::kinds(&message.descriptors).map_err(LinkEnd::Local)?;
        {
            let mut waiting = lock(&shared.descriptors);
            if waiting.len() + kinds.len() > MAX_OPEN_DESCRIPTORS {
                return Err(LinkEnd::TooMany("descriptors"));
            }
            for (&kind, descriptor) in kinds.iter().zip(message.descriptors) {
                let outgoing = (kind != DescriptorKind::Input).then(|| Outgoing::one_more(&shared.outgoing));
                waiting.insert(number, Waiting { kind, descriptor, outgoing });
                number += 1;
            }
        }
        messages::write(&mut to, &message.bytes, &kinds).await.map_err(|_| LinkEnd::Lost(None))?;
    }
    // A launcher that reads no more keeps nothing alive.
    let _ = timeout(DRAIN_TIMEOUT, to.finish()).await;
    shared.ended.send_replace(true);
    Ok(())
}

/// Carries one descriptor. However it ends, that is no end of the link.
async fn carry(waiting: Waiting, stream: Stream) -> Ended {
    let Waiting { kind, descriptor, outgoing: _outgoing } = waiting;
    match kind {
        DescriptorKind::Output => {
            let mut pipe = pipe::Receiver::from_owned_fd(descriptor).map_err(LinkEnd::Local)?;
            carry_out(&mut pipe, Sender(stream)).await;
        }
        DescriptorKind::Input => {
            let mut pipe = pipe::Sender::from_owned_fd(descriptor).map_err(LinkEnd::Local)?;
            carry_in(Receiver(stream), &mut pipe).await;
        }
        DescriptorKind::Terminal => {
            terminal::container_side(stream, descriptor).await.map_err(LinkEnd::Local)?;
        }
    }
    Ok(())
}

/// Accepts connections, at most so many at a time, and carries them to the host.
async fn listen(shared: Arc<Shared>, listener: std::net::TcpListener, address: SocketAddr) -> Ended {
    if !address.ip().is_loopback() {
        return Err(LinkEnd::NotLoopback(address));
    }
    listener.set_nonblocking(true).map_err(LinkEnd::Local)?;
    let listener = TcpListener::from_std(listener).map_err(LinkEnd::Local)?;
    let mut connections: JoinSet<Ended> = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(ended) = connections.join_next() => {
                ended.map_err(|error| LinkEnd::Lost(Some(error.to_string())))??;
                continue;
            }
        };
        match accepted {
            Ok((connection, _)) => {
                let permit = Arc::clone(&shared.dials).acquire_owned().await;
                let permit = permit.map_err(|_| LinkEnd::Lost(None))?;
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    let _permit = permit;
                    dial(&shared, connection, address).await
                });
            }
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn dial(shared: &Shared, connection: TcpStream, address: SocketAddr) -> Ended {
    let number = shared.next_dial.fetch_add(1, Ordering::Relaxed);
    let (answer, dialled) = oneshot::channel();
    lock(&shared.dialled).insert(number, answer);
    let mut to = Sender(shared.opener.open(&Header::Dial { number, address }).await?);
    tokio::select! {
        biased;
        Ok(stream) = dialled => both(Receiver(stream), connection, to).await,
        () = to.reader_gone() => {
            lock(&shared.dialled).remove(&number);
            reset(&connection);
        }
    }
    Ok(())
}
