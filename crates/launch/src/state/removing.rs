//! Removing a tree that a hostile program wrote, and measuring one.

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, chmod, fstat, open, openat, openat2, renameat,
        statat, unlinkat,
    },
    io::Errno,
};

/// Nesting at which a folder is moved up before it is removed, so that no depth exhausts the descriptors.
const MAX_DEPTH: usize = 64;

/// Removes a folder and all that is in it. Links are removed, not followed; folders that nobody may enter are
/// opened by their owner, which we are.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let parent = open(parent, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let root = match enter(parent.as_fd(), Path::new(name)) {
        Ok(root) => root,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut moved = 0;
    loop {
        let before = moved;
        empty(&root, root.as_fd(), 0, &mut moved)?;
        if moved == before {
            break;
        }
    }
    unlinkat(&parent, name, AtFlags::REMOVEDIR)?;
    Ok(())
}

fn empty(folder: &OwnedFd, root: BorrowedFd<'_>, depth: usize, moved: &mut u64) -> rustix::io::Result<()> {
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match unlinkat(folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::ISDIR | Errno::PERM | Errno::ACCESS) => {}
            Err(error) => return Err(error),
        }
        let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Err(Errno::PERM);
        }
        if depth >= MAX_DEPTH {
            *moved += 1;
            // A folder can be moved only by who may write to it: its `..` changes.
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::PATH;
            make_accessible(&openat(folder, name, flags, Mode::empty())?)?;
            renameat(folder, name, root, format!(".bot-bottle-deep-{moved}"))?;
            continue;
        }
        use std::os::unix::ffi::OsStrExt;
        let inner = enter(folder.as_fd(), Path::new(std::ffi::OsStr::from_bytes(name.to_bytes())))?;
        empty(&inner, root, depth + 1, moved)?;
        unlinkat(folder, name, AtFlags::REMOVEDIR)?;
    }
    Ok(())
}

/// Opens a folder, and makes it readable and writable first where it is not. By a descriptor, so that nobody
/// can put a link there in between: chmod(2) would follow it out.
fn enter(parent: BorrowedFd<'_>, name: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let held = openat(parent, name, flags | OFlags::PATH, Mode::empty())?;
    if fstat(&held)?.st_mode & 0o700 != 0o700 {
        make_accessible(&held)?;
    }
    openat(&held, ".", flags, Mode::empty())
}

/// Sets the mode of what an `O_PATH` descriptor holds, which fchmod(2) refuses to do.
fn make_accessible(held: &OwnedFd) -> rustix::io::Result<()> {
    chmod(format!("/proc/self/fd/{}", held.as_raw_fd()), Mode::RWXU)
}

/// Bytes that a tree takes on disk, each file once.
///
/// # Errors
/// The folder that cannot be measured: nobody may enter it, or its path is longer than the system allows.
pub(crate) fn measure_tree(path: &Path) -> Result<u64, (PathBuf, io::Error)> {
    let failed = |at: &Path| {
        let at = at.to_owned();
        move |error: Errno| (at, io::Error::from(error))
    };
    let root = open(path, OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
        .map_err(failed(path))?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let mut linked = BTreeSet::new();
    let mut waiting = vec![PathBuf::from(".")];
    let mut bytes = 0;
    while let Some(relative) = waiting.pop() {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = match openat2(&root, &relative, flags, Mode::empty(), resolve) {
            Ok(folder) => folder,
            // Removed since it was listed.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            Err(error) => return Err(failed(&relative)(error)),
        };
        for entry in Dir::read_from(&folder).map_err(failed(&relative))? {
            let Ok(entry) = entry else { break };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(stat) = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            if stat.st_nlink > 1
                && FileType::from_raw_mode(stat.st_mode) != FileType::Directory
                && !linked.insert((stat.st_dev, stat.st_ino))
            {
                continue;
            }
            bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                use std::os::unix::ffi::OsStrExt;
                waiting.push(relative.join(std::ffi::OsStr::from_bytes(name.to_bytes())));
            }
        }
    }
    Ok(bytes)
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
        let mut at = open(&tree, OFlags::DIRECTORY, Mode::empty()).expect("opened");
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, "ab", Mode::RWXU).expect("made");
            at = openat(&at, "ab", OFlags::DIRECTORY, Mode::empty()).expect("opened");
        }
        assert!(measure_tree(&tree).is_err(), "what cannot be measured is said");
        remove_tree(&tree).expect("removed");
        assert!(!tree.exists());
        assert!(outside.join("precious").exists());
        remove_tree(&tree).expect("removing nothing is fine");
    }

    #[test]
    fn a_file_with_two_names_counts_once() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("one"), vec![1; 1 << 20]).expect("a file");
        fs::hard_link(folder.path().join("one"), folder.path().join("two")).expect("a link");
        let bytes = measure_tree(folder.path()).expect("measured");
        assert!((1 << 20..3 << 19).contains(&bytes), "{bytes}");
    }
}
