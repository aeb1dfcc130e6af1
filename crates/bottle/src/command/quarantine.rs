//! The private folder for what came out of a bottle and is not verified yet.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use bot_bottle_core::error::{IoContext, IoError};
use bot_bottle_launch::home::BotBottleHome;

use super::prepare;
use crate::exit::CommandError;

/// How often another name is tried when a folder was removed before it was locked.
const ATTEMPTS: usize = 100;

/// A private folder beside the runs. Removed when dropped.
#[derive(Debug)]
pub(super) struct Quarantine {
    folder: PathBuf,
    /// Held as long as the folder is in use, so that one whose command was killed is told from the others.
    _lock: File,
}

impl Quarantine {
    pub(super) fn create(home: &BotBottleHome) -> Result<Self, CommandError> {
        // What cannot be removed now is in nobody's way.
        let _ = remove_abandoned(home);
        for _ in 0..ATTEMPTS {
            let folder = above(home).join(prepare::identity("look")?.as_str());
            let making = || format!("making {}", folder.display());
            DirBuilder::new().recursive(true).mode(0o700).create(&folder).io_context(making)?;
            let lock = match File::open(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened.io_context(making)?,
            };
            lock.lock().io_context(making)?;
            if folder.is_dir() {
                return Ok(Self { folder, _lock: lock });
            }
        }
        Err(IoError::new(format!("making a folder in {}", above(home).display()), io::ErrorKind::NotFound)
            .into())
    }

    pub(super) fn path(&self) -> &Path {
        &self.folder
    }

    /// A file without a name.
    pub(super) fn file(&self) -> io::Result<File> {
        let path = self.folder.join("stream");
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        fs::remove_file(&path)?;
        Ok(file)
    }
}

impl Drop for Quarantine {
    fn drop(&mut self) {
        // What stays is in a private folder, is nothing that anybody uses, and is removed by the next command.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn above(home: &BotBottleHome) -> PathBuf {
    home.path().join("quarantine")
}

/// Removes the folders of commands that were killed.
pub(super) fn remove_abandoned(home: &BotBottleHome) -> Result<(), CommandError> {
    let above = above(home);
    let entries = match fs::read_dir(&above) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        read => read.io_context(|| format!("reading {}", above.display()))?,
    };
    for folder in entries.flatten().map(|entry| entry.path()) {
        // One that is in use, has just gone or belongs to another user is left alone.
        if let Ok(lock) = File::open(&folder)
            && lock.try_lock().is_ok()
        {
            match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.io_context(|| format!("removing {}", folder.display()))?,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_command_left_is_removed_and_what_is_in_use_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = BotBottleHome::new(folder.path());
        let left = above(&home).join("look-aaaaa");
        fs::create_dir_all(left.join("import-x")).expect("made");
        fs::write(left.join("import-x/bundle"), "x").expect("written");
        let used = Quarantine::create(&home).expect("made");
        assert!(!left.exists());
        remove_abandoned(&home).expect("looked");
        let path = used.path().to_owned();
        assert!(path.is_dir());
        drop(used);
        assert!(!path.exists());
    }
}
