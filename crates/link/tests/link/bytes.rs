use anyhow::Result;
use bot_bottle_link::{LinkEnd, LocalKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::pair::{pair, run};

#[test]
fn each_direction_of_a_byte_stream_ends_by_itself() -> Result<()> {
    run(async {
        let mut pair = pair(LocalKind::Bytes)?;
        pair.launcher.write_all(b"question").await?;
        pair.launcher.shutdown().await?;
        let mut question = Vec::new();
        pair.container.read_to_end(&mut question).await?;
        assert_eq!(question, b"question");
        pair.container.write_all(b"answer").await?;
        drop(pair.container);
        let mut answer = Vec::new();
        pair.launcher.read_to_end(&mut answer).await?;
        assert_eq!(answer, b"answer");
        assert!(matches!(pair.container_end.await?, LinkEnd::Finished));
        assert!(matches!(pair.launcher_end.await?, LinkEnd::Finished));
        Ok(())
    })
}
