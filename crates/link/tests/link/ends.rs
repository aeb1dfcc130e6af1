use std::{os::fd::OwnedFd, time::Duration};

use anyhow::{Context, Result};
use bot_bottle_link::{
    ContainerOptions, LauncherOptions, LinkEnd, Liveness, LocalKind, container_end, launcher_end, receive,
    send,
};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use crate::pair::{pair, run, socket, wait_for_epipe};

/// Joins two sockets until so many bytes went from the second to the first, then cuts them.
async fn cut_after(mut one: UnixStream, mut other: UnixStream, bytes: usize) {
    let (mut to, mut from) = ([0; 4096], [0; 4096]);
    let mut passed = 0;
    while passed < bytes {
        tokio::select! {
            read = one.read(&mut to) => match read {
                Ok(count @ 1..) if other.write_all(&to[..count]).await.is_ok() => {}
                _ => return,
            },
            read = other.read(&mut from) => match read {
                Ok(count @ 1..) => {
                    let count = count.min(bytes - passed);
                    passed += count;
                    if one.write_all(&from[..count]).await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
        }
    }
}

#[test]
fn a_link_that_is_cut_anywhere_ends_both_ends_and_closes_everything() -> Result<()> {
    run(async {
        for bytes in (0..40).chain([60, 100, 1000, 50_000]) {
            let (of_launcher, one) = UnixStream::pair()?;
            let (of_container, other) = UnixStream::pair()?;
            let (launcher, launcher_local) = UnixStream::pair()?;
            let (container, container_local) = UnixStream::pair()?;
            let (output, program): (OwnedFd, OwnedFd) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
            send(&container, b"started", &[std::os::fd::AsFd::as_fd(&output)]).await?;
            drop(output);
            let options = LauncherOptions::new(LocalKind::Messages);
            let launcher_end = tokio::spawn(launcher_end(of_launcher, launcher_local, options));
            let options = ContainerOptions::new(LocalKind::Messages);
            let container_end = tokio::spawn(container_end(of_container, container_local, options));
            let cut = tokio::spawn(cut_after(one, other, bytes));
            // Keeps bytes coming, so that every cut is reached.
            wait_for_epipe(&program).await.with_context(|| format!("cut after {bytes}"))?;
            cut.await?;
            assert!(matches!(launcher_end.await?, LinkEnd::Lost(_)), "cut after {bytes}");
            assert!(matches!(container_end.await?, LinkEnd::Lost(_)), "cut after {bytes}");
            while let Ok(Some(_)) = receive(&launcher).await {}
        }
        Ok(())
    })
}

#[test]
fn the_end_of_the_link_is_the_end_of_what_the_launcher_was_given() -> Result<()> {
    run(async {
        let pair = pair(LocalKind::Messages)?;
        let (output, _program) = pipe_with(PipeFlags::CLOEXEC)?;
        let given = pair.hand_over(vec![output]).await?;
        pair.container_end.abort();
        assert!(matches!(pair.launcher_end.await?, LinkEnd::Lost(_)));
        let mut rest = Vec::new();
        socket(given.into_iter().next().context("one")?)?.read_to_end(&mut rest).await?;
        assert!(rest.is_empty());
        assert!(receive(&pair.launcher).await?.is_none());
        Ok(())
    })
}

#[test]
fn ends_that_hear_nothing_end() -> Result<()> {
    let liveness = Liveness { interval: Duration::from_millis(50), silence: Duration::from_millis(200) };
    run(async {
        let (stream, mut silent) = UnixStream::pair()?;
        let (_launcher, local) = UnixStream::pair()?;
        let mut options = LauncherOptions::new(LocalKind::Bytes);
        options.liveness = liveness;
        let end = tokio::spawn(launcher_end(stream, local, options));
        silent.write_all(b"bot-bottle link 1 bytes []\n").await?;
        assert!(matches!(end.await?, LinkEnd::Silent(_)));

        let (stream, mut silent) = UnixStream::pair()?;
        let (_container, local) = UnixStream::pair()?;
        let mut options = ContainerOptions::new(LocalKind::Bytes);
        options.liveness = liveness;
        let end = tokio::spawn(container_end(stream, local, options));
        silent.write_all(b"bot-bottle link 1 bytes []\n").await?;
        assert!(matches!(end.await?, LinkEnd::Silent(_)));
        Ok(())
    })
}
