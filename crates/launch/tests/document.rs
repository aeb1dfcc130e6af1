//! The page about system calls says what the filter's table says.

use std::path::Path;

use bot_bottle_launch::init::system_calls_page;

#[test]
fn the_page_is_not_stale() -> anyhow::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/system-calls.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, system_calls_page())?;
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    anyhow::ensure!(
        written == system_calls_page(),
        "docs/system-calls.md is stale: `UPDATE_DOCS=1 cargo test -p bot-bottle-launch --test document` writes it anew"
    );
    Ok(())
}
