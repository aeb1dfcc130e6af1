//! A folder of the host seen through a read-only overlay, or through what takes its place.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use bot_bottle_core::error::{IoContext, IoError};
use rustix::{
    fs::{CWD, FileType, Mode, mknodat},
    mount::{MountFlags, mount},
};

use super::{attach, make_directory, mask, take_tree};
use crate::native::spec::{Access, Tree};

/// Why there is no overlay, and whether a bind would lack what lies in the top layer.
pub(super) struct NoOverlay {
    pub(super) failure: IoError,
    pub(super) has_additions: bool,
}

pub(super) fn overlay(lower: &Path, top: &Path, at: &Path, hidden: &[PathBuf]) -> Result<(), NoOverlay> {
    let has_additions = fs::read_dir(top).is_ok_and(|mut entries| entries.next().is_some());
    let mount_it = || {
        make_directory(top, 0o755)?;
        make_directory(at, 0o755)?;
        for path in hidden {
            let below = path.strip_prefix(lower).unwrap_or(path);
            hide(lower, top, below)?;
        }
        let options = overlay_options(&[top, lower]);
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::RDONLY;
        mount("overlay", at, "overlay", flags, options.as_c_str())
            .io_context(|| format!("mounting {} of the host through an overlay", lower.display()))
    };
    mount_it().map_err(|failure| NoOverlay { failure, has_additions })
}

/// The replacement where something is mounted below the folder, or this kernel has no overlays in user
/// namespaces: a read-only bind. Returns a note on what it lacks.
pub(super) fn bind_instead(
    lower: &Path,
    at: &Path,
    hidden: &[PathBuf],
    error: &io::Error,
) -> Result<String, IoError> {
    // Recursive: in a user namespace the kernel binds a folder only with the mounts below it,
    // mount_namespaces(7). They are covered.
    let tree = Tree { source: lower.to_owned(), access: Access::ReadOnly, recursive: true };
    attach(&take_tree(&tree)?, at)?;
    for mounted in mounts_below(at)? {
        mask(&mounted)?;
    }
    for path in hidden {
        mask(&at.join(path.strip_prefix(lower).unwrap_or(path)))?;
    }
    Ok(format!(
        "{} is attached without an overlay ({error}); services of the host that later put sockets there would be \
         reachable, and a file that is hidden there would be shown if the host replaces it",
        lower.display()
    ))
}

/// Where something is mounted below a folder, but not what is mounted below that, proc_pid_mountinfo(5).
fn mounts_below(folder: &Path) -> Result<Vec<PathBuf>, IoError> {
    let table = fs::read("/proc/self/mountinfo").io_context(|| "reading the mounts")?;
    let mut below: Vec<PathBuf> = table
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .map(unescaped)
        .filter(|path| path != folder && path.starts_with(folder))
        .collect();
    below.sort();
    let mut top: Vec<PathBuf> = Vec::new();
    for path in below {
        if top.last().is_none_or(|last| !path.starts_with(last)) {
            top.push(path);
        }
    }
    Ok(top)
}

/// A field of the table of mounts, in which blanks, tabs, line breaks and backslashes are octal.
fn unescaped(field: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { &tail[3..] } else { tail };
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

/// Puts a whiteout into the top layer, which takes the name away from the layers below it
/// (Documentation/filesystems/overlayfs.rst). The folders on the way keep the host's modes, since those of
/// the upper layer count.
fn hide(lower: &Path, top: &Path, below: &Path) -> Result<(), IoError> {
    let text = || format!("hiding {} of the host", lower.join(below).display());
    let mut folder = PathBuf::new();
    for name in below.parent().into_iter().flat_map(Path::components) {
        folder.push(name);
        let at = top.join(&folder);
        if !at.exists() {
            let mode = fs::metadata(lower.join(&folder)).map_or(0o755, |metadata| metadata.mode() & 0o755);
            make_directory(&at, mode | 0o700)?;
        }
    }
    mknodat(CWD, top.join(below), FileType::CharacterDevice, Mode::empty(), 0).io_context(text)
}

/// Layers from the top down. A colon or a comma in a path has a meaning and is escaped.
fn overlay_options(layers: &[&Path]) -> std::ffi::CString {
    use std::os::unix::ffi::OsStrExt;
    let mut options = b"userxattr,lowerdir=".to_vec();
    for (index, layer) in layers.iter().enumerate() {
        if index > 0 {
            options.push(b':');
        }
        for byte in layer.as_os_str().as_bytes() {
            if matches!(byte, b'\\' | b':' | b',') {
                options.push(b'\\');
            }
            options.push(*byte);
        }
    }
    std::ffi::CString::new(options).expect("a path holds no NUL")
}
