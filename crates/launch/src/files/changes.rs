//! Whether anything changed in a tree since a moment.

use std::{ops::ControlFlow, os::fd::BorrowedFd};

use bot_bottle_core::work::FileTime;
use rustix::fs::Stat;

use super::tree::{Met, walk};

/// When an inode was last written, renamed, linked, or given another mode, owner or time: its `ctime`, which
/// no system call sets, inode(7).
pub(crate) fn change_time(stat: &Stat) -> FileTime {
    // Below 1,000,000,000, so it fits whichever type the target has.
    (stat.st_ctime, u32::try_from(stat.st_ctime_nsec).unwrap_or(0))
}

/// Whether anything in an open folder was made, changed or removed since then. What is removed or renamed
/// changes the folder that it was in.
///
/// What cannot be looked at counts as changed: all of the copy of a workspace can be.
pub(crate) fn changed_since(root: BorrowedFd<'_>, since: FileTime) -> bool {
    let walked = walk(root, |met| match met {
        Met::Folder(stat) | Met::Entry(stat) if change_time(stat) < since => ControlFlow::Continue(()),
        Met::Folder(_) | Met::Entry(_) | Met::Failed(..) => ControlFlow::Break(()),
    });
    walked.is_break()
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
            assert!(!changed_since(root.as_fd(), since), "{name}: not yet");
            change(folder.path());
            assert!(changed_since(root.as_fd(), since), "{name}");
        }
    }
}
