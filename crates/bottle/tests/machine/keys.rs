//! Each key of a bottle is enforced or refused: the table of `docs/backends/smolmachines.md` is what this test finds.

use std::{fs, path::Path};

use anyhow::Result;
use bot_bottle_testkit::check_table_of_keys;

use crate::refused::StandIn;

#[test]
fn the_table_of_keys_is_what_is_done_with_them() -> Result<()> {
    let stand_in = StandIn::new("echo smolvm 1.32.2")?;
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/backends/smolmachines.md");
    let bottles = stand_in.home().join(".bot-bottle/bottles");
    fs::create_dir_all(&bottles)?;
    let image = "/images/debian.tar";
    check_table_of_keys(&page, "machine", ("smolmachines", image), |bottle| {
        fs::write(bottles.join("one.md"), bottle)?;
        let options = ["run", "--bottle", "one", "--backend", "smolmachines", "--image", image];
        let mut command = stand_in.command(&[&options[..], &["--dry-run", "--", "true"]].concat())?;
        Ok(command.env("TOKEN", "x").output()?)
    })
}
