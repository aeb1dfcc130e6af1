//! Why a bundle was not imported.

use std::{borrow::Cow, io, path::PathBuf};

use bot_bottle_core::error::{Hint, IoError};

use super::object_id::ObjectId;

/// A bundle was not imported; nothing in the operator's repository refers to it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// A file could not be read or written.
    #[error(transparent)]
    Io(#[from] IoError),
    /// There is no git on the host.
    #[error("git was not found")]
    GitMissing,
    /// The folder is in no repository that git opens.
    #[error("{} cannot be opened as a git repository: {message}", .folder.display())]
    NotARepository {
        /// The folder that was given.
        folder: PathBuf,
        /// What git said.
        message: String,
        /// Whether the reason is that it belongs to another user.
        other_owner: bool,
    },
    /// The stream is no bundle, or not a whole one.
    #[error("what came out of the bottle is not a git bundle: {0}")]
    NotABundle(&'static str),
    /// One of the bounds is exceeded.
    #[error("what came out of the bottle has too many {what}: at most {bound}")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// The bound, in the unit that `what` names.
        bound: u64,
    },
    /// A ref of the bundle has a name that is not accepted.
    #[error("the ref `{name}` of the bottle is refused: {why}")]
    Ref {
        /// The ref, made printable.
        name: String,
        /// Why.
        why: &'static str,
    },
    /// The bundle's objects are named by another hash than the repository's.
    #[error("the bottle's repository has the object format {bundle}, this one has {repository}")]
    ObjectFormat {
        /// Of the bundle.
        bundle: String,
        /// Of the repository.
        repository: String,
    },
    /// The repository lacks commits that the agent's work builds on.
    #[error("the repository lacks {count} of the commits that the agent's work builds on, such as {example}")]
    MissingCommits {
        /// How many are missing.
        count: usize,
        /// One of them.
        example: ObjectId,
        /// Whether the repository is a shallow clone.
        shallow: bool,
    },
    /// The objects are malformed or dangerous.
    #[error("the agent's work is refused: {0}")]
    Refused(String),
    /// The name of the new branch is not one.
    #[error("`{name}` cannot be the name of a branch: {why}")]
    BranchName {
        /// The name, made printable.
        name: String,
        /// Why.
        why: &'static str,
    },
    /// The new branch exists.
    #[error("the branch `{0}` exists already")]
    BranchExists(String),
    /// There is nothing that the new branch could point to.
    #[error("no branch can be made: the agent left no uncommitted changes, and no new commits on {}",
        .head.as_ref().map_or_else(|| "a branch".to_owned(), |head| format!("its branch `{head}`")))]
    NoTip {
        /// The branch that the agent was on.
        head: Option<String>,
    },
    /// Git failed where nothing of the bottle can be the reason.
    #[error("`git {command}` failed: {message}")]
    Git {
        /// The command.
        command: &'static str,
        /// What git said.
        message: String,
    },
}

impl ImportError {
    pub(super) fn io(context: impl Into<String>, error: impl Into<io::Error>) -> Self {
        Self::Io(IoError::new(context, error))
    }

    pub(super) fn too_large(what: &'static str, bound: u64) -> Self {
        Self::TooLarge { what, bound }
    }
}

impl Hint for ImportError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::Io(error) => return error.hint(),
            Self::GitMissing => "install git on the host".into(),
            Self::NotARepository { other_owner: true, .. } => {
                "run the command as the user whom the repository belongs to".into()
            }
            Self::NotARepository { .. } => {
                "run the command in the repository that the run was started in".into()
            }
            Self::MissingCommits { shallow: true, .. } => {
                "this is a shallow clone: `git fetch --unshallow` brings the rest of the history".into()
            }
            Self::MissingCommits { .. } => {
                "run the command in the repository that the run was started in, or `git fetch` there first\n\
                 a patch needs no common commit: `bot-bottle pull ID --patch FILE`"
                    .into()
            }
            Self::ObjectFormat { .. } | Self::Refused(_) | Self::TooLarge { .. } => {
                "the work is still kept: `bot-bottle diff ID` shows it".into()
            }
            Self::BranchName { .. } | Self::BranchExists(_) => "choose another name with `--branch`".into(),
            Self::NoTip { .. } => "without `--branch`, all branches of the agent are brought".into(),
            Self::Git { command: "update-ref", .. } => {
                "an earlier pull may have left refs below refs/bottle/ that stand in the way: \
                 `git for-each-ref refs/bottle` lists them"
                    .into()
            }
            Self::NotABundle(_) | Self::Ref { .. } | Self::Git { .. } => return None,
        })
    }
}
