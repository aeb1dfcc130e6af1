//! The state directory of a run, and which runs are alive.
//!
//! A run is alive as long as its launcher holds the lock of its directory. The kernel releases the lock
//! however the launcher ends, so that no process id has to be believed.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{
            ffi::OsStrExt,
            fs::{DirBuilderExt, OpenOptionsExt},
        },
    },
    path::{Path, PathBuf},
};

use bot_bottle_core::identity::Identity;
use rustix::fs::{Dir, Mode, OFlags, openat, openat2};

use crate::{
    agent_folder::{self, AgentFolder},
    files::{remove::remove_tree, rooted_dir::BENEATH},
    home::BotBottleHome,
    image_variables::VARIABLES_FILE,
    kept::FETCHED_FILE,
    request::{Kept, ResumableAgent},
    resource,
};

mod format;
mod start;
mod written;

use format::FORMAT_FILE;
pub(crate) use format::Format;
pub(crate) use start::{START_FILE, StartRecord};
use written::WRITTEN_FILE;
pub(crate) use written::Written;

/// Held while a run is being made or removed, so that `cleanup` does not take one for dead between its
/// directory and its lock.
const REGISTRY_LOCK: &str = ".lock";
const LOCK: &str = "lock";

/// A state directory that is locked by this process.
#[derive(Debug)]
pub(crate) struct RunDirectory {
    path: PathBuf,
    _lock: File,
}

impl RunDirectory {
    /// Makes the directory, which must not be there, and locks it.
    pub(crate) fn create(home: &BotBottleHome, identity: &Identity) -> io::Result<Self> {
        let path = home.run(identity);
        DirBuilder::new().recursive(true).mode(0o700).create(home.state())?;
        let _registry = lock_registry(home)?;
        DirBuilder::new().mode(0o700).create(&path)?;
        let lock = Self::prepare(&path).inspect_err(|_| {
            // Nobody else knows of the directory yet. The first error is the one to report.
            let _ = remove_tree(&path);
        })?;
        Ok(Self { path, _lock: lock })
    }

    /// Locks the directory of a run that ended, so that it goes on; an error of the kind `WouldBlock` if it is
    /// running.
    pub(crate) fn reopen(home: &BotBottleHome, identity: &Identity) -> io::Result<Self> {
        let path = home.run(identity);
        // `cleanup` removes a run while it holds this.
        let _registry = lock_registry(home)?;
        if !path.is_dir() {
            return Err(io::ErrorKind::NotFound.into());
        }
        // It was removed at the end of the run.
        let lock = open_lock(&path)?;
        lock.try_lock()?;
        Ok(Self { path, _lock: lock })
    }

    fn prepare(path: &Path) -> io::Result<File> {
        let lock = open_lock(path)?;
        lock.lock()?;
        Format::write(path)?;
        Ok(lock)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

pub(crate) fn lock_registry(home: &BotBottleHome) -> io::Result<File> {
    let lock = open_lock_file(&home.state().join(REGISTRY_LOCK))?;
    lock.lock()?;
    Ok(lock)
}

fn open_lock(run: &Path) -> io::Result<File> {
    open_lock_file(&run.join(LOCK))
}

fn open_lock_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)
}

/// Whether the launcher of a run lives.
pub(crate) fn is_alive(run: &Path) -> io::Result<bool> {
    RunLock::open(run)?.map_or(Ok(false), |lock| lock.is_held())
}

/// The lock of a run, which its launcher holds until it has cleared up.
pub(crate) struct RunLock(File);

impl RunLock {
    /// None if there is no such run.
    pub(crate) fn open(run: &Path) -> io::Result<Option<Self>> {
        match OpenOptions::new().write(true).open(run.join(LOCK)) {
            Ok(lock) => Ok(Some(Self(lock))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // One run of another user's is enough for it: `sudo` in this user's home.
            Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", run.display()))),
        }
    }

    /// Whether the launcher lives. Answers rightly even after the launcher has unlinked the file: the open
    /// descriptor still has the lock.
    pub(crate) fn is_held(&self) -> io::Result<bool> {
        match self.0.try_lock_shared() {
            Ok(()) => self.0.unlock().map(|()| false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// Gives the folder of a dead run a name that no run has, so that it can be removed while others start. A
/// folder that has such a name keeps it, so that a removal that was interrupted goes on.
pub(crate) fn set_aside(run: &Path) -> io::Result<PathBuf> {
    if identity_of(run).is_none() {
        return Ok(run.to_owned());
    }
    let name = run.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy().into_owned();
    let aside = run.with_file_name(format!(".removing-{name}-{}", std::process::id()));
    fs::rename(run, &aside)?;
    Ok(aside)
}

/// Every folder of the state directory.
pub(crate) fn folders(home: &BotBottleHome) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(home.state()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut folders = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            folders.push(entry.path());
        }
    }
    folders.sort();
    Ok(folders)
}

/// The agent in the folder of a run.
pub(crate) const AGENT_FILE: &str = "agent.json";

/// The plan in the folder of a run.
pub(crate) const PLAN_FILE: &str = "plan.json";

/// The SHA-256 fingerprint of the bottle's CA, in the folder of a run that runs.
pub(crate) const CA_FINGERPRINT_FILE: &str = "ca-fingerprint";

/// The file of decisions in the folder of a run.
pub const RECEIPTS: &str = "receipts.jsonl";

/// Whether a file in the folder of a run holds decisions: the gateway goes on in a new file when one is full, and
/// numbers the older ones (`receipts.jsonl.1`).
fn is_receipts(name: &OsStr) -> bool {
    name.as_bytes().starts_with(RECEIPTS.as_bytes())
}

/// Bytes of what is written about a run: its receipts and logs, and no folder.
pub(crate) fn records_size(run: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(run)? {
        // A file that is renamed or removed meanwhile counts the next time.
        if let Ok(metadata) = entry?.metadata() {
            bytes += if metadata.is_file() { metadata.len() } else { 0 };
        }
    }
    Ok(bytes)
}

/// The runs whose launcher holds their lock.
///
/// # Errors
/// When the state directory cannot be read; one that does not exist holds no run.
pub fn list_active(home: &BotBottleHome) -> io::Result<Vec<Identity>> {
    let mut active = Vec::new();
    for folder in folders(home)? {
        if let Some(identity) = identity_of(&folder)
            && is_alive(&folder)?
        {
            active.push(identity);
        }
    }
    Ok(active)
}

pub(crate) fn identity_of(folder: &Path) -> Option<Identity> {
    folder.file_name()?.to_str()?.parse().ok()
}

/// Whether another version of bot-bottle made a run, which this one may not understand.
#[must_use]
pub fn is_of_another_version(home: &BotBottleHome, identity: &Identity) -> bool {
    Format::of(&home.run(identity)).is_ok_and(|format| format != Format::Current)
}

/// How far a run came, which decides what is kept of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Outcome {
    /// No program ever ran.
    #[default]
    NotStarted,
    /// A program ran, in a workspace that was empty.
    Ran,
    /// A program worked on a copy of the operator's folder.
    Worked,
}

/// What is left of a run that ended.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// What is kept of the agent's.
    pub(crate) kept: Kept,
    /// What was to be removed and could not be, with the reason.
    pub(crate) not_removed: Vec<(PathBuf, io::Error)>,
}

/// Whether the agent made anything in its workspace. What cannot be looked at may hold something.
pub(crate) fn has_work(run: &Path, outcome: Outcome) -> bool {
    if let Some(written) = Written::of(run) {
        return written.has_work(outcome);
    }
    let written = || -> io::Result<bool> {
        let Some(folders) = AgentFolder::of(run).open()? else { return Ok(false) };
        let Some(start) = StartRecord::read(run)? else { return Ok(false) };
        let workspace = folders.workspace.as_fd();
        // A copy that the agent emptied is its work too.
        Ok((outcome == Outcome::Worked || holds_files(workspace)) && start.is_changed(workspace))
    };
    outcome != Outcome::NotStarted && written().unwrap_or(true)
}

/// What there is of the agent's.
pub(crate) fn kept(run: &Path, outcome: Outcome) -> Kept {
    if outcome == Outcome::NotStarted {
        return Kept::default();
    }
    Kept { work: has_work(run, outcome), conversation: has_conversation(run) }
}

/// Whether the agent had a conversation. No program ran without a record of its start.
pub(crate) fn has_conversation(run: &Path) -> bool {
    if let Some(written) = Written::of(run) {
        return written.conversation;
    }
    let looked = || -> io::Result<bool> {
        let (Some(agent), Some(_)) = (read_agent(run)?, StartRecord::read(run)?) else { return Ok(false) };
        let Some(folders) = AgentFolder::of(run).open()? else { return Ok(false) };
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        match openat2(&folders.home, &agent.conversations, flags, Mode::empty(), BENEATH) {
            Ok(conversations) => Ok(holds_files(conversations.as_fd())),
            Err(_) => Ok(false),
        }
    };
    looked().unwrap_or(false)
}

/// The agent of a run, if it can be resumed.
pub(crate) fn read_agent(run: &Path) -> io::Result<Option<ResumableAgent>> {
    match fs::read(run.join(AGENT_FILE)) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether anything lies in an open folder. One that cannot be read may hold something.
pub(crate) fn holds_files(folder: BorrowedFd<'_>) -> bool {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let entries = openat(folder, ".", flags, Mode::empty()).and_then(|folder| Dir::read_from(&folder));
    let Ok(mut entries) = entries else { return true };
    entries.any(|entry| entry.is_ok_and(|entry| !matches!(entry.file_name().to_bytes(), b"." | b"..")))
}

/// Decides what is kept of a run that ended, and removes the rest. An entry that cannot be removed does not
/// stop the others from being removed.
///
/// Work and conversation are kept together, in workspace and home, with the plan. Receipts are kept if there
/// are any and a program ran.
pub(crate) fn settle(run: &Path, outcome: Outcome, there_is: Kept) -> Settled {
    let mut settled = Settled { kept: there_is, not_removed: Vec::new() };
    let decided = fs::metadata(run.join(RECEIPTS)).is_ok_and(|receipts| receipts.len() > 0);
    let kept: &[&str] = match outcome {
        _ if there_is.work || there_is.conversation => {
            &[agent_folder::NAME, PLAN_FILE, AGENT_FILE, START_FILE, FETCHED_FILE, FORMAT_FILE]
        }
        Outcome::Ran | Outcome::Worked if decided => &[FORMAT_FILE],
        Outcome::Ran | Outcome::Worked | Outcome::NotStarted => {
            settled.not_removed.extend(remove_tree(run).err().map(|error| (run.to_owned(), error)));
            return settled;
        }
    };
    // With work in an engine, the list says where it is; otherwise everything in it was released.
    let lists: &[&str] =
        if Written::of(run).is_some() { &[resource::LIST, WRITTEN_FILE, VARIABLES_FILE] } else { &[] };
    match remove_others(run, &[kept, lists].concat()) {
        Ok(not_removed) => settled.not_removed = not_removed,
        Err(error) => settled.not_removed.push((run.to_owned(), error)),
    }
    settled
}

/// Removes everything in the folder of a run except its receipts and what is kept. Returns what could not be
/// removed.
fn remove_others(run: &Path, kept: &[&str]) -> io::Result<Vec<(PathBuf, io::Error)>> {
    let mut not_removed = Vec::new();
    for entry in fs::read_dir(run)? {
        let entry = entry?;
        let name = entry.file_name();
        if is_receipts(&name) || kept.iter().any(|kept| name == *kept) {
            continue;
        }
        let removed = match entry.file_type() {
            Ok(kind) if kind.is_dir() => remove_tree(&entry.path()),
            Ok(_) => fs::remove_file(entry.path()),
            Err(error) => Err(error),
        };
        not_removed.extend(removed.err().map(|error| (entry.path(), error)));
    }
    Ok(not_removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(text: &str) -> Identity {
        text.parse().expect("an identity")
    }

    #[test]
    fn a_run_lives_as_long_as_its_lock_and_is_made_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = BotBottleHome::new(folder.path());
        assert!(list_active(&home).expect("listed").is_empty());
        let run = RunDirectory::create(&home, &identity("agent-aaaaa")).expect("made");
        let again = RunDirectory::create(&home, &identity("agent-aaaaa")).expect_err("occupied");
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(list_active(&home).expect("listed"), [identity("agent-aaaaa")]);
        drop(run);
        assert!(list_active(&home).expect("listed").is_empty());
    }
}
