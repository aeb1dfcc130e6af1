//! Moves what was unpacked to its destination.

use std::{
    ffi::{CString, OsStr},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use bot_bottle_core::{error::IoError, work::ARCHIVE_ITEM};
use rustix::{
    fs::{
        AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, openat, renameat, renameat_with, statat,
        unlinkat,
    },
    io::Errno,
};

use super::{error::UnpackError, left_out::LeftOut, repository_files::RepositoryFiles, staging::Staged};

/// Moves the item to `parent/name`: by one rename if nothing is there, else entry by entry, after all of them
/// were compared with what is there.
pub(super) fn place(
    staged: &Staged,
    parent: &Path,
    name: &Path,
    overwrite: bool,
    left_out: &mut LeftOut,
) -> Result<(), UnpackError> {
    let at = parent.join(name);
    let parent = open(CWD, parent).map_err(failed(parent))?;
    let files = repository_files_in(&parent).map_err(failed(&at))?;
    let name_in_bytes = name.as_os_str().as_bytes();
    let added = RepositoryFiles::of(name_in_bytes);
    if files.make_repository() || !added.is_none() && files.and(added).make_repository() {
        return Err(UnpackError::IntoRepository(at));
    }
    let merge = Merge { overwrite };
    let target = Pair { staged: staged.root.as_fd(), existing: parent.as_fd() };
    let item = CString::new(ARCHIVE_ITEM).unwrap_or_default();
    let name = CString::new(name_in_bytes).map_err(|_| UnpackError::Name(name.into()))?;
    merge.compare(target, &item, &name, &at, b"", left_out)?;
    merge.move_entry(target, &item, &name, &at)
}

/// A folder of the archive, and the folder of the operator that it becomes a part of.
#[derive(Debug, Clone, Copy)]
struct Pair<'a> {
    staged: BorrowedFd<'a>,
    existing: BorrowedFd<'a>,
}

#[derive(Debug, Clone, Copy)]
struct Merge {
    overwrite: bool,
}

impl Merge {
    /// Refuses what exists and must not be replaced, and removes from the archive's part what would make a
    /// repository together with what exists.
    fn compare(
        self,
        pair: Pair<'_>,
        from: &CString,
        to: &CString,
        at: &Path,
        below_item: &[u8],
        left_out: &mut LeftOut,
    ) -> Result<(), UnpackError> {
        let Some(existing) = kind(pair.existing, to).map_err(failed(at))? else { return Ok(()) };
        let staged = kind(pair.staged, from).map_err(failed(at))?;
        let both_folders = existing == FileType::Directory && staged == Some(FileType::Directory);
        if !both_folders {
            let replaceable = existing != FileType::Directory && staged != Some(FileType::Directory);
            if replaceable && self.overwrite {
                return Ok(());
            }
            return Err(UnpackError::Exists { path: at.to_owned(), replaceable });
        }
        let (staged, existing) = open_pair(pair, from, to).map_err(failed(at))?;
        let had = repository_files_in(&existing).map_err(failed(at))?;
        if had.make_repository() {
            return Err(UnpackError::IntoRepository(at.to_owned()));
        }
        let together = had.and(repository_files_in(&staged).map_err(failed(at))?);
        let inner = Pair { staged: staged.as_fd(), existing: existing.as_fd() };
        for name in names(&staged).map_err(failed(at))? {
            let path = [below_item, if below_item.is_empty() { b"" } else { b"/" }, name.to_bytes()].concat();
            if together.make_repository() && !RepositoryFiles::of(name.to_bytes()).is_none() {
                if kind(inner.staged, &name).map_err(failed(at))? == Some(FileType::Directory) {
                    return Err(UnpackError::IntoRepository(at.to_owned()));
                }
                unlinkat(inner.staged, &name, AtFlags::empty()).map_err(failed(at))?;
                left_out.add(&path, "would make its folder a git repository");
                continue;
            }
            let at = at.join(OsStr::from_bytes(name.to_bytes()));
            self.compare(inner, &name, &name, &at, &path, left_out)?;
        }
        Ok(())
    }

    fn move_entry(self, pair: Pair<'_>, from: &CString, to: &CString, at: &Path) -> Result<(), UnpackError> {
        let existing = kind(pair.existing, to).map_err(failed(at))?;
        let staged = kind(pair.staged, from).map_err(failed(at))?;
        if existing == Some(FileType::Directory) && staged == Some(FileType::Directory) {
            let (staged, existing) = open_pair(pair, from, to).map_err(failed(at))?;
            let inner = Pair { staged: staged.as_fd(), existing: existing.as_fd() };
            for name in names(&staged).map_err(failed(at))? {
                self.move_entry(inner, &name, &name, &at.join(OsStr::from_bytes(name.to_bytes())))?;
            }
            return Ok(());
        }
        if existing.is_some() && self.overwrite {
            return renameat(pair.staged, from, pair.existing, to).map_err(failed(at));
        }
        match renameat_with(pair.staged, from, pair.existing, to, RenameFlags::NOREPLACE) {
            // The file system cannot, rename(2); nothing was there a moment ago.
            Err(Errno::INVAL | Errno::NOSYS) if existing.is_none() => {
                renameat(pair.staged, from, pair.existing, to).map_err(failed(at))
            }
            Err(Errno::EXIST) => Err(UnpackError::Exists { path: at.to_owned(), replaceable: true }),
            done => done.map_err(failed(at)),
        }
    }
}

fn failed(at: &Path) -> impl Fn(Errno) -> UnpackError + '_ {
    move |error| UnpackError::Io(IoError::new(format!("writing {}", at.display()), error))
}

/// What is there, links not followed; `None` if nothing is.
fn kind(folder: BorrowedFd<'_>, name: &CString) -> Result<Option<FileType>, Errno> {
    match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn open(folder: impl AsFd, path: &Path) -> Result<OwnedFd, Errno> {
    openat(folder, path, OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
}

fn open_pair(pair: Pair<'_>, from: &CString, to: &CString) -> Result<(OwnedFd, OwnedFd), Errno> {
    let path = |name: &CString| Path::new(OsStr::from_bytes(name.to_bytes())).to_owned();
    Ok((open(pair.staged, &path(from))?, open(pair.existing, &path(to))?))
}

fn names(folder: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    Ok(names)
}

fn repository_files_in(folder: &OwnedFd) -> Result<RepositoryFiles, Errno> {
    let names = names(folder)?;
    let files = names.iter().map(|name| RepositoryFiles::of(name.to_bytes()));
    Ok(files.fold(RepositoryFiles::default(), RepositoryFiles::and))
}
