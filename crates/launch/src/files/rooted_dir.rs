//! Writes below a folder and never outside it, whatever links it contains: openat2(2) with `RESOLVE_BENEATH`.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Component, Path},
};

use rustix::{
    fs::{
        AtFlags, CWD, Gid, Mode, OFlags, ResolveFlags, Uid, chownat, fchown, mkdirat, open, openat2,
        renameat, unlinkat,
    },
    io::Errno,
    rand::{GetRandomFlags, getrandom},
};

/// The owner of the files that are written, if it is another user than the one who writes.
pub(crate) type Owner = Option<(Uid, Gid)>;

/// A folder that paths are resolved beneath.
#[derive(Debug)]
pub(crate) struct RootedDir {
    folder: OwnedFd,
    owner: Owner,
}

pub(crate) const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

impl RootedDir {
    /// Opens the folder, which is ours.
    pub(crate) fn open(path: &Path, owner: Owner) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(Self { folder: open(path, flags, Mode::empty())?, owner })
    }

    /// The same for a folder that is open.
    pub(crate) fn from_open(folder: OwnedFd, owner: Owner) -> Self {
        Self { folder, owner }
    }

    /// Makes a folder and those above it, and opens it. An existing folder is opened.
    pub(crate) fn directory(&self, relative: &Path) -> io::Result<OwnedFd> {
        let mut at = rustix::io::fcntl_dupfd_cloexec(&self.folder, 0)?;
        for component in relative.components() {
            let Component::Normal(name) = component else {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path leaves its folder"));
            };
            at = make_directory(at.as_fd(), Path::new(name), 0o755, self.owner)?;
        }
        Ok(at)
    }

    /// Writes a file by renaming a finished one to its name, whatever was there: a link is replaced, not followed.
    /// Makes the folders above it.
    pub(crate) fn replace(&self, relative: &Path, content: &[u8], mode: u32) -> io::Result<()> {
        let name = relative.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let mut random = [0; 16];
        getrandom(&mut random, GetRandomFlags::empty())?;
        let unfinished = relative.with_file_name(format!(".{:032x}", u128::from_ne_bytes(random)));
        self.file(&unfinished, content, mode)?;
        let parent = self.directory(relative.parent().unwrap_or(Path::new("")))?;
        let unfinished = unfinished.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        renameat(&parent, unfinished, &parent, name).map_err(|error| {
            // Such as a folder in its place. One file more each time would be left there.
            let _ = unlinkat(&parent, unfinished, AtFlags::empty());
            error.into()
        })
    }

    /// Writes a file, which must not exist, and makes the folders above it.
    pub(crate) fn file(&self, relative: &Path, content: &[u8], mode: u32) -> io::Result<()> {
        let name = relative.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let parent = self.directory(relative.parent().unwrap_or(Path::new("")))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat2(&parent, name, flags, Mode::from_raw_mode(mode & 0o777), BENEATH)?;
        give(file.as_fd(), self.owner)?;
        File::from(file).write_all(content)
    }
}

/// Makes one folder in another, or opens it if it exists.
pub(crate) fn make_directory(
    parent: BorrowedFd<'_>,
    name: &Path,
    mode: u32,
    owner: Owner,
) -> io::Result<OwnedFd> {
    match mkdirat(parent, name, Mode::from_raw_mode(mode)) {
        Ok(()) => {
            if let Some((user, group)) = owner {
                chownat(parent, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
            }
        }
        Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(openat2(parent, name, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), BENEATH)?)
}

/// Gives an open file to its owner.
pub(crate) fn give(file: BorrowedFd<'_>, owner: Owner) -> io::Result<()> {
    if let Some((user, group)) = owner {
        fchown(file, Some(user), Some(group))?;
    }
    Ok(())
}

/// Makes a folder, which must not exist.
pub(crate) fn new_folder(path: &Path, mode: u32, owner: Owner) -> io::Result<()> {
    rustix::fs::mkdir(path, Mode::from_raw_mode(mode))?;
    if let Some((user, group)) = owner {
        chownat(CWD, path, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn nothing_is_written_through_a_link_or_outside() {
        let folder = tempfile::tempdir().expect("a folder");
        let inside = folder.path().join("inside");
        fs::create_dir(&inside).expect("a folder");
        fs::create_dir(folder.path().join("outside")).expect("a folder");
        symlink("../outside", inside.join("link")).expect("a link");
        symlink("../outside/new", inside.join("file")).expect("a link");
        let place = RootedDir::open(&inside, None).expect("a place");
        place.file(Path::new("a/b/c"), b"text", 0o600).expect("written");
        assert_eq!(fs::read(inside.join("a/b/c")).expect("read"), b"text");
        for bad in ["link/x", "../outside/x", "file", "a/../../outside/x", "/etc/x"] {
            assert!(place.file(Path::new(bad), b"", 0o600).is_err(), "{bad}");
        }
        place.replace(Path::new("file"), b"new", 0o600).expect("the link is replaced");
        assert_eq!(fs::read(inside.join("file")).expect("read"), b"new");
        assert!(place.replace(Path::new("link/x"), b"", 0o600).is_err(), "nothing is written through a link");
        let there = || fs::read_dir(&inside).expect("read").count();
        let before = there();
        assert!(place.replace(Path::new("a"), b"", 0o600).is_err(), "a folder is not replaced");
        assert_eq!(there(), before, "what was not used is removed");
        assert_eq!(fs::read_dir(folder.path().join("outside")).expect("read").count(), 0);
    }
}
