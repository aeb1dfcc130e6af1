use anyhow::{Context, Result};
use bot_bottle_link::{LocalKind, receive, send};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::AsyncReadExt;

use crate::pair::{pair, run, socket};

#[test]
fn a_reader_that_does_not_read_blocks_its_own_stream_alone() -> Result<()> {
    const TOTAL: usize = 100 << 20;
    run(async {
        let pair = pair(LocalKind::Messages)?;
        let (blocked_read, blocked) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let (output, program) = pipe_with(PipeFlags::CLOEXEC)?;
        let given = pair.hand_over(vec![blocked_read, output]).await?;
        let [_not_read, given] = <[_; 2]>::try_from(given).map_err(|_| anyhow::anyhow!("two"))?;
        // Filled until everything between here and the reader is full.
        let (mut filled, mut refused) = (0, 0);
        while refused < 20 {
            match rustix::io::write(&blocked, &[b'x'; 4096]) {
                Ok(count) => (filled, refused) = (filled + count, 0),
                Err(_) => {
                    refused += 1;
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
            }
            assert!(filled < 8 << 20, "what waits is bounded");
        }
        let writer = std::thread::spawn(move || {
            use std::io::Write;
            let mut program = std::fs::File::from(program);
            (0..TOTAL >> 20).try_for_each(|_| program.write_all(&vec![b'y'; 1 << 20]))
        });
        let mut output = socket(given)?;
        let mut buffer = vec![0; 64 << 10];
        let mut arrived = 0;
        while let count @ 1.. = output.read(&mut buffer).await? {
            if arrived < TOTAL / 2 && arrived + count >= TOTAL / 2 {
                send(&pair.launcher, b"in between", &[]).await?;
                assert!(receive(&pair.container).await?.is_some(), "a message passes");
            }
            arrived += count;
        }
        assert_eq!(arrived, TOTAL);
        writer.join().ok().context("the writer")??;
        assert!(!pair.launcher_end.is_finished() && !pair.container_end.is_finished());
        Ok(())
    })
}
