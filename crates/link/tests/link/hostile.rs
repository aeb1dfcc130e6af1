//! A container's end that was taken over, played by hand: yamux frames as bytes
//! (<https://github.com/hashicorp/yamux/blob/master/spec.md>).

use anyhow::{Context, Result};
use bot_bottle_link::{LauncherOptions, LinkEnd, LocalKind, MAX_SHOWN_BYTES, launcher_end};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    task::JoinHandle,
};

use crate::pair::run;

/// Flags of a yamux frame.
const SYN: u16 = 1;
const ACK: u16 = 2;
const FIN: u16 = 4;
const RST: u16 = 8;

struct Hostile {
    stream: UnixStream,
    end: JoinHandle<LinkEnd>,
    _launcher: UnixStream,
}

fn start() -> Result<Hostile> {
    let (stream, of_launcher) = UnixStream::pair()?;
    let (launcher, local) = UnixStream::pair()?;
    let mut options = LauncherOptions::new(LocalKind::Messages);
    options.dials.push(([127, 0, 0, 1], 1).into());
    let end = tokio::spawn(launcher_end(of_launcher, local, options));
    Ok(Hostile { stream, end, _launcher: launcher })
}

async fn after_handshake() -> Result<Hostile> {
    let mut hostile = start()?;
    hostile.stream.write_all(b"bot-bottle link 1 messages []\n").await?;
    let mut line = [0; 30];
    hostile.stream.read_exact(&mut line).await?;
    Ok(hostile)
}

fn frame(stream: u32, flags: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0, 0];
    frame.extend(flags.to_be_bytes());
    frame.extend(stream.to_be_bytes());
    frame.extend((body.len() as u32).to_be_bytes());
    frame.extend(body);
    frame
}

fn header(json: &str) -> Vec<u8> {
    let mut header = (json.len() as u16).to_le_bytes().to_vec();
    header.extend(json.as_bytes());
    header
}

impl Hostile {
    /// The stream that the launcher's end opened with this header.
    async fn stream_of(&mut self, json: &str) -> Result<u32> {
        let wanted = header(json);
        loop {
            let mut head = [0; 12];
            self.stream.read_exact(&mut head).await?;
            let [_, kind, _, _, a, b, c, d, e, f, g, h] = head;
            if kind != 0 {
                continue;
            }
            let mut body = vec![0; u32::from_be_bytes([e, f, g, h]) as usize];
            self.stream.read_exact(&mut body).await?;
            if body == wanted {
                return Ok(u32::from_be_bytes([a, b, c, d]));
            }
        }
    }

    async fn ended_by(mut self, bytes: &[u8]) -> Result<LinkEnd> {
        // The link may end before it has read all.
        let _ = self.stream.write_all(bytes).await;
        let (mut from, _to) = self.stream.split();
        let read = async {
            let mut sink = vec![0; 64 << 10];
            while let Ok(1..) = from.read(&mut sink).await {}
        };
        let (end, ()) = tokio::join!(self.end, read);
        Ok(end?)
    }
}

#[test]
fn streams_that_the_container_may_not_open_end_the_link() -> Result<()> {
    run(async {
        for json in [
            r#""ping""#,
            r#"{"file":"receipts"}"#,
            r#"{"file":"passwd"}"#,
            r#"{"descriptor":0}"#,
            r#""from_container""#,
            r#""unknown""#,
            "garbage",
        ] {
            let end = after_handshake().await?.ended_by(&frame(2, SYN, &header(json))).await?;
            assert!(matches!(end, LinkEnd::Violation(_)), "{json}: {end:?}");
        }
        // The control: a dial, even a refused one, ends nothing.
        let mut hostile = after_handshake().await?;
        let dial = header(r#"{"dial":{"number":0,"address":"127.0.0.1:2"}}"#);
        hostile.stream.write_all(&frame(2, SYN, &dial)).await?;
        loop {
            let mut head = [0; 12];
            hostile.stream.read_exact(&mut head).await?;
            let flags = u16::from_be_bytes([head[2], head[3]]);
            if head[4..8] == 2u32.to_be_bytes() && flags & RST != 0 {
                break;
            }
            if head[1] == 0 {
                let length = u32::from_be_bytes([head[8], head[9], head[10], head[11]]);
                hostile.stream.read_exact(&mut vec![0; length as usize]).await?;
            }
        }
        assert!(!hostile.end.is_finished());
        Ok(())
    })
}

#[test]
fn too_many_streams_end_the_link() -> Result<()> {
    run(async {
        // Each begins a header and does not end it.
        let streams: Vec<u8> = (1..=1000u32).flat_map(|number| frame(2 * number, SYN, &[9])).collect();
        let end = after_handshake().await?.ended_by(&streams).await?;
        assert!(matches!(end, LinkEnd::Violation(_)), "{end:?}");
        Ok(())
    })
}

#[test]
fn messages_beyond_the_limits_end_the_link() -> Result<()> {
    run(async {
        for head in [
            [u32::MAX.to_le_bytes().as_slice(), &[0]].concat(),
            [0u32.to_le_bytes().as_slice(), &[255]].concat(),
            [0u32.to_le_bytes().as_slice(), &[1, 9]].concat(),
            [0u32.to_le_bytes().as_slice(), &[100], [2; 100].as_slice()].concat(),
        ] {
            let mut hostile = after_handshake().await?;
            let stream = hostile.stream_of(r#""from_container""#).await?;
            let end = hostile.ended_by(&frame(stream, ACK, &head)).await?;
            assert!(matches!(end, LinkEnd::Violation(_)), "{head:?}: {end:?}");
        }
        Ok(())
    })
}

#[test]
fn descriptors_without_end_end_the_link() -> Result<()> {
    run(async {
        let mut hostile = after_handshake().await?;
        let stream = hostile.stream_of(r#""from_container""#).await?;
        let message = [0u32.to_le_bytes().as_slice(), &[100], [0; 100].as_slice()].concat();
        let end = hostile.ended_by(&frame(stream, ACK, &message.repeat(3))).await?;
        assert!(matches!(end, LinkEnd::Violation(_)), "{end:?}");
        Ok(())
    })
}

#[test]
fn an_answer_to_no_ping_ends_the_link() -> Result<()> {
    run(async {
        let mut hostile = after_handshake().await?;
        let stream = hostile.stream_of(r#""ping""#).await?;
        let end = hostile.ended_by(&frame(stream, ACK, &[0; 50])).await?;
        assert!(matches!(end, LinkEnd::Violation(_)), "{end:?}");
        Ok(())
    })
}

#[test]
fn a_cut_message_is_no_orderly_end() -> Result<()> {
    run(async {
        let mut hostile = after_handshake().await?;
        let stream = hostile.stream_of(r#""from_container""#).await?;
        let end = hostile.ended_by(&frame(stream, ACK | FIN, &[1, 0])).await?;
        assert!(matches!(end, LinkEnd::Lost(Some(_))), "{end:?}");
        Ok(())
    })
}

#[test]
fn what_an_image_prints_is_shown() -> Result<()> {
    run(async {
        let text = format!("exec format error: /bin/\u{1b}[31mthing\n{}", "x".repeat(10_000));
        let end = start()?.ended_by(text.as_bytes()).await?;
        let LinkEnd::NotALink(came) = &end else { anyhow::bail!("{end:?}") };
        assert_eq!(came.len(), MAX_SHOWN_BYTES);
        let shown = end.to_string();
        assert!(shown.contains("exec format error") && !shown.contains('\u{1b}'), "{shown}");
        Ok(())
    })
}

#[test]
fn an_image_that_prints_nothing_and_ends_is_a_lost_link() -> Result<()> {
    run(async {
        let Hostile { stream, end, _launcher } = start()?;
        drop(stream);
        assert!(matches!(end.await.context("no panic")?, LinkEnd::Lost(_)));
        Ok(())
    })
}
