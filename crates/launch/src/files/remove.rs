//! Removes and measures trees that a hostile program wrote.

use std::{
    collections::BTreeSet,
    ffi::CStr,
    io,
    ops::ControlFlow,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, chmod, fstat, open, openat, openat2, renameat,
        statat, unlinkat,
    },
    io::Errno,
    rand::{GetRandomFlags, getrandom},
};

use super::tree::{Met, walk};

/// Nesting at which a folder is moved up before it is removed, so that no depth exhausts the descriptors.
const MAX_DEPTH: usize = 64;

/// Removes a folder and all that is in it. Links are removed, not followed; folders that nobody may enter are
/// opened by their owner, which we are. An interrupted removal can be run again.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    Removal::default().remove(path)
}

/// Removes what is in a folder.
pub(crate) fn empty(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// One removal. It keeps no state on disk: after every step the tree is an ordinary tree, which a new removal
/// can start with.
#[derive(Debug, Default)]
struct Removal {
    /// Folders that were moved up to the root.
    moved: u64,
    /// For tests: after how many steps it is cut off.
    steps_left: Option<u64>,
}

impl Removal {
    fn remove(&mut self, path: &Path) -> io::Result<()> {
        let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let parent = open(parent, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let root = match enter(parent.as_fd(), Path::new(name)) {
            Ok(root) => root,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        loop {
            let before = self.moved;
            self.empty(&root, root.as_fd(), 0)?;
            if self.moved == before {
                break;
            }
        }
        self.step()?;
        unlinkat(&parent, name, AtFlags::REMOVEDIR)?;
        Ok(())
    }

    fn step(&mut self) -> rustix::io::Result<()> {
        if let Some(left) = &mut self.steps_left {
            *left = left.checked_sub(1).ok_or(Errno::CANCELED)?;
        }
        Ok(())
    }

    fn empty(&mut self, folder: &OwnedFd, root: BorrowedFd<'_>, depth: usize) -> rustix::io::Result<()> {
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            self.step()?;
            match unlinkat(folder, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::ISDIR | Errno::PERM | Errno::ACCESS) => {}
                Err(error) => return Err(error),
            }
            let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                return Err(Errno::PERM);
            }
            self.step()?;
            if depth >= MAX_DEPTH {
                self.move_up(folder, name, root)?;
                continue;
            }
            use std::os::unix::ffi::OsStrExt;
            let inner = enter(folder.as_fd(), Path::new(std::ffi::OsStr::from_bytes(name.to_bytes())))?;
            self.empty(&inner, root, depth + 1)?;
            self.step()?;
            unlinkat(folder, name, AtFlags::REMOVEDIR)?;
        }
        Ok(())
    }

    /// Moves a folder up to the root, under a random name, which its content cannot guess. A name that exists
    /// all the same is tried again: a folder replaces nothing but an empty folder, rename(2).
    fn move_up(&mut self, folder: &OwnedFd, name: &CStr, root: BorrowedFd<'_>) -> rustix::io::Result<()> {
        // Moving a folder needs write permission on it, because its `..` changes.
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::PATH;
        make_accessible(&openat(folder, name, flags, Mode::empty())?)?;
        loop {
            let mut random = [0; 16];
            // Up to 256 bytes come whole, getrandom(2).
            getrandom(&mut random, GetRandomFlags::empty())?;
            match renameat(folder, name, root, format!("{:032x}", u128::from_ne_bytes(random))) {
                Ok(()) => break,
                Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
                Err(error) => return Err(error),
            }
        }
        self.moved += 1;
        Ok(())
    }
}

/// Opens a folder, and makes it readable and writable first where it is not. The mode is set by descriptor:
/// chmod(2) would follow a link that is put there in between. Mounts are not entered (EXDEV): they are not
/// the bottle's.
fn enter(parent: BorrowedFd<'_>, name: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    let held = openat2(parent, name, flags | OFlags::PATH, Mode::empty(), resolve)?;
    if fstat(&held)?.st_mode & 0o700 != 0o700 {
        make_accessible(&held)?;
    }
    openat(&held, ".", flags, Mode::empty())
}

/// Sets the mode of what an `O_PATH` descriptor holds, which fchmod(2) refuses to do.
fn make_accessible(held: &OwnedFd) -> rustix::io::Result<()> {
    chmod(format!("/proc/self/fd/{}", held.as_raw_fd()), Mode::RWXU)
}

/// Bytes that an open folder with all that is in it takes on disk, each file once.
///
/// # Errors
/// The folder below it that cannot be measured: it denies access, or its path is longer than the system
/// allows.
pub(crate) fn measure_tree(root: BorrowedFd<'_>) -> Result<u64, (PathBuf, io::Error)> {
    let mut linked = BTreeSet::new();
    let mut bytes = 0;
    let walked = walk(root, |met| match met {
        Met::Folder(_) => ControlFlow::Continue(()),
        Met::Entry(stat) => {
            let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if stat.st_nlink <= 1 || is_folder || linked.insert((stat.st_dev, stat.st_ino)) {
                bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
            }
            ControlFlow::Continue(())
        }
        // Removed since it was listed.
        Met::Failed(_, Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => ControlFlow::Continue(()),
        Met::Failed(path, error) => ControlFlow::Break((path.to_owned(), error.into())),
    });
    match walked {
        ControlFlow::Continue(()) => Ok(bytes),
        ControlFlow::Break(failed) => Err(failed),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, symlink},
    };

    use super::*;

    #[test]
    fn every_tree_can_be_removed_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let outside = folder.path().join("outside");
        fs::create_dir(&outside).expect("a folder");
        fs::write(outside.join("precious"), b"x").expect("a file");
        let tree = folder.path().join("tree");
        fs::create_dir_all(tree.join("closed/in")).expect("folders");
        fs::write(tree.join("closed/in/file"), b"x").expect("a file");
        symlink(&outside, tree.join("link")).expect("a link");
        fs::set_permissions(tree.join("closed/in"), fs::Permissions::from_mode(0o000)).expect("a mode");
        fs::set_permissions(tree.join("closed"), fs::Permissions::from_mode(0o500)).expect("a mode");
        // Deeper than there are descriptors, and than a path is long.
        let root = open(&tree, OFlags::DIRECTORY, Mode::empty()).expect("opened");
        let mut at = root.try_clone().expect("opened");
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, "ab", Mode::RWXU).expect("made");
            at = openat(&at, "ab", OFlags::DIRECTORY, Mode::empty()).expect("opened");
        }
        assert!(measure_tree(root.as_fd()).is_err(), "what cannot be measured is said");
        remove_tree(&tree).expect("removed");
        assert!(!tree.exists());
        assert!(outside.join("precious").exists());
        remove_tree(&tree).expect("removing nothing is fine");
    }

    /// A chain of folders below `at`, each in the one before.
    fn chain(at: &OwnedFd, first: &str, depth: usize) {
        rustix::fs::mkdirat(at, first, Mode::RWXU).expect("made");
        let mut at = openat(at, first, OFlags::DIRECTORY, Mode::empty()).expect("opened");
        for _ in 1..depth {
            rustix::fs::mkdirat(&at, "ab", Mode::RWXU).expect("made");
            at = openat(&at, "ab", OFlags::DIRECTORY, Mode::empty()).expect("opened");
        }
    }

    #[test]
    fn content_cannot_take_the_names_that_removal_needs() {
        let folder = tempfile::tempdir().expect("a folder");
        let tree = folder.path().join("tree");
        for number in 0..200 {
            let taken = tree.join(format!(".bot-bottle-deep-{number}"));
            fs::create_dir_all(taken.join("in")).expect("folders");
            fs::write(tree.join(format!("deep-{number}")), b"x").expect("a file");
        }
        let root = open(&tree, OFlags::DIRECTORY, Mode::empty()).expect("opened");
        for number in 0..5 {
            chain(&root, &format!("chain-{number}"), 300);
        }
        remove_tree(&tree).expect("removed");
        assert!(!tree.exists());
    }

    #[test]
    fn a_removal_that_is_cut_off_anywhere_can_be_run_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let tree = folder.path().join("tree");
        fs::create_dir(&tree).expect("a folder");
        let root = open(&tree, OFlags::DIRECTORY, Mode::empty()).expect("opened");
        for number in 0..20 {
            // Two are deeper than a path is long; so many steps take long where renaming a folder does.
            chain(&root, &format!("chain-{number}"), if number < 2 { 3000 } else { 200 });
        }
        // Every cut leaves folders that were moved up. The second number is a prime, so that the cuts fall on
        // steps of each kind.
        for steps in (1..40).chain((0..20).map(|round| 97 * round)) {
            let mut removal = Removal { moved: 0, steps_left: Some(steps) };
            removal.remove(&tree).expect_err("cut off");
        }
        remove_tree(&tree).expect("removed");
        assert!(!tree.exists());
    }

    #[test]
    fn what_lies_in_a_folder_that_nobody_may_enter_is_not_passed_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let closed = folder.path().join("closed");
        fs::create_dir(&closed).expect("a folder");
        fs::write(closed.join("large"), vec![1; 1 << 20]).expect("a file");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o400)).expect("a mode");
        let root = open(folder.path(), OFlags::DIRECTORY, Mode::empty()).expect("opened");
        match measure_tree(root.as_fd()) {
            // Root passes the mode.
            Ok(bytes) => assert!(bytes >= 1 << 20, "{bytes}"),
            Err((path, error)) => {
                assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
                assert!(path.starts_with("./closed"), "{}", path.display());
            }
        }
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("a mode");
    }

    #[test]
    fn a_file_with_two_names_counts_once() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("one"), vec![1; 1 << 20]).expect("a file");
        fs::hard_link(folder.path().join("one"), folder.path().join("two")).expect("a link");
        let root = open(folder.path(), OFlags::DIRECTORY, Mode::empty()).expect("opened");
        let bytes = measure_tree(root.as_fd()).expect("measured");
        assert!((1 << 20..3 << 19).contains(&bytes), "{bytes}");
    }
}
