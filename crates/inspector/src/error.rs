//! Why a request has no answer.

use std::{borrow::Cow, path::PathBuf};

use bot_bottle_core::error::{Hint, IoError};
use thiserror::Error;

const NO_GIT: &str =
    "install git on the host or in the image of the bottle, or copy the files with `bot-bottle cp`";
const NO_REPOSITORY: &str = "copy the files with `bot-bottle cp`";
const SHALLOW: &str = "take a patch with `bot-bottle pull --patch FILE`";

/// The advice that errors of this program carry. The agent's programs run beside it and can write to its standard
/// error, so the host shows no other advice as its own.
pub const HINTS: [&str; 3] = [NO_GIT, NO_REPOSITORY, SHALLOW];

/// Why a request has no answer.
#[derive(Debug, Error)]
pub enum InspectError {
    /// The agent made nothing that the request could show.
    #[error("the agent changed nothing")]
    Nothing,
    /// Not a [`crate::Request`].
    #[error("the request cannot be read: {0}")]
    Request(#[source] serde_json::Error),
    /// The request needs git, and the bottle has none.
    #[error("git is not installed in the bottle")]
    NoGit,
    /// The request needs a repository.
    #[error("{} has no git repository", .0.display())]
    NoRepository(PathBuf),
    /// A git command failed.
    #[error("`git {command}` failed: {why}")]
    Git {
        /// Its first argument.
        command: String,
        /// The last line that it wrote to standard error.
        why: String,
    },
    /// A bundle would start at the cut of a shallow clone, and nothing could be fetched from it.
    #[error("the clone in {} is shallow: the parents of its oldest commits are missing", .0.display())]
    Shallow(PathBuf),
    /// A path that is in neither of the folders that are kept.
    #[error("{path} is not kept: only {home} and {workspace} are")]
    NotKept {
        /// As it was asked for.
        path: String,
        /// The agent's home, as the agent names it.
        home: String,
        /// Its workspace.
        workspace: String,
    },
    /// Nothing is at that path.
    #[error("{0} does not exist in the bottle")]
    NotThere(String),
    /// A path that ends with `/`, and is no folder.
    #[error("{} is not a folder in the bottle", .0.display())]
    NoFolder(PathBuf),
    /// An entry of an archive whose name is not one of ours.
    #[error("the archive has an entry `{0}`, which is not below `item`")]
    StrayEntry(String),
    /// A file would replace a folder or the other way round.
    #[error("{} is {found} in the bottle, and {wanted} in the archive", .path.display())]
    OtherKind {
        /// Where.
        path: PathBuf,
        /// What is there.
        found: &'static str,
        /// What should be.
        wanted: &'static str,
    },
    /// Something else that the system refused.
    #[error(transparent)]
    System(#[from] IoError),
}

impl InspectError {
    /// The exit code of the program: 3 if there is nothing to show, otherwise 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::Nothing) { 3 } else { 1 }
    }
}

impl Hint for InspectError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::NoGit => NO_GIT.into(),
            Self::NoRepository(_) => NO_REPOSITORY.into(),
            Self::Shallow(_) => SHALLOW.into(),
            _ => return None,
        })
    }
}
