//! Which files differ between two trees, and whose doing that is.

use std::{collections::BTreeMap, ffi::OsStr, os::unix::ffi::OsStrExt as _, path::Path};

use crate::{InspectError, git::Git, repository::Repository, start::Start};

/// What a tree has at a path: git's mode, `000000` if there is nothing, and the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Six octal digits.
    pub(crate) mode: String,
    /// The id of the blob, or of a submodule's commit.
    pub(crate) object: String,
}

impl Entry {
    /// Whether there is something.
    pub(crate) fn exists(&self) -> bool {
        self.mode != "000000"
    }

    /// Whether it is a submodule, or another repository in this one.
    pub(crate) fn is_repository(&self) -> bool {
        self.mode == "160000"
    }
}

/// A file that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// In the first tree.
    pub(crate) old: Entry,
    /// In the second one.
    pub(crate) new: Entry,
}

/// The files that differ, by path.
pub(crate) type Changes = BTreeMap<Vec<u8>, Change>;

/// The path of a change.
pub(crate) fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// The files that differ between two trees.
pub(crate) fn between(git: &Git, first: &str, second: &str) -> Result<Changes, InspectError> {
    let output =
        git.read(&["diff-tree", "-r", "-z", "--raw", "--no-abbrev", "--no-renames", first, second], b"")?;
    // `:100644 100755 OLD NEW M` and the path, each with a NUL after it: git-diff-tree(1), "raw output format".
    let mut fields = output.split(|byte| *byte == 0);
    let mut changes = Changes::new();
    while let (Some(description), Some(path)) = (fields.next(), fields.next()) {
        let description = String::from_utf8_lossy(description);
        let mut words = description.trim_start_matches(':').split(' ').map(str::to_owned);
        let (Some(old_mode), Some(new_mode), Some(old), Some(new)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        let old = Entry { mode: old_mode, object: old };
        changes.insert(path.to_owned(), Change { old, new: Entry { mode: new_mode, object: new } });
    }
    Ok(changes)
}

/// What of a working tree is not committed and the agent's doing, as changes to `HEAD`.
pub(crate) fn uncommitted(
    repository: &Repository,
    start: &Start,
    tree: &str,
) -> Result<Changes, InspectError> {
    let head_tree = repository.head_tree()?;
    let mut changes = between(&repository.own, &head_tree, tree)?;
    let since_start = between(&repository.own, &start.tree, tree)?;
    let committed = between(&repository.own, &start.head_tree, &head_tree)?;
    // A file that is as it was at the start, and as committed as it was then, is the operator's change.
    changes.retain(|path, _| since_start.contains_key(path) || committed.contains_key(path));
    Ok(changes)
}
