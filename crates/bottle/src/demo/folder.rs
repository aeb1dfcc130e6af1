//! The temporary folder of a demo, below bot-bottle's own.

use std::{fs, path::Path};

use bot_bottle_core::error::{IoContext, IoError};
use bot_bottle_probe::operator_fixture::OperatorFixture;

/// The prefix of the folder's name.
const PREFIX: &str = "demo-";

/// Creates the folder with the demo's pid in it, and removes the folders of demos that were killed.
pub(super) fn create(bot_bottle_home: &Path, name: &str) -> Result<OperatorFixture, IoError> {
    remove_left_behind(bot_bottle_home);
    let fixture = OperatorFixture::create(bot_bottle_home.join(format!("{PREFIX}{name}")))?;
    let path = fixture.folder().join("pid");
    fs::write(&path, std::process::id().to_string())
        .io_context(|| format!("{} cannot be written", path.display()))?;
    Ok(fixture)
}

fn remove_left_behind(bot_bottle_home: &Path) {
    let Ok(entries) = fs::read_dir(bot_bottle_home) else { return };
    for entry in entries.flatten() {
        let owner = fs::read_to_string(entry.path().join("pid")).ok().and_then(|pid| pid.trim().parse().ok());
        let ended = owner
            .and_then(rustix::process::Pid::from_raw)
            .is_some_and(|pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH));
        if entry.file_name().to_string_lossy().starts_with(PREFIX) && ended {
            let _ = OperatorFixture::remove(&entry.path());
        }
    }
}
