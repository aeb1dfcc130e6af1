//! Secrets that are asked for again while a bottle runs, because they end before the day does.

use std::{
    collections::BTreeMap,
    fmt, fs,
    os::{fd::BorrowedFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use bot_bottle_core::{gateway_config::Secrets, provider::GuestFile, secret::SecretRef};

/// What a launch is asked to renew.
#[derive(Debug, Clone)]
pub struct RenewalRequest {
    /// The secrets.
    pub secrets: Vec<RenewableSecrets>,
    /// The clock that tells when; another one than the host's in tests.
    pub clock: Arc<dyn Clock>,
}

impl Default for RenewalRequest {
    fn default() -> Self {
        Self { secrets: Vec::new(), clock: Arc::new(SystemClock) }
    }
}

/// Some secrets of a bottle that come from one place.
#[derive(Debug, Clone)]
pub struct RenewableSecrets {
    /// Their names.
    pub references: Vec<SecretRef>,
    /// Where from, in a message: `the command \`gh\``.
    pub described: String,
    /// They are asked for again when this file of the host changes.
    pub watched: Option<WatchedFile>,
    /// They are asked for again after this time.
    pub every: Option<Duration>,
    /// Until when they are valid, where that is known: seconds since 1970, UTC.
    pub expires: Option<u64>,
    /// Who is asked.
    pub source: Arc<dyn RenewalSource>,
}

/// Gives the values of secrets.
pub trait RenewalSource: fmt::Debug + Send + Sync {
    /// Asks for the values. May take its time, on a thread of its own; it ends soon when `cancel` has something to
    /// read.
    ///
    /// # Errors
    /// One sentence, without a part of a value.
    fn ask(&self, cancel: BorrowedFd<'_>) -> Result<Renewed, String>;
}

/// Values of secrets.
#[derive(Debug, Default)]
pub struct Renewed {
    /// By their names.
    pub secrets: Secrets,
    /// Until when they are valid, where that is known: seconds since 1970, UTC.
    pub expires: Option<u64>,
    /// Files of the bottle that go with them: dummies of logins, which tell the agent's program when a login ends.
    pub files: Vec<GuestFile>,
}

/// A file of the host, and how it was when it was last looked at.
#[derive(Debug, Clone)]
pub struct WatchedFile {
    path: PathBuf,
    seen: Option<FileStamp>,
}

/// What tells one content of a file from another: a program that renews a login writes or replaces its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileStamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl FileStamp {
    /// Through links, as whoever reads the file follows them. `None` while it is not there.
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

impl WatchedFile {
    /// As it is now. To be made before it is read, so that no change is missed.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { seen: FileStamp::of(&path), path }
    }

    /// Whether it has changed since it was last looked at. A file that is not there has not: it is being replaced, or
    /// the operator has logged out, which ends nothing here.
    pub(crate) fn has_changed(&mut self) -> bool {
        let now = FileStamp::of(&self.path);
        let has_changed = now.is_some() && now != self.seen;
        self.seen = now.or(self.seen);
        has_changed
    }
}

impl RenewableSecrets {
    /// The end of each of them, as a gateway is told.
    #[must_use]
    pub fn ends(&self, expires: Option<u64>) -> BTreeMap<SecretRef, u64> {
        let end = |reference: &SecretRef| Some((reference.clone(), expires?));
        self.references.iter().filter_map(end).collect()
    }
}

/// Tells the time of day.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Now.
    fn now(&self) -> SystemTime;
}

/// The host's clock. It goes on while the host sleeps, as the ends of tokens do.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_changes_when_it_is_written_replaced_or_made_also_behind_a_link() {
        let folder = tempfile::tempdir().expect("a folder");
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        symlink(&real, &link).expect("a link");
        let mut watched = WatchedFile::new(link);
        assert!(!watched.has_changed(), "it is not there");
        fs::write(&real, "1").expect("written");
        assert!(watched.has_changed() && !watched.has_changed());
        fs::write(&real, "12").expect("written");
        assert!(watched.has_changed());
        fs::write(folder.path().join("new"), "34").expect("written");
        fs::rename(folder.path().join("new"), &real).expect("replaced");
        assert!(watched.has_changed());
        fs::remove_file(&real).expect("removed");
        assert!(!watched.has_changed(), "whoever replaces it may remove it first");
        fs::write(&real, "34").expect("written");
        assert!(watched.has_changed());
    }
}
