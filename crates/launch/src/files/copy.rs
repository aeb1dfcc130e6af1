//! Copies a folder of the operator's into a bottle, copy-on-write where the file system can.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use bot_bottle_core::printable::printable;
use thiserror::Error;

use super::{
    exclusions::Exclusions,
    git_credentials::GitCredentials,
    git_metadata::{GitMetadata, is_own, is_shared},
    rooted_dir::{Owner, make_directory},
};

mod file_data;
mod walk;

use walk::{Rules, copy};

/// Deepest nesting of folders that is copied. Each takes two descriptors.
const MAX_DEPTH: usize = 128;

/// Most entries that are copied.
const MAX_ENTRIES: u64 = 5_000_000;

/// Most entries that are named because they cannot be read.
const MAX_UNREADABLE: usize = 20;

/// The bounds of a copy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CopyLimit {
    /// In all files together, in bytes.
    pub(crate) bytes: u64,
}

/// What was copied, and what was not.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Copied {
    /// Files, folders and links.
    pub(crate) entries: u64,
    /// In all files together.
    pub(crate) bytes: u64,
    /// Sockets, FIFOs and devices, which are left out.
    pub(crate) skipped: u64,
    /// Entries that were gone, or changed their kind, between being listed and being copied.
    pub(crate) vanished: u64,
}

/// Why a folder could not be copied.
#[derive(Debug, Error)]
pub enum CopyError {
    /// The system said no.
    #[error("{} cannot be copied: {source}", .path.display())]
    Io {
        /// Relative to the folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The operator may not read these.
    #[error("these cannot be read by you: {}", shown(.0))]
    Unreadable(Vec<PathBuf>),
    /// Nested too deep.
    #[error("{} is nested deeper than {MAX_DEPTH} folders", .0.display())]
    TooDeep(PathBuf),
    /// Too many entries.
    #[error("the folder has more than {MAX_ENTRIES} entries")]
    TooMany,
    /// More bytes than the bottle's disk may hold.
    #[error("the folder has more than {0} bytes, which is what the bottle's disk may hold")]
    TooLarge(u64),
}

fn shown(paths: &[PathBuf]) -> String {
    // In a list, a name must not look like the end of it.
    let names = paths.iter().take(MAX_UNREADABLE).map(|path| printable(&path.to_string_lossy()));
    let names: Vec<_> = names.collect();
    let more = if paths.len() > MAX_UNREADABLE { " and more" } else { "" };
    names.join(", ") + more
}

/// Copies what lies in `source` into the open folder `target`. Links stay links and are never followed. Modes
/// are kept but for set-user-id and set-group-id, and so are times, hard links, holes and the extended attributes of
/// programs; owners are not. Entries
/// that vanish meanwhile are left out.
pub(crate) fn copy_tree(
    source: &Path,
    target: OwnedFd,
    owner: Owner,
    limit: CopyLimit,
) -> Result<Copied, CopyError> {
    let rules = Rules { owner, limit, credentials: None, filter: &|_, _| true, progress: &mut |_| {} };
    copy(source, target, rules).map(|(copied, _)| copied)
}

/// Which entries are copied, by their path below the folder, and whether it is a folder.
type Filter<'a> = &'a dyn Fn(&Path, bool) -> bool;

/// What a copy of a workspace does not have.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct NotCopied {
    /// For the operator: a line for each file from which git's credentials were removed.
    pub(crate) lines: Vec<String>,
    /// Files and folders that were left out whole, below the workspace.
    pub(crate) left_out: Vec<PathBuf>,
}

/// What of git comes along with a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CopiedGit {
    /// The repository, wherever its metadata lies.
    Repository(GitMetadata),
    /// Nothing.
    LeftOut,
}

/// Copies a workspace, as [`copy_tree`] does, but for the credentials that git keeps in it. Metadata that lies
/// elsewhere comes to the place where git looks first.
pub(crate) fn copy_workspace(
    source: &Path,
    target: OwnedFd,
    owner: Owner,
    limit: CopyLimit,
    git: &CopiedGit,
    exclusions: &Exclusions,
    progress: &mut dyn FnMut(&Copied),
) -> Result<NotCopied, CopyError> {
    let mut credentials = GitCredentials::find(source);
    credentials.start_again();
    let is_git_whole = *git == CopiedGit::Repository(GitMetadata::Within);
    let filter = |path: &Path, is_folder: bool| {
        (is_git_whole || path != Path::new(".git")) && !exclusions.excludes(path, is_folder)
    };
    let place = Path::new(".git");
    let made = target.try_clone().map_err(|source| CopyError::Io { path: place.to_owned(), source })?;
    let rules = Rules { owner, limit, credentials: Some(&mut credentials), filter: &filter, progress };
    let (copied, mut left_out) = copy(source, target, rules)?;
    let mut left = limit.bytes - copied.bytes;
    let mut lines = credentials.removed();
    // Its own rules are for what git tracks.
    left_out.retain(|path| path != place);
    if let CopiedGit::Repository(GitMetadata::Elsewhere { own, common }) = git {
        // What the working trees share first: a working tree's own files stand beside them.
        let both: [(&Path, Filter<'_>); 2] =
            [(common, &|path, _| is_shared(path)), (own, &|path, _| is_own(path))];
        for (metadata, filter) in both.into_iter().skip(usize::from(own == common)) {
            let target = make_directory(made.as_fd(), place, 0o755, owner)
                .map_err(|source| CopyError::Io { path: place.to_owned(), source })?;
            let mut credentials = GitCredentials::find_moved(metadata, place);
            credentials.start_again();
            let limit = CopyLimit { bytes: left };
            let rules = Rules { owner, limit, credentials: Some(&mut credentials), filter, progress };
            left -= copy(metadata, target, rules)?.0.bytes;
            lines.extend(credentials.removed());
        }
    }
    Ok(NotCopied { lines, left_out })
}

#[cfg(test)]
mod tests;
