//! Walks through the operator's folder and makes the same entries in another one.

use std::{
    collections::HashMap,
    ffi::{CStr, OsStr},
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    fs::{
        AtFlags, Dir, FileType, Mode, OFlags, chownat, fchmod, fstat, futimens, ioctl_ficlone, linkat, open,
        openat, readlinkat, statat, symlinkat, utimensat,
    },
    io::Errno,
};

use super::{
    Copied, CopyError, CopyLimit, Filter, MAX_DEPTH, MAX_ENTRIES, MAX_UNREADABLE,
    file_data::{copy_attributes, copy_data, times_of},
};
use crate::files::{
    git_credentials::GitCredentials,
    rooted_dir::{Owner, give, make_directory},
};

/// How often the progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// How a folder is copied.
pub(super) struct Rules<'a> {
    pub(super) owner: Owner,
    pub(super) limit: CopyLimit,
    /// What is removed from files; `None` copies them as they are.
    pub(super) credentials: Option<&'a mut GitCredentials>,
    pub(super) filter: Filter<'a>,
    pub(super) progress: &'a mut dyn FnMut(&Copied),
}

/// Copies what lies in `source` into an open folder. What was copied, and what was left out whole.
pub(super) fn copy(
    source: &Path,
    target: OwnedFd,
    rules: Rules<'_>,
) -> Result<(Copied, Vec<PathBuf>), CopyError> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let from = open(source, flags, Mode::empty())
        .map_err(|error| CopyError::Io { path: source.to_owned(), source: error.into() })?;
    let failed = |source| CopyError::Io { path: PathBuf::new(), source };
    let mut copy = Copy {
        rules,
        copied: Copied::default(),
        clone: true,
        identity: identity(&target),
        root: target.try_clone().map_err(failed)?,
        links: HashMap::new(),
        left_out: Vec::new(),
        unreadable: Vec::new(),
        told: Instant::now(),
    };
    copy.folder(&from, &target, Path::new(""), 0)?;
    if copy.unreadable.is_empty() {
        Ok((copy.copied, copy.left_out))
    } else {
        Err(CopyError::Unreadable(copy.unreadable))
    }
}

struct Copy<'a> {
    rules: Rules<'a>,
    copied: Copied,
    /// Whether cloning is still tried.
    clone: bool,
    /// The target, which is skipped if it lies in the source.
    identity: Option<(u64, u64)>,
    root: OwnedFd,
    /// Files with several names that were copied, by device and inode, with their first name.
    links: HashMap<(u64, u64), PathBuf>,
    /// What was left out whole.
    left_out: Vec<PathBuf>,
    /// What the operator may not read. All of it is named together.
    unreadable: Vec<PathBuf>,
    /// When the progress was told.
    told: Instant,
}

fn identity(folder: &OwnedFd) -> Option<(u64, u64)> {
    fstat(folder).ok().map(|stat| (stat.st_dev, stat.st_ino))
}

impl Copy<'_> {
    fn folder(&mut self, from: &OwnedFd, to: &OwnedFd, path: &Path, depth: usize) -> Result<(), CopyError> {
        if depth > MAX_DEPTH {
            return Err(CopyError::TooDeep(path.to_owned()));
        }
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error: Errno| CopyError::Io { path, source: error.into() }
        };
        for entry in Dir::read_from(from).map_err(failed(path))? {
            let entry = entry.map_err(failed(path))?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let at = path.join(OsStr::from_bytes(name.to_bytes()));
            self.copied.entries += 1;
            if self.copied.entries > MAX_ENTRIES {
                return Err(CopyError::TooMany);
            }
            if self.told.elapsed() >= PROGRESS_INTERVAL {
                self.told = Instant::now();
                (self.rules.progress)(&self.copied);
            }
            match self.entry(from, to, name, &at, depth) {
                Err(CopyError::Io { source, .. }) if is_changing(&source) => self.copied.vanished += 1,
                Err(CopyError::Io { path, source }) if source.kind() == io::ErrorKind::PermissionDenied => {
                    self.unreadable.push(path);
                    if self.unreadable.len() > MAX_UNREADABLE {
                        return Err(CopyError::Unreadable(std::mem::take(&mut self.unreadable)));
                    }
                }
                other => other?,
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &CStr,
        at: &Path,
        depth: usize,
    ) -> Result<(), CopyError> {
        let failed = |error: Errno| CopyError::Io { path: at.to_owned(), source: error.into() };
        let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if !(self.rules.filter)(at, is_folder) {
            self.left_out.push(at.to_owned());
            return Ok(());
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if self.identity == Some((stat.st_dev, stat.st_ino)) => Ok(()),
            FileType::Directory => {
                let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let inner = openat(from, name, flags, Mode::empty()).map_err(failed)?;
                let path = Path::new(OsStr::from_bytes(name.to_bytes()));
                let made = make_directory(to.as_fd(), path, 0o700, self.rules.owner)
                    .map_err(|source| CopyError::Io { path: at.to_owned(), source })?;
                self.folder(&inner, &made, at, depth + 1)?;
                copy_attributes(inner.as_fd(), made.as_fd());
                // Last: the mode may remove write permission, and writing changes the time.
                futimens(&made, &times_of(&stat)).map_err(failed)?;
                fchmod(&made, Mode::from_raw_mode(stat.st_mode & 0o777)).map_err(failed)
            }
            FileType::RegularFile if stat.st_nlink > 1 => {
                let inode = (stat.st_dev, stat.st_ino);
                if self.linked(inode, to, name, at) {
                    return Ok(());
                }
                self.file(from, to, name, at)?;
                self.links.insert(inode, at.to_owned());
                Ok(())
            }
            FileType::RegularFile => self.file(from, to, name, at),
            FileType::Symlink => {
                let link = readlinkat(from, name, Vec::new()).map_err(failed)?;
                symlinkat(link, to, name).map_err(failed)?;
                utimensat(to, name, &times_of(&stat), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
                if let Some((user, group)) = self.rules.owner {
                    chownat(to, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
                }
                Ok(())
            }
            _ => {
                self.copied.skipped += 1;
                Ok(())
            }
        }
    }

    /// Gives a file that was copied another name. Not where something is removed from files of that name, which
    /// the first name may have kept; a link that the system does not make becomes a file of its own.
    fn linked(&self, inode: (u64, u64), to: &OwnedFd, name: &CStr, at: &Path) -> bool {
        let is_treated =
            self.rules.credentials.as_ref().is_some_and(|credentials| credentials.treatment(at).is_some());
        let first = self.links.get(&inode).filter(|_| !is_treated);
        first.is_some_and(|first| linkat(&self.root, first, to, name, AtFlags::empty()).is_ok())
    }

    fn file(&mut self, from: &OwnedFd, to: &OwnedFd, name: &CStr, at: &Path) -> Result<(), CopyError> {
        let failed = |source: io::Error| CopyError::Io { path: at.to_owned(), source };
        // Between stat and open it may have been replaced by a FIFO, whose open would block until a writer
        // comes.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let input = openat(from, name, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
        let stat = fstat(&input).map_err(|error| failed(error.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            self.copied.skipped += 1;
            return Ok(());
        }
        // What is written is what was looked at, also where the file changes meanwhile.
        let cleaned = match &mut self.rules.credentials {
            Some(credentials) => match credentials.treatment(at) {
                Some(treatment) => {
                    let reader = File::from(input.try_clone().map_err(failed)?);
                    let Some(kept) = credentials.clean(at, treatment, reader).map_err(failed)? else {
                        self.left_out.push(at.to_owned());
                        return Ok(());
                    };
                    Some(kept)
                }
                None => None,
            },
            None => None,
        };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let output =
            openat(to, name, flags, Mode::from_raw_mode(0o600)).map_err(|error| failed(error.into()))?;
        let expected = u64::try_from(stat.st_size).unwrap_or(0);
        let held = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512).min(expected);
        if self.copied.bytes.saturating_add(held) > self.rules.limit.bytes {
            return Err(CopyError::TooLarge(self.rules.limit.bytes));
        }
        self.copied.bytes += if let Some(kept) = cleaned {
            if self.copied.bytes.saturating_add(kept.len() as u64) > self.rules.limit.bytes {
                return Err(CopyError::TooLarge(self.rules.limit.bytes));
            }
            File::from(output.try_clone().map_err(failed)?).write_all(&kept).map_err(failed)?;
            kept.len() as u64
        } else if self.cloned(&output, &input) {
            expected
        } else {
            let allowed = self.rules.limit.bytes - self.copied.bytes;
            let copied = copy_data(input.as_fd(), output.as_fd(), expected, allowed).map_err(failed)?;
            copied.ok_or(CopyError::TooLarge(self.rules.limit.bytes))?
        };
        give(output.as_fd(), self.rules.owner).map_err(failed)?;
        copy_attributes(input.as_fd(), output.as_fd());
        futimens(&output, &times_of(&stat)).map_err(|error| failed(error.into()))?;
        fchmod(&output, Mode::from_raw_mode(stat.st_mode & 0o777)).map_err(|error| failed(error.into()))
    }

    fn cloned(&mut self, output: &OwnedFd, input: &OwnedFd) -> bool {
        if !self.clone {
            return false;
        }
        let cloned = ioctl_ficlone(output, input);
        // These file systems cannot share blocks, so cloning is not tried for the next file either.
        if matches!(cloned, Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::NOTTY | Errno::INVAL)) {
            self.clone = false;
        }
        cloned.is_ok()
    }
}

/// Whether an entry failed because the folder changes while it is copied: what was listed is gone, has
/// another type by now, or was listed twice because it was renamed.
fn is_changing(error: &io::Error) -> bool {
    let changing = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP, Errno::EXIST, Errno::STALE];
    Errno::from_io_error(error).is_some_and(|errno| changing.contains(&errno))
}
