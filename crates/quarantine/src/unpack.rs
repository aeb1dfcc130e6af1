//! A tar archive of a bottle becomes a file or folder of the operator.
//!
//! The archive has one entry at its top, named `item`. It is unpacked into a private folder beside its
//! destination and moved from there by renaming, so that an archive that is refused leaves nothing.

mod archive;
mod entry_path;
mod error;
mod left_out;
mod place;
mod repository_files;
mod staging;

use std::{
    ffi::OsString,
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use bot_bottle_core::error::IoContext as _;
use serde::Serialize;

use self::{archive::Archive, staging::Staging};
pub use self::{
    error::UnpackError,
    left_out::{LeftOut, LeftOutEntry},
};
use crate::dot_git;

/// What is unpacked, and where to.
#[derive(Debug, Clone)]
pub struct Unpack {
    /// An existing folder, which the item is put into under `name`, or what the item becomes, in an existing
    /// folder: as with `cp -r` and `docker cp`.
    pub destination: PathBuf,
    /// The name of the item at its source.
    pub name: OsString,
    /// Whether existing files are replaced. Existing folders are added to either way, and links are replaced,
    /// never written through.
    pub overwrite: bool,
    /// What the archive may contain.
    pub bounds: UnpackBounds,
}

/// What an archive may contain at most.
#[derive(Debug, Clone)]
pub struct UnpackBounds {
    /// Bytes of all files together, holes included.
    pub bytes: u64,
    /// Files, folders and links.
    pub entries: u64,
    /// How deep folders are nested.
    pub depth: usize,
}

impl Default for UnpackBounds {
    fn default() -> Self {
        Self { bytes: 64 << 30, entries: 2_000_000, depth: 200 }
    }
}

/// What was unpacked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unpacked {
    /// Where the item is now.
    pub path: PathBuf,
    /// Files, folders and links that were made.
    pub entries: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// What the archive has and the operator did not get.
    pub left_out: LeftOut,
}

/// Unpacks an archive to its destination.
///
/// # Errors
/// When the destination cannot be made, files exist that are not to be replaced, a bound is exceeded, or the
/// archive is cut off or hostile. Nothing is at the destination then, unless moving into an existing folder
/// failed halfway.
pub fn unpack(archive: &mut dyn Read, unpack: &Unpack) -> Result<Unpacked, UnpackError> {
    let (parent, name) = destination(unpack)?;
    let mut staging = Staging::beside(&parent)?;
    let mut archive = Archive::new(archive, &unpack.bounds);
    archive.for_each(|entry, content| staging.add(entry, content))?;
    let staged = staging.finish()?;
    let mut left_out = staged.left_out.clone();
    place::place(&staged, &parent, Path::new(&name), unpack.overwrite, &mut left_out)?;
    Ok(Unpacked {
        path: parent.join(name),
        entries: staged.entries,
        bytes: archive.bytes_written(),
        left_out,
    })
}

/// The folder that the item is put into, and its name there.
fn destination(unpack: &Unpack) -> Result<(PathBuf, OsString), UnpackError> {
    let destination = &unpack.destination;
    let (parent, name) = if destination.is_dir() {
        (destination.clone(), unpack.name.clone())
    } else {
        let no_folder = || UnpackError::NoFolder(destination.clone());
        // With a slash at its end, the path asks for a folder.
        if destination.as_os_str().as_encoded_bytes().ends_with(b"/") {
            return Err(no_folder());
        }
        let name = destination.file_name().ok_or_else(no_folder)?;
        let parent = destination.parent().ok_or_else(no_folder)?;
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        if !parent.is_dir() {
            return Err(UnpackError::NoFolder(parent.to_owned()));
        }
        (parent.to_owned(), name.to_owned())
    };
    let bytes = name.as_encoded_bytes();
    if matches!(bytes, b"" | b"." | b"..") || bytes.contains(&b'/') || bytes.contains(&0) {
        return Err(UnpackError::Name(name));
    }
    let parent = fs::canonicalize(&parent).io_context(|| format!("opening {}", parent.display()))?;
    let path = parent.join(&name);
    // What is written into a `.git` becomes a hook or the configuration, and both name programs.
    if dot_git::is_below_dot_git(path.as_os_str().as_encoded_bytes()) {
        return Err(UnpackError::IntoRepository(path));
    }
    Ok((parent, name))
}
