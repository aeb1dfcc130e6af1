//! Each key of a bottle is enforced or refused: the table of `docs/backends/docker.md` is what this test finds.

use std::path::Path;

use anyhow::Result;
use bot_bottle_testkit::check_table_of_keys;

use crate::fixture::Home;

#[test]
fn the_table_of_keys_is_what_is_done_with_them() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/backends/docker.md");
    let image = home.host.image.as_str();
    check_table_of_keys(&page, "docker", ("docker", image), |bottle| {
        home.write("bottles/one.md", bottle)?;
        let options = ["run", "--bottle", "one", "--backend", "docker", "--image", image];
        let mut command = home.command(&[&options[..], &["--dry-run", "--", "true"]].concat());
        Ok(command.env("TOKEN", "x").output()?)
    })
}
