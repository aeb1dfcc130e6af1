//! Unpacking an archive of the npm registry: a gzip-compressed tar file of plain files.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Component, Path, PathBuf},
};

use bot_bottle_core::error::{IoContext, IoError};
use flate2::read::GzDecoder;
use tar::{Archive, EntryType};
use thiserror::Error;

/// Why an archive cannot be unpacked.
#[derive(Debug, Error)]
pub(crate) enum UnpackError {
    /// It cannot be read.
    #[error("it is damaged: {0}")]
    Read(io::Error),
    /// A path that is absolute, empty or has `..`.
    #[error("the name `{0}` in it is not a plain relative path")]
    Name(String),
    /// A link, a device or the like. Packages of the registry have files and folders only.
    #[error("`{}` in it is neither a file nor a folder", .0.display())]
    Kind(PathBuf),
    /// Two entries of one name.
    #[error("`{}` is in it twice", .0.display())]
    Twice(PathBuf),
    /// More than [`MAX_ENTRIES`].
    #[error("it has more than {MAX_ENTRIES} files")]
    TooMany,
    /// More than [`MAX_BYTES`].
    #[error("unpacked, it has more than {MAX_BYTES} bytes")]
    TooLarge,
    /// A file cannot be written.
    #[error(transparent)]
    Write(#[from] IoError),
}

/// The most entries that are unpacked. The largest known package has 45.
const MAX_ENTRIES: usize = 20_000;

/// The most bytes that are unpacked. The largest known package has 404 MB.
const MAX_BYTES: u64 = 4 << 30;

const BUFFER_BYTES: usize = 128 << 10;

/// Unpacks into an empty folder that no other process writes to. Links are refused, so a path of plain names
/// cannot lead out of the folder.
pub(super) fn unpack(compressed: &mut dyn Read, folder: &Path) -> Result<(), UnpackError> {
    let mut archive = Archive::new(GzDecoder::new(compressed));
    let mut bytes = 0;
    for (index, entry) in archive.entries().map_err(UnpackError::Read)?.enumerate() {
        let mut entry = entry.map_err(UnpackError::Read)?;
        if index >= MAX_ENTRIES {
            return Err(UnpackError::TooMany);
        }
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            continue;
        }
        let name = plain_name(&entry.path_bytes())?;
        let path = folder.join(&name);
        match kind {
            EntryType::Directory => create_folder(&path)?,
            EntryType::Regular | EntryType::Continuous => {
                bytes += entry.size();
                if bytes > MAX_BYTES {
                    return Err(UnpackError::TooLarge);
                }
                if let Some(parent) = path.parent() {
                    create_folder(parent)?;
                }
                // Keep only the executable bit of the mode: no set-user-ID, no write permission for others.
                let executable = entry.header().mode().is_ok_and(|mode| mode & 0o111 != 0);
                write_file(&path, &name, if executable { 0o755 } else { 0o644 }, &mut entry)?;
            }
            _ => return Err(UnpackError::Kind(name)),
        }
    }
    Ok(())
}

fn plain_name(written: &[u8]) -> Result<PathBuf, UnpackError> {
    let refused = || UnpackError::Name(String::from_utf8_lossy(written).into_owned());
    let written_path = Path::new(std::str::from_utf8(written).map_err(|_| refused())?);
    let mut name = PathBuf::new();
    for component in written_path.components() {
        match component {
            Component::Normal(part) => name.push(part),
            Component::CurDir => {}
            Component::RootDir | Component::ParentDir | Component::Prefix(_) => return Err(refused()),
        }
    }
    if name.as_os_str().is_empty() { Err(refused()) } else { Ok(name) }
}

fn create_folder(path: &Path) -> Result<(), UnpackError> {
    fs::create_dir_all(path).io_context(|| format!("making {}", path.display()))?;
    Ok(())
}

fn write_file(path: &Path, name: &Path, mode: u32, content: &mut impl Read) -> Result<(), UnpackError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => UnpackError::Twice(name.to_owned()),
        _ => IoError::new(format!("writing {}", path.display()), source).into(),
    };
    let mut file: File =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match content.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => file.write_all(&buffer[..length]).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(UnpackError::Read(error)),
        }
    }
}
