//! Whether anything changed in a tree since a moment.

use std::{io, os::fd::BorrowedFd, path::PathBuf};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2, statat},
    io::Errno,
};

/// A file system's own time, in seconds and nanoseconds since 1970.
pub(crate) type FileTime = (i64, u32);

/// When an inode was last written, renamed, linked, or given another mode, owner or time: its `ctime`, which
/// no system call sets, inode(7).
pub(crate) fn change_time(stat: &Stat) -> FileTime {
    // Below 1,000,000,000, so it fits whichever type the target has.
    (stat.st_ctime, u32::try_from(stat.st_ctime_nsec).unwrap_or(0))
}

/// Whether anything in an open folder was made, changed or removed since then. What is removed or renamed
/// changes the folder that it was in.
///
/// A folder that cannot be read counts as changed: the copy of a workspace can be read.
pub(crate) fn changed_since(root: BorrowedFd<'_>, since: FileTime) -> io::Result<bool> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let mut waiting = vec![PathBuf::from(".")];
    while let Some(relative) = waiting.pop() {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = match openat2(root, &relative, flags, Mode::empty(), resolve) {
            Ok(folder) => folder,
            Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => return Err(io::ErrorKind::OutOfMemory.into()),
            Err(_) => return Ok(true),
        };
        if change_time(&fstat(&folder)?) >= since {
            return Ok(true);
        }
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if change_time(&stat) >= since {
                return Ok(true);
            }
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                use std::os::unix::ffi::OsStrExt;
                waiting.push(relative.join(std::ffi::OsStr::from_bytes(name.to_bytes())));
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        os::fd::AsFd,
        path::Path,
    };

    use super::*;

    /// The moment after everything that is there, by the clock of the file system, which ticks.
    fn moment(folder: &Path) -> FileTime {
        let last = |name: &str| {
            fs::write(folder.join(name), b"").expect("a file");
            change_time(&rustix::fs::stat(folder.join(name)).expect("a file"))
        };
        let before = last("a");
        while last("b") == before {}
        last("b")
    }

    #[test]
    fn every_kind_of_change_is_seen_and_reading_is_none() {
        type Change = fn(&Path);
        let changes: [(&str, Change); 8] = [
            ("new", |at| fs::write(at.join("in/new"), b"x").expect("written")),
            ("written", |at| fs::write(at.join("in/file"), b"y").expect("written")),
            ("removed", |at| fs::remove_file(at.join("in/file")).expect("removed")),
            ("renamed", |at| fs::rename(at.join("in/file"), at.join("in/other")).expect("renamed")),
            ("mode", |at| {
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
                fs::set_permissions(at.join("in/file"), mode).expect("set");
            }),
            ("linked", |at| fs::hard_link(at.join("in/file"), at.join("in/link")).expect("linked")),
            ("dated back", |at| {
                let file = File::options().write(true).open(at.join("in/file")).expect("opened");
                file.set_modified(std::time::UNIX_EPOCH).expect("set");
            }),
            ("emptied", |at| fs::remove_dir_all(at.join("in")).expect("removed")),
        ];
        for (name, change) in changes {
            let clock = tempfile::tempdir().expect("a folder");
            let folder = tempfile::tempdir().expect("a folder");
            fs::create_dir(folder.path().join("in")).expect("a folder");
            fs::write(folder.path().join("in/file"), b"x").expect("a file");
            let since = moment(clock.path());
            let root = File::open(folder.path()).expect("opened");
            fs::read(folder.path().join("in/file")).expect("read");
            assert!(!changed_since(root.as_fd(), since).expect("looked"), "{name}: not yet");
            change(folder.path());
            assert!(changed_since(root.as_fd(), since).expect("looked"), "{name}");
        }
    }
}
