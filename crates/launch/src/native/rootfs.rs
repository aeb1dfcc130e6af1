//! Makes the root file system of a bottle from the list of operations in [`NativeSpec`].

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, FileType},
    mount::{
        MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_change,
        move_mount, open_tree, unmount,
    },
};

use bot_bottle_core::error::{IoContext, IoError};

use crate::sys;

mod devices;
mod overlay;

use devices::own_device;
use overlay::{bind_instead, overlay};

use super::spec::{Access, NativeSpec, Operation, Tree};

/// Where the bottle's root is made, in a mount namespace of its own.
const STAGING: &str = "/tmp";

/// Size of the bottle's root, which holds folders, links and small files of ours alone, in bytes.
const ROOT_BYTES: u64 = 32 << 20;

/// Most files, folders and links in the bottle's root.
const ROOT_INODES: u64 = 1 << 16;

/// Largest file of the host that is copied into a bottle's `/etc`, in bytes; a longer one is left out.
const MAX_COPY_BYTES: u64 = 1 << 20;

const ATTR_READ_ONLY: u64 = libc::MOUNT_ATTR_RDONLY;
const ATTR_CONFINED: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;

/// Takes a tree of the host, unattached. Its attributes are set before anybody can see it.
pub(crate) fn take_tree(tree: &Tree) -> Result<OwnedFd, IoError> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if tree.recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let text = || format!("taking {} of the host", tree.source.display());
    let taken = open_tree(CWD, &tree.source, flags).io_context(text)?;
    let attributes = match tree.access {
        Access::ReadOnly => ATTR_READ_ONLY | ATTR_CONFINED,
        Access::ReadWrite => ATTR_CONFINED,
        // Read-only protects the node's mode, owner and times; the device itself stays writable.
        Access::Device => ATTR_READ_ONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC,
    };
    sys::mount_setattr(taken.as_fd(), tree.recursive, attributes).io_context(text)?;
    Ok(taken)
}

/// Takes the trees in the launcher, which is root. It makes new device nodes where the kernel allows: the
/// host's nodes are inodes shared with everybody, on which a bottle could hold locks, or watch (inotify) when
/// a terminal is read.
pub(crate) fn take_trees_for_the_bottle(trees: &[Tree]) -> Result<Vec<OwnedFd>, IoError> {
    let devices =
        trees.iter().any(|tree| tree.access == Access::Device).then(|| devices::file_system().ok()).flatten();
    let take = |tree: &Tree| {
        let own = devices.as_ref().filter(|_| tree.access == Access::Device);
        match own.and_then(|devices| own_device(devices, &tree.source).ok()) {
            Some(taken) => Ok(taken),
            None => take_tree(tree),
        }
    };
    trees.iter().map(take).collect()
}

/// Makes the bottle's root and moves into it. Returns notes on operations that were replaced by others.
pub(crate) fn build(spec: &NativeSpec, trees: &[OwnedFd]) -> Result<Vec<String>, IoError> {
    let mut notes = Vec::new();
    // Private and not only a slave, which would show the bottle what the host mounts later.
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .io_context(|| "separating the mounts from the host's")?;
    mount_tmpfs(Path::new(STAGING), ROOT_BYTES, ROOT_INODES, 0o755)?;
    for operation in &spec.operations {
        perform(operation, trees, &mut notes)?;
    }
    let root = open_tree(CWD, STAGING, OpenTreeFlags::OPEN_TREE_CLOEXEC).io_context(|| "opening the root")?;
    sys::mount_setattr(root.as_fd(), false, ATTR_READ_ONLY).io_context(|| "making the root read-only")?;
    rustix::process::chdir(STAGING).io_context(|| "entering the root")?;
    rustix::process::pivot_root(".", ".").io_context(|| "changing the root")?;
    // pivot_root(2) with `.` twice leaves the old root mounted over the new one.
    unmount(".", UnmountFlags::DETACH).io_context(|| "leaving the host's file system")?;
    rustix::process::chdir("/").io_context(|| "entering the root")?;
    Ok(notes)
}

/// Where a path of the bottle is while it is made.
fn staged(path: &Path) -> PathBuf {
    Path::new(STAGING).join(path.strip_prefix("/").unwrap_or(path))
}

fn perform(operation: &Operation, trees: &[OwnedFd], notes: &mut Vec<String>) -> Result<(), IoError> {
    match operation {
        Operation::Directory { path, mode } => make_directory(&staged(path), *mode),
        Operation::Symlink { path, target } => {
            let at = staged(path);
            make_parent(&at)?;
            symlink(target, &at).io_context(|| format!("linking {}", path.display()))
        }
        Operation::File { path, content, mode } => write_file(&staged(path), content.as_bytes(), *mode),
        Operation::Copy { source, path } => copy_file(source, &staged(path)),
        Operation::Tmpfs { path, size, inodes, mode } => {
            let at = staged(path);
            make_directory(&at, *mode)?;
            mount_tmpfs(&at, *size, *inodes, *mode)
        }
        Operation::Overlay { lower, top, path, hidden, or_bind } => {
            let at = staged(path);
            overlay(lower, &staged(top), &at, hidden).or_else(|failure| {
                let has_additions = failure.has_additions;
                if has_additions || !or_bind {
                    return Err(failure.failure);
                }
                notes.push(bind_instead(lower, &at, hidden, &failure.failure.source)?);
                Ok(())
            })
        }
        Operation::Attach { tree, path } => {
            let at = staged(path);
            let tree = trees.get(*tree).ok_or(io::ErrorKind::NotFound);
            let tree = tree.io_context(|| format!("attaching {}", path.display()))?;
            attach(tree, &at)
        }
        Operation::Processes { path } => {
            let at = staged(path);
            make_directory(&at, 0o555)?;
            let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            // Processes that the agent may not trace, init above all, do not show; proc(5). Not `hidepid=2`,
            // which exempts the group `gid=`, 0 by default: the operator's supplementary groups may include
            // it.
            mount("proc", &at, "proc", flags, c"hidepid=ptraceable")
                .io_context(|| "mounting the bottle's processes at /proc")
        }
        Operation::Terminals { path, most } => {
            let at = staged(path);
            make_directory(&at, 0o755)?;
            let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
            let options = format!("newinstance,ptmxmode=0666,mode=620,max={most}");
            let options = std::ffi::CString::new(options).expect("digits hold no NUL");
            mount("devpts", &at, "devpts", flags, options.as_c_str())
                .io_context(|| "mounting the bottle's terminals")
        }
        Operation::Mask { path } => mask(&staged(path)),
        Operation::ReadOnly { path } => {
            let at = staged(path);
            if !at.exists() {
                return Ok(());
            }
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            let text = || format!("making {} read-only", path.display());
            let tree = open_tree(CWD, &at, flags).io_context(text)?;
            sys::mount_setattr(tree.as_fd(), false, ATTR_READ_ONLY).io_context(text)?;
            move_tree(&tree, &at).io_context(text)
        }
        Operation::Unmount { path } => {
            let at = staged(path);
            unmount(&at, UnmountFlags::DETACH).io_context(|| format!("unmounting {}", path.display()))?;
            fs::remove_dir(&at).io_context(|| format!("removing {}", path.display()))
        }
    }
}

fn make_parent(at: &Path) -> Result<(), IoError> {
    at.parent().map_or(Ok(()), |parent| make_directory(parent, 0o755))
}

fn make_directory(at: &Path, mode: u32) -> Result<(), IoError> {
    match DirBuilder::new().mode(mode).create(at) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_parent(at)?;
            DirBuilder::new().mode(mode).create(at).io_context(|| format!("making {}", at.display()))
        }
        Err(error) => Err(error).io_context(|| format!("making {}", at.display())),
    }
}

fn write_file(at: &Path, content: &[u8], mode: u32) -> Result<(), IoError> {
    make_parent(at)?;
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(at)
        .and_then(|mut file| file.write_all(content))
        .io_context(|| format!("writing {}", at.display()))
}

/// Copies a file that everyone may read. Group permission does not count: the operator's supplementary groups
/// are still in effect here, because a user namespace cannot drop them.
fn copy_file(source: &Path, at: &Path) -> Result<(), IoError> {
    let Ok(file) = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_NOCTTY)
        .open(source)
    else {
        return Ok(());
    };
    let Ok(metadata) = file.metadata() else { return Ok(()) };
    if !metadata.is_file() || metadata.mode() & 0o004 == 0 || metadata.len() > MAX_COPY_BYTES {
        return Ok(());
    }
    let mut content = Vec::new();
    file.take(MAX_COPY_BYTES)
        .read_to_end(&mut content)
        .io_context(|| format!("reading {} of the host", source.display()))?;
    write_file(at, &content, metadata.permissions().mode() & 0o755)
}

fn mount_tmpfs(at: &Path, size: u64, inodes: u64, mode: u32) -> Result<(), IoError> {
    let options = format!("size={size},nr_inodes={inodes},mode={mode:o}");
    let options = std::ffi::CString::new(options).expect("digits hold no NUL");
    mount("tmpfs", at, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str())
        .io_context(|| format!("mounting memory at {}", at.display()))
}

/// Attaches a tree at a folder, or at a file where the tree is one.
fn attach(tree: &OwnedFd, at: &Path) -> Result<(), IoError> {
    let text = || format!("attaching {}", at.display());
    if !at.exists() {
        let stat = rustix::fs::statat(tree, "", AtFlags::EMPTY_PATH).io_context(text)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            make_directory(at, 0o755)?;
        } else {
            write_file(at, b"", 0o644)?;
        }
    }
    move_tree(tree, at).io_context(text)
}

fn move_tree(tree: &OwnedFd, at: &Path) -> rustix::io::Result<()> {
    move_mount(tree, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

fn mask(at: &Path) -> Result<(), IoError> {
    let text = || format!("hiding {}", at.display());
    let Ok(metadata) = fs::symlink_metadata(at) else { return Ok(()) };
    if metadata.is_dir() {
        let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
        return mount("tmpfs", at, "tmpfs", flags, c"size=4k,nr_inodes=1,mode=555").io_context(text);
    }
    // The bottle's own node if it exists already: the host's is an inode shared with everybody, which can be
    // locked.
    let own = staged(Path::new("/dev/null"));
    let source = if own.exists() { own } else { "/dev/null".into() };
    let tree = Tree { source, access: Access::Device, recursive: false };
    move_tree(&take_tree(&tree)?, at).io_context(text)
}
