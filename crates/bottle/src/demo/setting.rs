//! Where the demo writes what its operator would have written.

use std::{fs, path::Path};

use bot_bottle_probe::setting::{Setting, SettingError};

/// Folders of demos begin so.
const PREFIX: &str = "demo-";

/// Makes the folder of a demo inside bot-bottle's own, and removes those of demos that were killed.
pub(super) fn make(bot_bottle_home: &Path, name: &str) -> Result<Setting, SettingError> {
    remove_left_behind(bot_bottle_home);
    let setting = Setting::make(bot_bottle_home.join(format!("{PREFIX}{name}")))?;
    let path = setting.folder().join("pid");
    match fs::write(&path, std::process::id().to_string()) {
        Ok(()) => Ok(setting),
        Err(source) => Err(SettingError { path, source }),
    }
}

fn remove_left_behind(bot_bottle_home: &Path) {
    let Ok(entries) = fs::read_dir(bot_bottle_home) else { return };
    for entry in entries.flatten() {
        let owner = fs::read_to_string(entry.path().join("pid")).ok().and_then(|pid| pid.trim().parse().ok());
        let ended = owner
            .and_then(rustix::process::Pid::from_raw)
            .is_some_and(|pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH));
        if entry.file_name().to_string_lossy().starts_with(PREFIX) && ended {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
