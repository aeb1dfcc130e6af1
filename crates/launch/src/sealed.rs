//! This program's own file, in a form that a process running it cannot change.
//!
//! The bottle's first process runs from it. A program of a bottle can reach the file of the process that
//! started it: a script that begins with `#!/proc/self/exe` is run by that file, and `/proc/PID/exe` then
//! names it. On the host's own mount its owner could change its mode there, or write to it, and so to the
//! program that the operator starts next (CVE-2019-5736 of runc). What is made here is a mount of its own,
//! and read-only, or a copy in memory.
//!
//! Everything here is called in a freshly cloned child, and so makes system calls and nothing else.

use std::{
    ffi::CStr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{CWD, MemfdFlags, SealFlags, fcntl_add_seals, fstat, memfd_create, sendfile},
    io::Errno,
    mount::{OpenTreeFlags, open_tree},
};

use crate::sys;

/// The most that one sendfile(2) copies, in bytes.
const MAX_CHUNK: usize = 0x7fff_f000;

/// Gives a descriptor to execute. `path` is where `file` was opened; the calling process has a mount
/// namespace of its own, and the capability to clone mounts in it.
pub(crate) fn seal(file: BorrowedFd<'_>, path: &CStr) -> rustix::io::Result<OwnedFd> {
    read_only_clone(file, path).or_else(|_| sealed_copy(file))
}

/// A read-only mount of the file. By path, because a descriptor that was opened in another mount namespace
/// cannot be cloned (open_tree(2): EINVAL), and compared, because another file may lie there by now.
fn read_only_clone(file: BorrowedFd<'_>, path: &CStr) -> rustix::io::Result<OwnedFd> {
    let clone = open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    let (wanted, found) = (fstat(file)?, fstat(&clone)?);
    if (wanted.st_dev, wanted.st_ino) != (found.st_dev, found.st_ino) {
        return Err(Errno::STALE);
    }
    let attributes = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    sys::mount_setattr(clone.as_fd(), false, attributes)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    Ok(clone)
}

/// A sealed copy in memory (memfd_create(2), F_SEAL_WRITE). For a file that was replaced since it was opened,
/// by an upgrade for instance, or that has no path in this mount namespace.
fn sealed_copy(file: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 know no MFD_EXEC; later ones may want it said (vm.memfd_noexec, proc_sys_vm(5)).
    let copy = match memfd_create(c"bot-bottle", flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => memfd_create(c"bot-bottle", flags)?,
        other => other?,
    };
    let mut offset = 0;
    while sendfile(&copy, file, Some(&mut offset), MAX_CHUNK)? > 0 {}
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&copy, seals)?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        io::Read,
        os::{fd::AsRawFd, unix::fs::PermissionsExt},
    };

    use super::*;

    #[test]
    fn a_copy_in_memory_is_whole_and_cannot_be_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("program");
        fs::write(&path, vec![7; 3 << 20]).expect("a file");
        let file = File::open(&path).expect("opened");
        let copy = sealed_copy(file.as_fd()).expect("copied");
        let reopened = format!("/proc/self/fd/{}", copy.as_raw_fd());
        let mut content = Vec::new();
        File::open(&reopened).expect("opened").read_to_end(&mut content).expect("read");
        assert_eq!(content, vec![7; 3 << 20]);
        assert_eq!(rustix::io::write(&copy, b"x").expect_err("sealed"), Errno::PERM);
        assert!(File::options().write(true).open(&reopened).and_then(|file| file.set_len(0)).is_err());
        fs::set_permissions(&reopened, fs::Permissions::from_mode(0o777)).expect("of the copy alone");
        assert_ne!(fs::metadata(&path).expect("there").permissions().mode() & 0o7777, 0o777);
    }
}
