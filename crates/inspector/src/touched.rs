//! What an agent touched in a folder, by the times that no program can set.

use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use bot_bottle_core::work::FileTime;

/// When the content, name, mode or owner of a file last changed.
pub(crate) fn ctime(found: &Metadata) -> FileTime {
    (found.ctime(), u32::try_from(found.ctime_nsec()).unwrap_or_default())
}

/// When a file was made, where the file system knows that (statx(2)).
pub(crate) fn birth(found: &Metadata) -> Option<FileTime> {
    let since = found.created().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some((i64::try_from(since.as_secs()).ok()?, since.subsec_nanos()))
}

/// Whether the entry at a path was touched since then. What is not there was not.
pub(crate) fn is_touched(path: &Path, started: FileTime) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| ctime(&found) >= started)
}

/// A file that the agent made or changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Touched {
    /// Relative to the folder.
    pub(crate) path: PathBuf,
    /// Whether the agent made it. One of unknown age counts as changed.
    pub(crate) is_new: bool,
    /// In bytes.
    pub(crate) size: u64,
}

/// Everything below a folder that the agent touched, sorted, but for what lies in `.git` folders and in
/// `except`. A folder that cannot be read is named in `left_out`.
pub(crate) fn files(
    folder: &Path,
    except: &[PathBuf],
    started: FileTime,
    left_out: &mut Vec<String>,
) -> Vec<Touched> {
    let mut touched = Vec::new();
    walk(folder, except, left_out, &mut |path, found| {
        if !found.is_dir() && ctime(found) >= started {
            touched.push(Touched {
                path: path.to_owned(),
                is_new: birth(found).is_some_and(|birth| birth >= started),
                size: found.len(),
            });
        }
        true
    });
    touched.sort();
    touched
}

/// Whether the agent touched any file or folder, deleted ones included, whose folder is touched. Files of
/// git's own do not count: looking at a repository writes its index.
pub(crate) fn is_any(folder: &Path, started: FileTime) -> bool {
    if is_touched(folder, started) {
        return true;
    }
    let mut any = false;
    walk(folder, &[], &mut Vec::new(), &mut |_, found| {
        any = ctime(found) >= started;
        !any
    });
    any
}

/// Visits every entry below a folder until `visit` returns false.
fn walk(
    top: &Path,
    except: &[PathBuf],
    left_out: &mut Vec<String>,
    visit: &mut dyn FnMut(&Path, &Metadata) -> bool,
) {
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) => {
                left_out.push(format!("{} cannot be read: {error}", folder.display()));
                continue;
            }
        };
        for entry in entries.flatten() {
            let path = entry.path();
            if entry.file_name() == ".git" || except.contains(&path) {
                continue;
            }
            let Ok(found) = entry.metadata() else { continue };
            if !visit(path.strip_prefix(top).unwrap_or(&path), &found) {
                return;
            }
            if found.is_dir() {
                folders.push(path);
            }
        }
    }
}
