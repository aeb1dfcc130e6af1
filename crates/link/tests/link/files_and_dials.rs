use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use anyhow::Result;
use bot_bottle_link::{ContainerOptions, LauncherOptions, LinkEnd, LocalKind};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::pair::{run, with_options};

#[test]
fn a_file_arrives_in_order() -> Result<()> {
    run(async {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        let arrived = Arc::new(Mutex::new(Vec::new()));
        let mut of_launcher = LauncherOptions::new(LocalKind::Bytes);
        let file = Arc::clone(&arrived);
        of_launcher.files.push((
            "receipts".to_owned(),
            Box::new(move |bytes| {
                file.lock().map_err(|_| io::ErrorKind::Other)?.extend_from_slice(bytes);
                Ok(())
            }),
        ));
        let mut of_container = ContainerOptions::new(LocalKind::Bytes);
        of_container.files.push(("receipts".to_owned(), read));
        let pair = with_options(of_launcher, of_container)?;
        let lines: Vec<u8> = (0..20_000).flat_map(|line| format!("{line}\n").into_bytes()).collect();
        let expected = lines.clone();
        let writer = tokio::task::spawn_blocking(move || {
            use std::io::Write;
            std::fs::File::from(write).write_all(&lines)
        });
        writer.await??;
        drop(pair.container);
        assert!(matches!(pair.container_end.await?, LinkEnd::Finished));
        assert!(*arrived.lock().expect("no panic") == expected, "all of it, before the link ended");
        Ok(())
    })
}

#[test]
fn a_full_disk_ends_the_link() -> Result<()> {
    run(async {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        let mut of_launcher = LauncherOptions::new(LocalKind::Bytes);
        of_launcher.files.push(("receipts".to_owned(), Box::new(|_| Err(io::ErrorKind::StorageFull.into()))));
        let mut of_container = ContainerOptions::new(LocalKind::Bytes);
        of_container.files.push(("receipts".to_owned(), read));
        let pair = with_options(of_launcher, of_container)?;
        rustix::io::write(&write, b"{}\n")?;
        match pair.launcher_end.await? {
            LinkEnd::File { name, source } => {
                assert_eq!((name.as_str(), source.kind()), ("receipts", io::ErrorKind::StorageFull));
            }
            end => anyhow::bail!("{end}"),
        }
        assert!(matches!(pair.container_end.await?, LinkEnd::Lost(_)));
        Ok(())
    })
}

#[test]
fn ends_that_name_other_files_are_no_pair() -> Result<()> {
    run(async {
        let (read, _write) = pipe_with(PipeFlags::CLOEXEC)?;
        let mut of_container = ContainerOptions::new(LocalKind::Bytes);
        of_container.files.push(("passwd".to_owned(), read));
        let pair = with_options(LauncherOptions::new(LocalKind::Bytes), of_container)?;
        let end = pair.launcher_end.await?;
        assert!(matches!(&end, LinkEnd::NotALink(_)) && end.to_string().contains("passwd"), "{end}");
        Ok(())
    })
}

#[test]
fn a_connection_reaches_an_address_of_the_list_and_no_other() -> Result<()> {
    run(async {
        let listen = || TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let (host, secret) = (listen().await?, listen().await?);
        let (allowed, forbidden) = (listen().await?, listen().await?);
        let (to_allowed, to_forbidden) = (allowed.local_addr()?, forbidden.local_addr()?);
        let mut of_launcher = LauncherOptions::new(LocalKind::Bytes);
        of_launcher.dials.push(host.local_addr()?);
        let mut of_container = ContainerOptions::new(LocalKind::Bytes);
        of_container.dials.push((allowed.into_std()?, host.local_addr()?));
        of_container.dials.push((forbidden.into_std()?, secret.local_addr()?));
        let pair = with_options(of_launcher, of_container)?;

        let refused = TcpStream::connect(to_forbidden).await?.read(&mut [0; 1]).await;
        assert_eq!(refused.expect_err("a reset").kind(), io::ErrorKind::ConnectionReset);

        let mut client = TcpStream::connect(to_allowed).await?;
        client.write_all(b"question").await?;
        client.shutdown().await?;
        let (mut server, _) = host.accept().await?;
        let mut question = Vec::new();
        server.read_to_end(&mut question).await?;
        assert_eq!(question, b"question");
        server.write_all(b"answer").await?;
        drop(server);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await?;
        assert_eq!(answer, b"answer", "after the end of the question");
        let nobody = tokio::time::timeout(std::time::Duration::ZERO, secret.accept()).await;
        assert!(nobody.is_err(), "nobody dialled it");
        assert!(!pair.launcher_end.is_finished());
        Ok(())
    })
}

#[test]
fn only_loopback_addresses_can_be_listed() -> Result<()> {
    run(async {
        let mut of_launcher = LauncherOptions::new(LocalKind::Bytes);
        of_launcher.dials.push(SocketAddr::from(([192, 0, 2, 1], 80)));
        let pair = with_options(of_launcher, ContainerOptions::new(LocalKind::Bytes))?;
        assert!(matches!(pair.launcher_end.await?, LinkEnd::NotLoopback(_)));
        Ok(())
    })
}
