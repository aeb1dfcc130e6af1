use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use bot_bottle_link::LocalKind;
use rustix::{
    io::Errno,
    pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{OptionalActions, tcgetattr, tcgetwinsize, tcsetattr},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use crate::pair::{Pair, pair, run, socket};

/// A terminal of which the launcher has both sockets; the side of the program.
async fn terminal(pair: &Pair) -> Result<(OwnedFd, UnixStream, UnixStream)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let controller = openpt(flags)?;
    grantpt(&controller)?;
    unlockpt(&controller)?;
    let program = ioctl_tiocgptpeer(&controller, flags)?;
    let mut raw = tcgetattr(&program)?;
    raw.make_raw();
    tcsetattr(&program, OptionalActions::Now, &raw)?;
    let mut given = pair.hand_over(vec![controller]).await?.into_iter();
    let data = socket(given.next().context("data")?)?;
    let window = socket(given.next().context("window")?)?;
    Ok((program, data, window))
}

#[test]
fn a_terminal_carries_input_output_and_its_size() -> Result<()> {
    run(async {
        let pair = pair(LocalKind::Messages)?;
        let (program, mut data, mut window) = terminal(&pair).await?;
        data.write_all(b"typed").await?;
        let read = tokio::task::spawn_blocking(move || {
            let mut typed = [0; 5];
            let mut filled = 0;
            while filled < typed.len() {
                filled += rustix::io::read(&program, &mut typed[filled..])?;
            }
            anyhow::Ok((program, typed))
        });
        let (program, typed) = read.await??;
        assert_eq!(&typed, b"typed");

        window.write_all(&[33u16.to_ne_bytes(), 99u16.to_ne_bytes()].concat()).await?;
        loop {
            let size = tcgetwinsize(&program)?;
            if (size.ws_row, size.ws_col) == (33, 99) {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }

        rustix::io::write(&program, b"shown")?;
        drop(program);
        let mut shown = Vec::new();
        data.read_to_end(&mut shown).await?;
        assert_eq!(shown, b"shown", "up to the end of the terminal");
        Ok(())
    })
}

#[test]
fn a_terminal_hangs_up_when_the_launcher_closes_it() -> Result<()> {
    run(async {
        let pair = pair(LocalKind::Messages)?;
        let (program, data, _window) = terminal(&pair).await?;
        rustix::io::write(&program, b"it is open")?;
        drop(data);
        // A terminal without its controlling side: writing fails with EIO.
        while rustix::io::write(&program, b"x") != Err(Errno::IO) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        Ok(())
    })
}

#[test]
fn a_terminal_whose_input_nobody_reads_hangs_up_too() -> Result<()> {
    run(async {
        let pair = pair(LocalKind::Messages)?;
        let (program, mut data, _window) = terminal(&pair).await?;
        // More than the terminal, the link and the sockets hold.
        let stuck = tokio::spawn(async move {
            loop {
                if data.write_all(&[b'x'; 4096]).await.is_err() {
                    return;
                }
            }
        });
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        assert!(!stuck.is_finished());
        stuck.abort();
        while rustix::io::write(&program, b"x") != Err(Errno::IO) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        Ok(())
    })
}
