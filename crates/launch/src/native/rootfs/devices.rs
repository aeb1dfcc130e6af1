//! Device nodes of a bottle's own, where the launcher may make some.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, FileType, Mode, mknodat},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_string,
        fsmount, fsopen, open_tree,
    },
};

use super::ATTR_READ_ONLY;
use crate::sys;

/// A file system in memory that device nodes can be made in.
pub(super) fn file_system() -> rustix::io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "nr_inodes", "64")?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// A node of the bottle's own for the same device. Needs Linux 6.15: older kernels cannot clone part of a
/// mount that is not attached.
pub(super) fn own_device(devices: &OwnedFd, of_host: &Path) -> io::Result<OwnedFd> {
    let name = of_host.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let device = rustix::fs::stat(of_host)?.st_rdev;
    let mode = Mode::from_raw_mode(0o666);
    mknodat(devices, name, FileType::CharacterDevice, mode, device)?;
    // mknod(2) applies the umask, chmod(2) does not.
    rustix::fs::chmodat(devices, name, mode, AtFlags::empty())?;
    let taken = open_tree(devices, name, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    let attributes = ATTR_READ_ONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;
    sys::mount_setattr(taken.as_fd(), false, attributes)?;
    Ok(taken)
}
