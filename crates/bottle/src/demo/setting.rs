//! What the operator of the demo would have on the host: a home, a bottle, settings, a workspace.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use bot_bottle_probe::{honest::TASK_FILE, stage::Stage};
use thiserror::Error;

use super::{ALLOWED_HOST, OPEN_HOST, TOKEN_REFERENCE};

/// Folders of demos begin so.
const PREFIX: &str = "demo-";

/// The folder of one demo. Dropped, it is gone.
pub(super) struct Setting {
    folder: PathBuf,
}

/// Why the files of the demo could not be written.
#[derive(Debug, Error)]
#[error("the demo cannot write {}: {source}", path.display())]
pub(super) struct SettingError {
    path: PathBuf,
    source: io::Error,
}

impl Setting {
    /// Makes the folder, inside bot-bottle's own, and removes those of demos that were killed.
    pub(super) fn make(bot_bottle_home: &Path, name: &str) -> Result<Self, SettingError> {
        remove_left_behind(bot_bottle_home);
        let folder = bot_bottle_home.join(format!("{PREFIX}{name}"));
        let setting = Self { folder };
        for folder in [
            setting.operator_home().join(".ssh"),
            setting.bot_bottle_home().join("bottles"),
            setting.workspace(),
        ] {
            at(&folder, fs::create_dir_all(&folder))?;
        }
        let owner = setting.folder.join("pid");
        at(&owner, fs::write(&owner, std::process::id().to_string()))?;
        Ok(setting)
    }

    /// Writes what the operator would have written.
    pub(super) fn write(&self, stage: &Stage, mark: &str) -> Result<(), SettingError> {
        let authority = self.folder.join("embedded-ca.pem");
        let bottle = format!(
            "---\n\
             egress:\n\
             \x20 routes:\n\
             \x20   - host: {ALLOWED_HOST}\n\
             \x20     auth: {{scheme: Bearer, token_ref: {TOKEN_REFERENCE}}}\n\
             \x20     matches:\n\
             \x20       - paths: [{{type: prefix, value: /v1/}}]\n\
             \x20         methods: [GET, POST]\n\
             \x20   - host: {OPEN_HOST}\n\
             ---\n\
             The bottle of the demo.\n"
        );
        let ports = stage.ports();
        let mut settings = format!(
            "egress:\n\
             \x20 extra_ca: [{}]\n\
             \x20 resolve:\n\
             \x20   {ALLOWED_HOST}: \"127.0.0.1:{}\"\n\
             \x20   {OPEN_HOST}: \"127.0.0.1:{}\"\n",
            serde_json::Value::from(authority.display().to_string()),
            ports.allowed,
            ports.open
        );
        // Reachable, so that nothing but the policy keeps the agent from them.
        for name in stage.unlisted_names() {
            settings.push_str(&format!("    {name}: \"127.0.0.1:{}\"\n", ports.unlisted));
        }
        let files = [
            (authority, stage.ca_certificate().to_owned()),
            (self.bot_bottle_home().join("bottles/demo.md"), bottle),
            (self.bot_bottle_home().join("settings.yml"), settings),
            (self.secret_file(), format!("a key of the operator: {mark}\n")),
            (self.workspace().join(TASK_FILE.0), TASK_FILE.1.to_owned()),
            (
                self.workspace().join("README.md"),
                "# A workspace\n\nThe agent works on a copy of it.\n".to_owned(),
            ),
        ];
        for (path, text) in files {
            at(&path, fs::write(&path, text))?;
        }
        Ok(())
    }

    /// Everything of the demo.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The operator's home.
    pub(super) fn operator_home(&self) -> PathBuf {
        self.folder.join("home")
    }

    /// Where the demo's bottle keeps its files.
    pub(super) fn bot_bottle_home(&self) -> PathBuf {
        self.folder.join("home/.bot-bottle")
    }

    /// What the operator would not show to anyone.
    pub(super) fn secret_file(&self) -> PathBuf {
        self.operator_home().join(".ssh/id_demo")
    }

    /// The operator's project.
    pub(super) fn workspace(&self) -> PathBuf {
        self.folder.join("workspace")
    }

    /// A service of the operator. The name is short because a socket's path may have 107 bytes (unix(7)).
    pub(super) fn unix_socket(&self) -> PathBuf {
        self.folder.join("s")
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        // The next demo tries again.
        let _ = fs::remove_dir_all(&self.folder);
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

fn at<T>(path: &Path, result: io::Result<T>) -> Result<T, SettingError> {
    result.map_err(|source| SettingError { path: path.to_owned(), source })
}
