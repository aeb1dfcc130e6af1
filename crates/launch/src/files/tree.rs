//! Walks through a tree that a hostile program wrote, without leaving it: openat2(2), no link, no mount.

use std::{
    ffi::OsStr,
    ops::ControlFlow,
    os::{fd::BorrowedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2, statat},
    io::Errno,
};

/// What is met on the way.
#[derive(Debug)]
pub(crate) enum Met<'a> {
    /// A folder whose entries come next, the first of all included.
    Folder(&'a Stat),
    /// An entry of a folder; links are not followed.
    Entry(&'a Stat),
    /// A folder, or an entry, that cannot be looked at: it vanished, denies access, or its path is too long.
    Failed(&'a Path, Errno),
}

/// Visits an open folder and all that is below it, until `visit` breaks off. Paths are relative to the folder.
pub(crate) fn walk<B>(
    root: BorrowedFd<'_>,
    mut visit: impl FnMut(Met<'_>) -> ControlFlow<B>,
) -> ControlFlow<B> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let mut waiting = vec![PathBuf::from(".")];
    while let Some(path) = waiting.pop() {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = openat2(root, &path, flags, Mode::empty(), resolve);
        let opened = opened.and_then(|folder| Ok((fstat(&folder)?, Dir::read_from(&folder)?, folder)));
        let (stat, entries, folder) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                visit(Met::Failed(&path, error))?;
                continue;
            }
        };
        visit(Met::Folder(&stat))?;
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    visit(Met::Failed(&path, error))?;
                    break;
                }
            };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let at = || path.join(OsStr::from_bytes(name.to_bytes()));
            match statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => {
                    visit(Met::Entry(&stat))?;
                    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                        waiting.push(at());
                    }
                }
                Err(error) => visit(Met::Failed(&at(), error))?,
            }
        }
    }
    ControlFlow::Continue(())
}
