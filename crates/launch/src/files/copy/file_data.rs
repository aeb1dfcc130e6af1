//! What one file has: its data with the holes in it, its times, its extended attributes.

use std::{ffi::CString, io, os::fd::BorrowedFd};

use rustix::{
    fs::{
        SeekFrom, Stat, Timespec, Timestamps, XattrFlags, copy_file_range, fgetxattr, flistxattr, fsetxattr,
        ftruncate, seek,
    },
    io::Errno,
};

/// Longest piece that is copied in one call, in bytes.
const PIECE: usize = 1 << 30;

/// Longest list of names, and longest value, of extended attributes, in bytes: what Linux allows, xattr(7).
const MAX_ATTRIBUTES: usize = 64 << 10;

/// The times of a file, which build tools compare. A file that was made later than its sources is not built
/// again.
pub(super) fn times_of(stat: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds| Timespec {
        tv_sec: seconds,
        // Below 1,000,000,000, so it fits whichever type the target has.
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// Copies what a file holds, and leaves its holes; `None` if there is more than allowed. Without this a disk
/// image would take its whole size.
pub(super) fn copy_data(
    input: BorrowedFd<'_>,
    output: BorrowedFd<'_>,
    size: u64,
    allowed: u64,
) -> io::Result<Option<u64>> {
    let (mut at, mut copied) = (0, 0);
    while let Ok(start) = seek(input, SeekFrom::Data(at)) {
        // A file that shrinks meanwhile has no more holes either.
        let Ok(end) = seek(input, SeekFrom::Hole(start)) else { break };
        seek(input, SeekFrom::Start(start))?;
        seek(output, SeekFrom::Start(start))?;
        let Some(bytes) = copy_bytes(input, output, end - start, allowed - copied)? else { return Ok(None) };
        copied += bytes;
        at = end;
    }
    ftruncate(output, size.max(at))?;
    Ok(Some(copied))
}

/// Copies so many bytes, or to the end; `None` if that is more than allowed.
fn copy_bytes(
    input: BorrowedFd<'_>,
    output: BorrowedFd<'_>,
    wanted: u64,
    allowed: u64,
) -> io::Result<Option<u64>> {
    let mut copied = 0_u64;
    let mut by_kernel = true;
    let mut buffer = Vec::new();
    loop {
        let left = usize::try_from(wanted - copied).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok(Some(copied));
        }
        let count = if by_kernel {
            match copy_file_range(input, None, output, None, left.min(PIECE)) {
                Ok(count) => count,
                Err(Errno::INTR) => continue,
                Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) if copied == 0 => {
                    by_kernel = false;
                    buffer.resize(1 << 17, 0);
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
        } else {
            let most = left.min(buffer.len());
            let count = rustix::io::read(input, &mut buffer[..most])?;
            let mut written = 0;
            while written < count {
                written += rustix::io::write(output, &buffer[written..count])?;
            }
            count
        };
        if count == 0 {
            return Ok(Some(copied));
        }
        copied += count as u64;
        if copied > allowed {
            return Ok(None);
        }
    }
}

/// Copies the extended attributes of the namespace `user`, which programs of the operator's set: origins of
/// downloads, checksums. Those of other namespaces are the system's (capabilities, labels, ACLs). Where the target's
/// file system has none, or no room for them, they are left out.
pub(super) fn copy_attributes(input: BorrowedFd<'_>, output: BorrowedFd<'_>) {
    // Nearly all files have none, and then this is all that is done.
    if matches!(flistxattr(input, &mut [0_u8; 64][..]), Ok(0)) {
        return;
    }
    let mut names = vec![0; MAX_ATTRIBUTES];
    let Ok(length) = flistxattr(input, &mut names[..]) else { return };
    let mut value = vec![0; MAX_ATTRIBUTES];
    for name in names[..length].split(|byte| *byte == 0).filter(|name| name.starts_with(b"user.")) {
        let Ok(name) = CString::new(name) else { continue };
        if let Ok(length) = fgetxattr(input, &name, &mut value[..]) {
            let _ = fsetxattr(output, &name, &value[..length], XattrFlags::empty());
        }
    }
}
