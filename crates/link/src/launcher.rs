//! The launcher's end. It trusts nothing that comes over the link.

use std::{
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::net::Shutdown;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{sleep, timeout},
};
use yamux::{Mode, Stream};

use crate::{
    DRAIN_TIMEOUT, FileWriter, LauncherOptions, LinkEnd, LocalKind, MAX_DIALS, MAX_FILES,
    MAX_OPEN_DESCRIPTORS,
    handshake::{first_line, handshake},
    header::{self, HEADER_TIMEOUT, Header},
    liveness, local,
    messages::{self, DescriptorKind},
    mux::{Mux, Opener},
    pump::{BUFFER_BYTES, Direction, Receiver, Sender, both, carry_in, carry_out},
    socket_half::SocketHalf,
    terminal,
};

/// How long the host may take to accept a connection to its own loopback interface.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Tasks that wait to be started.
const MAX_WAITING_TASKS: usize = 16;

type Ended = Result<(), LinkEnd>;

/// One descriptor that is carried.
struct Carried {
    kind: DescriptorKind,
    stream: Stream,
    sockets: Vec<UnixStream>,
    /// Its share of the descriptors that may be open at a time.
    _permit: tokio::sync::OwnedSemaphorePermit,
}

/// Serves the launcher until the link ends. The files are written from tasks that may block; everything else
/// runs on the caller's runtime.
pub async fn launcher_end<S>(stream: S, local: UnixStream, options: LauncherOptions) -> LinkEnd
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let is_finished = Arc::new(AtomicBool::new(false));
    match run(stream, Arc::new(local), options, &is_finished).await {
        LinkEnd::Lost(None) if is_finished.load(Ordering::Relaxed) => LinkEnd::Finished,
        end => end,
    }
}

async fn run<S>(
    mut stream: S,
    local: Arc<UnixStream>,
    options: LauncherOptions,
    is_finished: &Arc<AtomicBool>,
) -> LinkEnd
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let LauncherOptions { local: kind, files, dials, liveness } = options;
    if let Some(&address) = dials.iter().find(|address| !address.ip().is_loopback()) {
        return LinkEnd::NotLoopback(address);
    }
    if files.len() > MAX_FILES {
        return LinkEnd::TooMany("files");
    }
    let line = first_line(kind, files.iter().map(|(name, _)| name.as_str()));
    if let Err(end) = handshake(&mut stream, &line).await {
        return end;
    }
    let (mut mux, opener) = Mux::new(stream, Mode::Client);
    let (carried, mut new) = mpsc::channel(MAX_WAITING_TASKS);
    let mut tasks: JoinSet<Ended> = JoinSet::new();
    let mut dialling: JoinSet<Ended> = JoinSet::new();
    tasks.spawn({
        let opener = opener.clone();
        async move { liveness::ping(opener.open(&Header::Ping).await?, liveness).await }
    });
    for (name, writer) in files {
        tasks.spawn(write_file(opener.clone(), name, writer));
    }
    tasks.spawn(from_launcher(opener.clone(), Arc::clone(&local), kind));
    tasks.spawn(from_container(opener.clone(), Arc::clone(&local), kind, carried, Arc::clone(is_finished)));
    let dials: Arc<[SocketAddr]> = dials.into();
    let gone = launcher_gone(&local);
    tokio::pin!(gone);
    loop {
        tokio::select! {
            biased;
            opened = mux.next() => match opened {
                Err(end) => return end,
                Ok(_) if dialling.len() >= MAX_DIALS => {
                    return LinkEnd::violation("more streams at a time than it may open");
                }
                Ok(stream) => drop(dialling.spawn(dial(opener.clone(), stream, Arc::clone(&dials)))),
            },
            Some(carried) = new.recv() => drop(tasks.spawn(carry(carried))),
            Some(ended) = tasks.join_next() => if let Some(end) = end_of(ended) {
                return end;
            },
            Some(ended) = dialling.join_next() => if let Some(end) = end_of(ended) {
                return end;
            },
            () = &mut gone => return LinkEnd::LauncherGone,
        }
    }
}

/// Whether the end of a task ends the link.
fn end_of(ended: Result<Ended, tokio::task::JoinError>) -> Option<LinkEnd> {
    match ended {
        Ok(result) => result.err(),
        Err(error) => Some(LinkEnd::Lost(Some(error.to_string()))),
    }
}

/// Returns some time after the launcher has closed its socket altogether. The process in the container learns
/// of it as the end of the data, and has that time to end.
async fn launcher_gone(local: &UnixStream) {
    local::hung_up(local).await;
    sleep(DRAIN_TIMEOUT).await;
}

async fn write_file(opener: Opener, name: String, mut writer: FileWriter) -> Ended {
    let mut from = Receiver(opener.open(&Header::File(name.clone())).await?);
    loop {
        let mut buffer = vec![0; BUFFER_BYTES];
        let count = from.read(&mut buffer).await;
        match count.map_err(|_| LinkEnd::Lost(Some(format!("the stream of `{name}` was cut"))))? {
            0 => return Ok(()),
            count => buffer.truncate(count),
        }
        // A disk that is slow must not keep pings from being answered.
        let written = tokio::task::spawn_blocking(move || (writer(&buffer), writer)).await;
        let result;
        (result, writer) = written.map_err(|error| LinkEnd::Lost(Some(error.to_string())))?;
        result.map_err(|source| LinkEnd::File { name: name.clone(), source })?;
    }
}

/// What the launcher says.
async fn from_launcher(opener: Opener, local: Arc<UnixStream>, kind: LocalKind) -> Ended {
    let mut to = Sender(opener.open(&Header::FromLauncher).await?);
    if kind == LocalKind::Bytes {
        if carry_out(&mut SocketHalf(&local), to).await == Direction::Aborted {
            // The launcher's next write fails then.
            let _ = rustix::net::shutdown(&local, Shutdown::Read);
        }
        return Ok(());
    }
    while let Some(message) = local::receive(&local).await.map_err(LinkEnd::Local)? {
        if !message.descriptors.is_empty() {
            let error = "a message to the container has descriptors";
            return Err(LinkEnd::Local(std::io::Error::new(std::io::ErrorKind::InvalidInput, error)));
        }
        if messages::write(&mut to, &message.bytes, &[]).await.is_err() {
            // The process in the container has ended, and its last output is still carried. The launcher's next
            // message fails.
            let _ = rustix::net::shutdown(&local, Shutdown::Read);
            return Ok(());
        }
    }
    to.finish().await;
    Ok(())
}

/// What the container says.
async fn from_container(
    opener: Opener,
    local: Arc<UnixStream>,
    kind: LocalKind,
    carried: mpsc::Sender<Carried>,
    is_finished: Arc<AtomicBool>,
) -> Ended {
    let mut from = Receiver(opener.open(&Header::FromContainer).await?);
    if kind == LocalKind::Bytes {
        if carry_in(from, &mut SocketHalf(&local)).await == Direction::Finished {
            is_finished.store(true, Ordering::Relaxed);
        }
        return Ok(());
    }
    let open = Arc::new(Semaphore::new(MAX_OPEN_DESCRIPTORS));
    let mut number = 0;
    while let Some((bytes, kinds)) = messages::read(&mut from).await? {
        let mut for_launcher: Vec<OwnedFd> = Vec::new();
        for kind in kinds {
            let permit = Arc::clone(&open).try_acquire_owned();
            let permit = permit.map_err(|_| LinkEnd::violation("too many descriptors at a time"))?;
            let stream = opener.open(&Header::Descriptor(number)).await?;
            number += 1;
            let mut sockets = Vec::new();
            for _ in 0..kind.sockets() {
                let (own, other) = std::os::unix::net::UnixStream::pair().map_err(LinkEnd::Local)?;
                own.set_nonblocking(true).map_err(LinkEnd::Local)?;
                sockets.push(UnixStream::from_std(own).map_err(LinkEnd::Local)?);
                for_launcher.push(other.into());
            }
            let new = Carried { kind, stream, sockets, _permit: permit };
            carried.send(new).await.map_err(|_| LinkEnd::Lost(None))?;
        }
        let descriptors: Vec<_> = for_launcher.iter().map(AsFd::as_fd).collect();
        // EPIPE: the launcher reads no more.
        local::send(&local, &bytes, &descriptors).await.map_err(|_| LinkEnd::LauncherGone)?;
    }
    // The launcher may be gone already.
    let _ = rustix::net::shutdown(&local, Shutdown::Write);
    is_finished.store(true, Ordering::Relaxed);
    Ok(())
}

/// Carries one descriptor. However it ends, that is no end of the link.
async fn carry(carried: Carried) -> Ended {
    let Carried { kind, stream, sockets, _permit } = carried;
    let mut sockets = sockets.into_iter();
    match (kind, sockets.next(), sockets.next()) {
        (DescriptorKind::Output, Some(mut socket), None) => {
            carry_in(Receiver(stream), &mut socket).await;
        }
        (DescriptorKind::Input, Some(mut socket), None) => {
            carry_out(&mut socket, Sender(stream)).await;
        }
        (DescriptorKind::Terminal, Some(data), Some(window)) => {
            terminal::launcher_side(stream, data, window).await;
        }
        _ => {}
    }
    Ok(())
}

/// Serves a stream that the container's end has opened, which has to be a dial.
async fn dial(opener: Opener, mut stream: Stream, allowed: Arc<[SocketAddr]>) -> Ended {
    let header = timeout(HEADER_TIMEOUT, header::read(&mut stream)).await;
    let Ok(Ok(Header::Dial { number, address })) = header else {
        return match header {
            Ok(Ok(header)) => Err(LinkEnd::violation(format!("it opened a stream for {header:?}"))),
            Ok(Err(error)) => {
                Err(LinkEnd::violation(format!("it opened a stream that cannot be read: {error}")))
            }
            Err(_) => Err(LinkEnd::violation("it opened a stream and did not say for what")),
        };
    };
    if !allowed.contains(&address) {
        return Ok(());
    }
    let Ok(Ok(connection)) = timeout(DIAL_TIMEOUT, TcpStream::connect(address)).await else {
        return Ok(());
    };
    let answer = opener.open(&Header::Dialled(number)).await?;
    both(Receiver(stream), connection, Sender(answer)).await;
    Ok(())
}
