//! Hands the listening sockets of an agent's container to its gateway's container, over a Unix socket in a volume
//! that both have.
//!
//! The socket lies in a folder that only [`GATEWAY_USER`] may enter. The gateway runs as that user, and the first
//! process of the agent's container becomes it for a moment, which it can while it has CAP_SETUID; the programs of
//! the bottle cannot. The gateway takes one connection, of that user, and the socket is gone before any of those
//! programs runs.

use std::{
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::Path,
    time::{Duration, Instant},
};

use bot_bottle_core::{
    error::{IoContext, IoError},
    gateway_config::ListenerKind,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::Uid,
    io::Errno,
    process::geteuid,
    thread::set_thread_res_uid,
};

use crate::{channel::Channel, sys};

/// As whom the gateway runs in its container: nobody's number, and that of no program of a bottle.
pub(crate) const GATEWAY_USER: u32 = 65_532;

/// Name of the socket in its folder.
const SOCKET: &str = "listeners.sock";

/// How long either side waits for the other.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How long to wait before connecting again to a gateway that does not listen yet.
const PAUSE: Duration = Duration::from_millis(5);

/// The sockets that were handed over, each with what it is for.
#[derive(Debug)]
pub struct HandedOver {
    /// What each of them is for.
    pub kinds: Vec<ListenerKind>,
    /// The sockets.
    pub sockets: Vec<OwnedFd>,
}

/// Sends sockets to the gateway that waits in this folder. Needs CAP_SETUID.
pub(crate) fn send(folder: &Path, kinds: &[ListenerKind], sockets: &[OwnedFd]) -> Result<(), IoError> {
    // Every file system access below is that of the gateway's user.
    set_user(GATEWAY_USER).io_context(|| "becoming the gateway's user")?;
    let sent = connect(&folder.join(SOCKET)).and_then(|channel| {
        let descriptors: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
        channel.set_timeout(Some(TIMEOUT))?;
        channel.send(&kinds, &descriptors)
    });
    set_user(0).io_context(|| "becoming root again")?;
    sent.io_context(|| "handing the listeners over to the gateway")
}

/// The effective user; the real and the saved one stay.
fn set_user(user: u32) -> rustix::io::Result<()> {
    set_thread_res_uid(None, Uid::from_raw(user), None)
}

fn connect(socket: &Path) -> io::Result<Channel> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return Ok(Channel::new(stream.into())),
            Err(error) if Instant::now() >= deadline => return Err(error),
            // It is not there yet, or nobody listens yet.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                std::thread::sleep(PAUSE);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Waits for the sockets: listens in the folder since [`Self::listen`], takes one connection, and removes the
/// socket.
#[derive(Debug)]
pub struct Receiver<'a> {
    folder: &'a Path,
    listener: UnixListener,
}

impl<'a> Receiver<'a> {
    /// Listens in a folder that no other user may enter.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn listen(folder: &'a Path) -> io::Result<Self> {
        let listener = UnixListener::bind(folder.join(SOCKET))?;
        Ok(Self { folder, listener })
    }

    /// Takes the sockets.
    ///
    /// # Errors
    /// When nobody connects in time, another user does, or what comes is not understood. There is no second try.
    pub fn receive(self) -> io::Result<HandedOver> {
        let received = self.take();
        fs::remove_file(self.folder.join(SOCKET))?;
        received
    }

    fn take(&self) -> io::Result<HandedOver> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).ok();
            match poll(&mut [PollFd::new(&self.listener, PollFlags::IN)], left.as_ref()) {
                Ok(0) => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "nobody handed listeners over"));
                }
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let (stream, _) = self.listener.accept()?;
        // The kernel tells it, unix(7).
        let peer = sys::peer_user(stream.as_fd())?;
        if peer != geteuid().as_raw() {
            let who = format!("user {peer} connected, who is not the gateway's");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, who));
        }
        let channel = Channel::new(stream.into());
        channel.set_timeout(Some(TIMEOUT))?;
        let message = channel.receive::<Vec<ListenerKind>>()?;
        let (kinds, sockets) = message.ok_or(io::ErrorKind::UnexpectedEof)?;
        if kinds.len() != sockets.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not said of each what it is for"));
        }
        Ok(HandedOver { kinds, sockets })
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, net::TcpListener, os::unix::fs::PermissionsExt, thread};

    use super::*;

    fn listener() -> OwnedFd {
        TcpListener::bind("127.0.0.1:0").expect("a listener").into()
    }

    /// What a receiver makes of one connection.
    fn received(talk: impl FnOnce(UnixStream) + Send) -> (io::Result<HandedOver>, bool) {
        let folder = tempfile::tempdir().expect("a folder");
        let receiver = Receiver::listen(folder.path()).expect("listening");
        let socket = folder.path().join(SOCKET);
        let received = thread::scope(|scope| {
            scope.spawn(|| talk(UnixStream::connect(&socket).expect("connected")));
            receiver.receive()
        });
        (received, socket.exists())
    }

    #[test]
    fn one_connection_hands_its_sockets_over_and_the_socket_is_gone() {
        let (received, is_there) = received(|stream| {
            let (one, kinds) = (listener(), vec![ListenerKind::Proxy]);
            Channel::new(stream.into()).send(&kinds, &[one.as_fd()]).expect("sent");
        });
        let received = received.expect("received");
        assert_eq!((received.kinds, received.sockets.len()), (vec![ListenerKind::Proxy], 1));
        assert!(!is_there);
    }

    /// A peer whose effective user is this one; the rest of the process keeps its own.
    fn hands_over_as(user: u32) -> impl FnOnce(&Path) + Send {
        move |socket| {
            set_user(user).expect("this thread's user");
            let stream = UnixStream::connect(socket).expect("the socket is open to all");
            let (one, kinds) = (listener(), vec![ListenerKind::Proxy]);
            // EPIPE: it was refused before it had said anything.
            let _ = Channel::new(stream.into()).send(&kinds, &[one.as_fd()]);
        }
    }

    #[test]
    fn another_user_hands_nothing_over() {
        let own = geteuid();
        if !own.is_root() {
            // Not eprintln!, whose text the test harness shows only when the test fails.
            let reason = "SKIPPED another_user_hands_nothing_over: this user cannot become another\n";
            let _ = std::io::stderr().write_all(reason.as_bytes());
            return;
        }
        for (user, is_taken) in [(own.as_raw(), true), (65_533, false)] {
            let folder = tempfile::tempdir().expect("a folder");
            let receiver = Receiver::listen(folder.path()).expect("listening");
            let socket = folder.path().join(SOCKET);
            // In a container the folder's mode keeps others away already.
            for (path, mode) in [(folder.path(), 0o755), (&socket, 0o777)] {
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("opened");
            }
            let received = thread::scope(|scope| {
                scope.spawn(|| hands_over_as(user)(&socket));
                receiver.receive()
            });
            assert_eq!(received.is_ok(), is_taken, "{user}: {received:?}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_and_the_socket_is_gone() {
        let talks: [Box<dyn FnOnce(UnixStream) + Send>; 3] = [
            Box::new(|mut stream| stream.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("written")),
            Box::new(drop),
            Box::new(|stream| {
                let kinds = vec![ListenerKind::Proxy, ListenerKind::DnsUdp];
                Channel::new(stream.into()).send(&kinds, &[listener().as_fd()]).expect("sent");
            }),
        ];
        for talk in talks {
            let (received, is_there) = received(talk);
            assert!(received.is_err() && !is_there, "{received:?}");
        }
    }
}
