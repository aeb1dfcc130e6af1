use std::os::fd::AsFd;

use anyhow::{Context, Result};
use bot_bottle_link::{LinkEnd, LocalKind, MAX_MESSAGE_BYTES, receive, send};
use proptest::prelude::*;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::pair::{pair, read_to_end, run, socket, wait_for_epipe};

#[test]
fn messages_arrive_in_order_both_ways() -> Result<()> {
    run(async {
        let pair = pair(LocalKind::Messages)?;
        let messages = [vec![b'a'; 3], Vec::new(), vec![b'b'; 3 << 20], b"end".to_vec()];
        for (from, to) in [(&pair.launcher, &pair.container), (&pair.container, &pair.launcher)] {
            let sent = async {
                for message in &messages {
                    send(from, message, &[]).await?;
                }
                anyhow::Ok(())
            };
            let received = async {
                for message in &messages {
                    let received = receive(to).await?.context("a message")?;
                    assert!(received.bytes.as_slice() == message.as_slice());
                }
                anyhow::Ok(())
            };
            tokio::try_join!(sent, received)?;
        }
        Ok(())
    })
}

#[test]
fn pipes_end_in_each_direction_by_themselves() -> Result<()> {
    run(async {
        let pair = pair(LocalKind::Messages)?;
        let (stdin, stdin_other) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stdout_other, stdout) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr_other, stderr) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let given = pair.hand_over(vec![stdin_other, stdout_other, stderr_other]).await?;
        let [to_stdin, from_stdout, from_stderr] =
            <[_; 3]>::try_from(given).map_err(|_| anyhow::anyhow!("three"))?;
        let (mut to_stdin, mut from_stdout) = (socket(to_stdin)?, socket(from_stdout)?);
        rustix::io::write(&stdout, b"output")?;
        let mut output = [0; 6];
        from_stdout.read_exact(&mut output).await?;
        assert_eq!(&output, b"output");

        to_stdin.write_all(b"input").await?;
        to_stdin.shutdown().await?;
        assert_eq!(read_to_end(stdin).await?, b"input", "the end of the input");

        drop(from_stderr);
        wait_for_epipe(&stderr).await?;

        rustix::io::write(&stdout, b"last")?;
        drop(stdout);
        let mut rest = Vec::new();
        from_stdout.read_to_end(&mut rest).await?;
        assert_eq!(rest, b"last", "the end of the output");
        Ok(())
    })
}

#[test]
fn whoever_writes_to_a_program_that_closed_its_input_gets_epipe() -> Result<()> {
    run(async {
        let pair = pair(LocalKind::Messages)?;
        let (stdin, stdin_other) = pipe_with(PipeFlags::CLOEXEC)?;
        let given = pair.hand_over(vec![stdin_other]).await?;
        let mut to_stdin = socket(given.into_iter().next().context("one")?)?;
        to_stdin.write_all(b"x").await?;
        let mut byte = [0; 1];
        let stdin = tokio::task::spawn_blocking(move || rustix::io::read(&stdin, &mut byte).map(|_| stdin));
        drop(stdin.await??);
        let error = loop {
            match to_stdin.write_all(b"x").await {
                Ok(()) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
        Ok(())
    })
}

#[test]
fn what_a_program_wrote_arrives_although_the_first_process_has_ended() -> Result<()> {
    run(async {
        let pair = pair(LocalKind::Messages)?;
        let (output, program) = pipe_with(PipeFlags::CLOEXEC)?;
        let given = pair.hand_over(vec![output]).await?;
        rustix::io::write(&program, &[b'x'; 40_000])?;
        drop((program, pair.container));
        let mut arrived = Vec::new();
        socket(given.into_iter().next().context("one")?)?.read_to_end(&mut arrived).await?;
        assert_eq!(arrived.len(), 40_000);
        assert!(receive(&pair.launcher).await?.is_none(), "the end of the messages");
        assert!(matches!(pair.container_end.await?, LinkEnd::Finished));
        assert!(matches!(pair.launcher_end.await?, LinkEnd::Finished));
        Ok(())
    })
}

#[test]
fn a_message_to_a_first_process_that_has_ended_costs_no_output() -> Result<()> {
    run(async {
        let pair = pair(LocalKind::Messages)?;
        let (output, program) = pipe_with(PipeFlags::CLOEXEC)?;
        let given = pair.hand_over(vec![output]).await?;
        drop(pair.container);
        for _ in 0..20 {
            if send(&pair.launcher, b"signal", &[]).await.is_err() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        rustix::io::write(&program, b"last words")?;
        drop(program);
        let mut arrived = Vec::new();
        socket(given.into_iter().next().context("one")?)?.read_to_end(&mut arrived).await?;
        assert_eq!(arrived, b"last words");
        assert!(matches!(pair.launcher_end.await?, LinkEnd::Finished));
        Ok(())
    })
}

#[test]
fn descriptors_go_to_the_launcher_alone() -> Result<()> {
    run(async {
        let pair = pair(LocalKind::Messages)?;
        let (read, _write) = pipe_with(PipeFlags::CLOEXEC)?;
        send(&pair.launcher, b"start", &[read.as_fd()]).await?;
        assert!(matches!(pair.launcher_end.await?, LinkEnd::Local(_)));
        assert!(matches!(pair.container_end.await?, LinkEnd::Lost(_)));
        Ok(())
    })
}

#[test]
fn descriptors_of_another_kind_end_the_link() -> Result<()> {
    run(async {
        let pair = pair(LocalKind::Messages)?;
        let null = std::fs::File::open("/dev/null")?;
        send(&pair.container, b"started", &[null.as_fd()]).await?;
        assert!(matches!(pair.container_end.await?, LinkEnd::Local(_)));
        Ok(())
    })
}

#[test]
fn a_local_message_that_is_too_long_ends_the_link() -> Result<()> {
    run(async {
        let mut pair = pair(LocalKind::Messages)?;
        assert!(send(&pair.launcher, &vec![0; MAX_MESSAGE_BYTES + 1], &[]).await.is_err());
        pair.container.write_all(&u32::MAX.to_le_bytes()).await?;
        assert!(matches!(pair.container_end.await?, LinkEnd::Local(_)));
        Ok(())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn however_output_is_cut_into_pieces_it_arrives_whole(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..6000), 1..12),
    ) {
        let result = run(async {
            let pair = pair(LocalKind::Messages)?;
            let (output, program) = pipe_with(PipeFlags::CLOEXEC)?;
            let given = pair.hand_over(vec![output]).await?;
            let whole = pieces.concat();
            let writer = tokio::task::spawn_blocking(move || {
                for piece in pieces {
                    let written = rustix::io::write(&program, &piece)?;
                    assert_eq!(written, piece.len(), "a pipe that blocks takes everything");
                }
                anyhow::Ok(())
            });
            let mut arrived = Vec::new();
            socket(given.into_iter().next().context("one")?)?.read_to_end(&mut arrived).await?;
            writer.await??;
            assert!(arrived == whole);
            Ok(())
        });
        prop_assert!(result.is_ok(), "{result:?}");
    }
}
