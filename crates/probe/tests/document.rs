//! The page about the attempts says what the table says.

use std::path::Path;

use bot_bottle_probe::document;

#[test]
fn the_page_is_not_stale() -> anyhow::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/attempts.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, document::markdown())?;
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    anyhow::ensure!(
        written == document::markdown(),
        "docs/attempts.md is stale: `UPDATE_DOCS=1 cargo test -p bot-bottle-probe` writes it anew"
    );
    Ok(())
}
