//! A link whose two ends run as tasks, and the local sockets of both.

use std::{
    fs::File,
    future::Future,
    io::Read,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use anyhow::{Context, Result};
use bot_bottle_link::{
    ContainerOptions, LauncherOptions, LinkEnd, LocalKind, LocalMessage, container_end, launcher_end,
    receive, send,
};
use tokio::{net::UnixStream, task::JoinHandle};

/// How long anything may take before a test fails. Nothing is measured by it.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Pair {
    pub(crate) launcher: UnixStream,
    pub(crate) container: UnixStream,
    pub(crate) launcher_end: JoinHandle<LinkEnd>,
    pub(crate) container_end: JoinHandle<LinkEnd>,
}

/// Runs a test on one thread, as both ends are run, and fails it when it hangs.
pub(crate) fn run(test: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.context("the test hangs")? })
}

pub(crate) fn pair(kind: LocalKind) -> Result<Pair> {
    with_options(LauncherOptions::new(kind), ContainerOptions::new(kind))
}

pub(crate) fn with_options(of_launcher: LauncherOptions, of_container: ContainerOptions) -> Result<Pair> {
    let (one, other) = UnixStream::pair()?;
    let (launcher, of_launcher_end) = UnixStream::pair()?;
    let (container, of_container_end) = UnixStream::pair()?;
    Ok(Pair {
        launcher,
        container,
        launcher_end: tokio::spawn(launcher_end(one, of_launcher_end, of_launcher)),
        container_end: tokio::spawn(container_end(other, of_container_end, of_container)),
    })
}

impl Pair {
    /// Sends a message with descriptors from the container, and receives it at the launcher.
    pub(crate) async fn hand_over(&self, descriptors: Vec<OwnedFd>) -> Result<Vec<OwnedFd>> {
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        send(&self.container, b"started", &borrowed).await?;
        let message = self.next().await?;
        assert_eq!(message.bytes.as_slice(), b"started");
        Ok(message.descriptors)
    }

    /// The launcher's next message.
    pub(crate) async fn next(&self) -> Result<LocalMessage> {
        receive(&self.launcher).await?.context("no message")
    }
}

/// A socket that the launcher was given for a descriptor.
pub(crate) fn socket(descriptor: OwnedFd) -> Result<UnixStream> {
    let socket = std::os::unix::net::UnixStream::from(descriptor);
    socket.set_nonblocking(true)?;
    Ok(UnixStream::from_std(socket)?)
}

/// Reads a pipe to its end, beside the link.
pub(crate) async fn read_to_end(descriptor: OwnedFd) -> Result<Vec<u8>> {
    let mut file = File::from(descriptor);
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map(|_| bytes)
    });
    Ok(read.await??)
}

/// Writes to a pipe until it has no reader.
pub(crate) async fn wait_for_epipe(pipe: &OwnedFd) -> Result<()> {
    loop {
        match rustix::io::write(pipe, &[b'x'; 512]) {
            Err(rustix::io::Errno::PIPE) => return Ok(()),
            Ok(_) | Err(rustix::io::Errno::AGAIN) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(error) => return Err(error.into()),
        }
    }
}
