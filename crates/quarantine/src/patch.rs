//! A patch of a bottle becomes a file of the operator.

use std::{
    borrow::Cow,
    fs::Permissions,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use bot_bottle_core::error::{Hint, IoError};

/// What a patch may contain at most.
#[derive(Debug, Clone)]
pub struct PatchBounds {
    /// Bytes of the file.
    pub bytes: u64,
}

impl Default for PatchBounds {
    fn default() -> Self {
        Self { bytes: 1 << 30 }
    }
}

/// A patch was not written; there is no file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PatchError {
    /// A file could not be read or written.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The file exists.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// The patch is larger than the bound.
    #[error("the patch has too many bytes: at most {0}")]
    TooLarge(u64),
}

impl Hint for PatchError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Io(error) => error.hint(),
            Self::Exists(_) => Some("name another file".into()),
            Self::TooLarge(_) => Some("bring the commits instead: `bot-bottle pull ID`".into()),
        }
    }
}

/// Writes a patch to a new file, and returns its size in bytes. The file is there when the patch is whole.
///
/// # Errors
/// When the file exists or cannot be written, the patch is too large, or it cannot be read to its end.
pub fn write_patch(patch: &mut dyn Read, file: &Path, bounds: &PatchBounds) -> Result<u64, PatchError> {
    let failed = |error| PatchError::Io(IoError::new(format!("writing {}", file.display()), error));
    // Early, because a patch may be long in coming; the rename below refuses as well.
    if file.symlink_metadata().is_ok() {
        return Err(PatchError::Exists(file.to_owned()));
    }
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut temporary = tempfile::Builder::new()
        .prefix(".bot-bottle-")
        // The umask takes away from it, as with any new file.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(parent)
        .map_err(failed)?;
    let written =
        io::copy(&mut patch.take(bounds.bytes.saturating_add(1)), &mut temporary).map_err(failed)?;
    if written > bounds.bytes {
        return Err(PatchError::TooLarge(bounds.bytes));
    }
    match temporary.persist_noclobber(file) {
        Ok(_) => Ok(written),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            Err(PatchError::Exists(file.to_owned()))
        }
        Err(error) => Err(failed(error.error)),
    }
}
