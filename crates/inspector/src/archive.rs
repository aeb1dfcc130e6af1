//! A file or folder of the agent's as a tar archive.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read as _, Write},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use bot_bottle_core::{
    error::{IoContext as _, IoError},
    work::ARCHIVE_ITEM,
};
use rustix::fs::{Mode, OFlags};
use tar::{Builder, EntryType, Header};

use crate::InspectError;

/// Writes what is at a path, with links as links; `asked` is how the agent names it. Devices, FIFOs and sockets are
/// left out, as is what vanishes meanwhile; what cannot be read is left out and named.
pub(crate) fn write(
    top: &Path,
    asked: &str,
    output: &mut dyn Write,
    left_out: &mut Vec<String>,
) -> Result<(), InspectError> {
    // It has to be there; below it, entries may come and go.
    match fs::symlink_metadata(top) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(InspectError::NotThere(asked.to_owned()));
        }
        found => found.io_context(|| format!("reading {}", top.display()))?,
    };
    let mut archive = Builder::new(output);
    let mut rest = vec![(top.to_owned(), PathBuf::from(ARCHIVE_ITEM))];
    while let Some((path, name)) = rest.pop() {
        match write_entry(&mut archive, &path, &name, &mut rest)? {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => left_out.push(format!("{} cannot be read: {error}", path.display())),
        }
    }
    archive.finish().io_context(written)?;
    Ok(())
}

fn written() -> &'static str {
    "writing the archive"
}

/// Writes one entry, and adds what a folder holds to `rest`. The outer error is of the archive, the inner one of
/// the entry.
fn write_entry(
    archive: &mut Builder<&mut dyn Write>,
    path: &Path,
    name: &Path,
    rest: &mut Vec<(PathBuf, PathBuf)>,
) -> Result<io::Result<()>, IoError> {
    /// Ends with the error of an entry; the archive goes on.
    macro_rules! of_entry {
        ($result:expr) => {
            match $result {
                Ok(value) => value,
                Err(error) => return Ok(Err(error)),
            }
        };
    }
    let found = of_entry!(fs::symlink_metadata(path));
    let kind = found.file_type();
    if kind.is_symlink() {
        let target = of_entry!(fs::read_link(path));
        let mut header = header_of(&found, EntryType::Symlink);
        archive.append_link(&mut header, name, target).io_context(written)?;
    } else if kind.is_dir() {
        let entries: Vec<_> = of_entry!(fs::read_dir(path).and_then(Iterator::collect::<io::Result<_>>));
        archive
            .append_data(&mut header_of(&found, EntryType::Directory), name, io::empty())
            .io_context(written)?;
        let mut names: Vec<_> = entries.iter().map(fs::DirEntry::file_name).collect();
        // The last one is written next.
        names.sort_by(|one, other| other.as_bytes().cmp(one.as_bytes()));
        rest.extend(names.into_iter().map(|entry| (path.join(&entry), name.join(&entry))));
    } else if kind.is_file() {
        // Another entry may be there by now: a FIFO would block, a link lead elsewhere.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file =
            File::from(of_entry!(rustix::fs::open(path, flags, Mode::empty()).map_err(io::Error::from)));
        let found = of_entry!(file.metadata());
        if found.is_file() {
            let mut header = header_of(&found, EntryType::Regular);
            header.set_size(found.len());
            // A file that grows or shrinks meanwhile has the size of its header all the same.
            let content = file.chain(io::repeat(0)).take(found.len());
            archive.append_data(&mut header, name, content).io_context(written)?;
        }
    }
    Ok(Ok(()))
}

/// A header with mode and mtime, of no user.
fn header_of(found: &Metadata, kind: EntryType) -> Header {
    let mut header = Header::new_gnu();
    header.set_metadata_in_mode(found, tar::HeaderMode::Complete);
    header.set_entry_type(kind);
    header.set_size(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}
