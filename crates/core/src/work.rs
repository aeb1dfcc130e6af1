//! The words of everything that has to do with an agent's work: the launcher that records its start, the inspector
//! that reads it in a bottle, and the host that takes what comes out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The name of the one entry at the top of every archive: what a file was called does not matter where it goes to.
pub const ARCHIVE_ITEM: &str = "item";

/// A time by the clock of a file system, in seconds and nanoseconds since 1970.
pub type FileTime = (i64, u32);

/// The workspace at the start of the agent, recorded by the launcher.
///
/// A folder without a repository, and one whose repository has no commit, has neither `head` nor `refs`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// The commit of `HEAD`.
    pub head: Option<String>,
    /// Every branch and tag with its object: `refs/heads/main` → id. An annotated tag has the id of the tag.
    pub refs: BTreeMap<String, String>,
    /// A commit whose tree is the tracked files as they were, uncommitted changes included, as
    /// `git stash create` makes one. `None` if there was no such change, or git could not make one.
    pub snapshot: Option<String>,
    /// Seconds and nanoseconds since 1970, on the clock of the workspace's file system: an entry whose ctime is
    /// earlier was not touched by the agent, because no program can set a ctime.
    ///
    /// That clock runs behind `clock_gettime` by up to a tick of the kernel, so the ctime of a file that was
    /// made just before the agent's start is the right value, and the time of day is not.
    pub started: FileTime,
}
