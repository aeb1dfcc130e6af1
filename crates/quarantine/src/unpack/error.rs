//! Why an archive was not unpacked.

use std::{borrow::Cow, ffi::OsString, path::PathBuf};

use bot_bottle_core::error::{Hint, IoError};

/// An archive was not unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// A file could not be read or written.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The folder that the destination would be in does not exist.
    #[error("{} is not an existing folder", .0.display())]
    NoFolder(PathBuf),
    /// The item has no name that a file can have.
    #[error("`{}` is no name for a file", .0.display())]
    Name(OsString),
    /// A file exists that was not to be replaced, or cannot be.
    #[error("{} exists already{}", .path.display(), if *.replaceable { "" } else { " and is of another kind" })]
    Exists {
        /// The file.
        path: PathBuf,
        /// Whether `overwrite` would have replaced it.
        replaceable: bool,
    },
    /// The destination is inside of what git takes for its own folder.
    #[error("{} is, or would become, a part of a git repository's own files", .0.display())]
    IntoRepository(PathBuf),
    /// An entry shows that the archive is hostile.
    #[error("the archive is refused, because of its entry `{path}`: {why}")]
    Refused {
        /// The entry, made printable.
        path: String,
        /// Why.
        why: &'static str,
    },
    /// One of the bounds is exceeded.
    #[error("the archive has too many {what}: at most {bound}")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// The bound, in the unit that `what` names.
        bound: u64,
    },
    /// The archive ends before its end mark.
    #[error("the archive is cut off")]
    CutOff,
    /// The archive is none.
    #[error("the archive cannot be read: {0}")]
    Malformed(String),
    /// The item is left out itself, or is not there; the text is the end of a sentence.
    #[error("there is nothing to copy: it {0}")]
    Nothing(&'static str),
}

impl Hint for UnpackError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::Io(error) => return error.hint(),
            Self::NoFolder(_) => "make the folder first, or name another".into(),
            Self::Exists { replaceable: true, .. } => {
                "name another destination, or replace existing files with `--force`".into()
            }
            Self::Exists { .. } | Self::IntoRepository(_) | Self::Name(_) => {
                "name another destination".into()
            }
            Self::TooLarge { .. } => {
                "copy a part of it, or pack it inside of the bottle and copy that".into()
            }
            Self::CutOff => "try again: the run's files are unchanged".into(),
            Self::Refused { .. } | Self::Malformed(_) | Self::Nothing(_) => return None,
        })
    }
}
