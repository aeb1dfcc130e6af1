//! Commands that change one machine must not overlap, from whichever process they come: smolvm documents that
//! its own lock does not cover all of it.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError, remove_file},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::MachineName;

/// The folder of the locks, in the state directory.
const FOLDER: &str = "locks";

/// How long to wait before the lock is tried again. flock(2) itself has no time limit.
const RETRY: Duration = Duration::from_millis(20);

/// The right to change a machine. It ends with this value, and with the process.
#[derive(Debug)]
pub(crate) struct MachineLock {
    file: File,
    path: PathBuf,
}

impl MachineLock {
    /// Waits for the lock; `None` if it is not free in time.
    pub(crate) fn take(state_dir: &Path, name: &MachineName, limit: Duration) -> io::Result<Option<Self>> {
        let folder = state_dir.join(FOLDER);
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let path = folder.join(name.as_str());
        let deadline = Instant::now() + limit;
        loop {
            let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path)?;
            match file.try_lock() {
                // Who deleted the machine meanwhile has removed the file, and others lock another one.
                Ok(()) if is_at(&file, &path)? => return Ok(Some(Self { file, path })),
                Ok(()) | Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            sleep(RETRY);
        }
    }

    /// Removes the file of a machine that is gone.
    pub(crate) fn remove(self) -> io::Result<()> {
        remove_file(&self.path)?;
        self.file.unlock()
    }
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let locked = file.metadata()?;
    match path.symlink_metadata() {
        Ok(found) => Ok((found.dev(), found.ino()) == (locked.dev(), locked.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time_also_after_a_removal() {
        let folder = tempfile::tempdir().expect("a folder");
        let take = |name: &str| {
            let name = MachineName::new(name).expect("a name");
            MachineLock::take(folder.path(), &name, Duration::ZERO).expect("a lock file")
        };
        let first = take("a").expect("the lock");
        assert!(take("a").is_none(), "it is held");
        assert!(take("b").is_some(), "another machine has another lock");
        first.remove().expect("removing it");
        let second = take("a").expect("the lock of a new file");
        assert!(take("a").is_none(), "it is held");
        drop(second);
        assert!(take("a").is_some());
    }

    #[test]
    fn a_lock_that_was_removed_while_one_waits_is_not_taken() {
        let folder = tempfile::tempdir().expect("a folder");
        let name = MachineName::new("a").expect("a name");
        let take = || MachineLock::take(folder.path(), &name, Duration::ZERO).expect("a lock file");
        let held = take().expect("the lock");
        let waiting = File::open(&held.path).expect("the same file");
        let path = held.path.clone();
        held.remove().expect("removing it");
        waiting.try_lock().expect("nobody holds the old file");
        assert!(!is_at(&waiting, &path).expect("a look at it"));
        let new = take().expect("the lock of a new file");
        assert!(!is_at(&waiting, &path).expect("a look at it"));
        assert!(is_at(&new.file, &path).expect("a look at it"));
    }
}
