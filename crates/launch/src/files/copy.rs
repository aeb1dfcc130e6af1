//! Copies a folder of the operator's into a bottle, copy-on-write where the file system can.

use std::{
    ffi::{CStr, OsStr},
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, Dir, FileType, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, chownat, copy_file_range,
        fchmod, fstat, ftruncate, futimens, ioctl_ficlone, open, openat, readlinkat, seek, statat, symlinkat,
        utimensat,
    },
    io::Errno,
};
use thiserror::Error;

use super::{
    exclusions::Exclusions,
    git_credentials::GitCredentials,
    git_metadata::{GitMetadata, is_own, is_shared},
    rooted_dir::{Owner, give, make_directory},
};

/// Deepest nesting of folders that is copied. Each takes two descriptors.
const MAX_DEPTH: usize = 128;

/// Most entries that are copied.
const MAX_ENTRIES: u64 = 5_000_000;

/// Most entries that are named because they cannot be read.
const MAX_UNREADABLE: usize = 20;

/// Longest piece that is copied in one call, in bytes.
const PIECE: usize = 1 << 30;

/// The bounds of a copy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CopyLimit {
    /// In all files together, in bytes.
    pub(crate) bytes: u64,
}

/// What was copied, and what was not.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Copied {
    /// Files, folders and links.
    pub(crate) entries: u64,
    /// In all files together.
    pub(crate) bytes: u64,
    /// Sockets, FIFOs and devices, which are left out.
    pub(crate) skipped: u64,
    /// Entries that were gone, or changed their kind, between being listed and being copied.
    pub(crate) vanished: u64,
}

/// Why a folder could not be copied.
#[derive(Debug, Error)]
pub enum CopyError {
    /// The system said no.
    #[error("{} cannot be copied: {source}", .path.display())]
    Io {
        /// Relative to the folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The operator may not read these.
    #[error("these cannot be read by you: {}", shown(.0))]
    Unreadable(Vec<PathBuf>),
    /// Nested too deep.
    #[error("{} is nested deeper than {MAX_DEPTH} folders", .0.display())]
    TooDeep(PathBuf),
    /// Too many entries.
    #[error("the folder has more than {MAX_ENTRIES} entries")]
    TooMany,
    /// More bytes than the bottle's disk may hold.
    #[error("the folder has more than {0} bytes, which is what the bottle's disk may hold")]
    TooLarge(u64),
}

fn shown(paths: &[PathBuf]) -> String {
    let names: Vec<_> = paths.iter().take(MAX_UNREADABLE).map(|path| path.display().to_string()).collect();
    let more = if paths.len() > MAX_UNREADABLE { " and more" } else { "" };
    names.join(", ") + more
}

/// Copies what lies in `source` into the open folder `target`. Links stay links and are never followed. Modes
/// are kept but for set-user-id and set-group-id, and so are times; owners and hard links are not. Entries
/// that vanish meanwhile are left out.
pub(crate) fn copy_tree(
    source: &Path,
    target: OwnedFd,
    owner: Owner,
    limit: CopyLimit,
) -> Result<Copied, CopyError> {
    copy(source, target, owner, limit, None, &|_, _| true).map(|(copied, _)| copied)
}

/// Which entries are copied, by their path below the folder, and whether it is a folder.
type Filter<'a> = &'a dyn Fn(&Path, bool) -> bool;

/// What a copy of a workspace does not have.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct NotCopied {
    /// For the operator: a line for each file from which git's credentials were removed.
    pub(crate) lines: Vec<String>,
    /// Files and folders that were left out whole, below the workspace.
    pub(crate) left_out: Vec<PathBuf>,
}

/// What of git comes along with a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CopiedGit {
    /// The repository, wherever its metadata lies.
    Repository(GitMetadata),
    /// Nothing.
    LeftOut,
}

/// Copies a workspace, as [`copy_tree`] does, but for the credentials that git keeps in it. Metadata that lies
/// elsewhere comes to the place where git looks first.
pub(crate) fn copy_workspace(
    source: &Path,
    target: OwnedFd,
    owner: Owner,
    limit: CopyLimit,
    git: &CopiedGit,
    exclusions: &Exclusions,
) -> Result<NotCopied, CopyError> {
    let mut credentials = GitCredentials::find(source);
    credentials.start_again();
    let is_git_whole = *git == CopiedGit::Repository(GitMetadata::Within);
    let filter = |path: &Path, is_folder: bool| {
        (is_git_whole || path != Path::new(".git")) && !exclusions.excludes(path, is_folder)
    };
    let place = Path::new(".git");
    let made = target.try_clone().map_err(|source| CopyError::Io { path: place.to_owned(), source })?;
    let (copied, mut left_out) = copy(source, target, owner, limit, Some(&mut credentials), &filter)?;
    let mut left = limit.bytes - copied.bytes;
    let mut lines = credentials.removed();
    // Its own rules are for what git tracks.
    left_out.retain(|path| path != place);
    if let CopiedGit::Repository(GitMetadata::Elsewhere { own, common }) = git {
        // What the working trees share first: a working tree's own files stand beside them.
        let both: [(&Path, Filter<'_>); 2] =
            [(common, &|path, _| is_shared(path)), (own, &|path, _| is_own(path))];
        for (metadata, filter) in both.into_iter().skip(usize::from(own == common)) {
            let target = make_directory(made.as_fd(), place, 0o755, owner)
                .map_err(|source| CopyError::Io { path: place.to_owned(), source })?;
            let mut credentials = GitCredentials::find_moved(metadata, place);
            credentials.start_again();
            let limit = CopyLimit { bytes: left };
            left -= copy(metadata, target, owner, limit, Some(&mut credentials), filter)?.0.bytes;
            lines.extend(credentials.removed());
        }
    }
    Ok(NotCopied { lines, left_out })
}

fn copy(
    source: &Path,
    target: OwnedFd,
    owner: Owner,
    limit: CopyLimit,
    credentials: Option<&mut GitCredentials>,
    filter: Filter<'_>,
) -> Result<(Copied, Vec<PathBuf>), CopyError> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let from = open(source, flags, Mode::empty())
        .map_err(|error| CopyError::Io { path: source.to_owned(), source: error.into() })?;
    let target_identity = identity(&target);
    let mut copy = Copy {
        owner,
        limit,
        copied: Copied::default(),
        clone: true,
        target: target_identity,
        credentials,
        filter,
        left_out: Vec::new(),
        unreadable: Vec::new(),
    };
    copy.folder(&from, &target, Path::new(""), 0)?;
    if copy.unreadable.is_empty() {
        Ok((copy.copied, copy.left_out))
    } else {
        Err(CopyError::Unreadable(copy.unreadable))
    }
}

struct Copy<'a> {
    owner: Owner,
    limit: CopyLimit,
    copied: Copied,
    /// Whether cloning is still tried.
    clone: bool,
    /// The target, which is skipped if it lies in the source.
    target: Option<(u64, u64)>,
    /// What is removed from files; `None` copies them as they are.
    credentials: Option<&'a mut GitCredentials>,
    filter: Filter<'a>,
    /// What was left out whole.
    left_out: Vec<PathBuf>,
    /// What the operator may not read. All of it is named together.
    unreadable: Vec<PathBuf>,
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
        if !(self.filter)(at, is_folder) {
            self.left_out.push(at.to_owned());
            return Ok(());
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if self.target == Some((stat.st_dev, stat.st_ino)) => Ok(()),
            FileType::Directory => {
                let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let inner = openat(from, name, flags, Mode::empty()).map_err(failed)?;
                let path = Path::new(OsStr::from_bytes(name.to_bytes()));
                let made = make_directory(to.as_fd(), path, 0o700, self.owner)
                    .map_err(|source| CopyError::Io { path: at.to_owned(), source })?;
                self.folder(&inner, &made, at, depth + 1)?;
                // Last: the mode may remove write permission, and writing changes the time.
                futimens(&made, &times_of(&stat)).map_err(failed)?;
                fchmod(&made, Mode::from_raw_mode(stat.st_mode & 0o777)).map_err(failed)
            }
            FileType::RegularFile => self.file(from, to, name, at),
            FileType::Symlink => {
                let link = readlinkat(from, name, Vec::new()).map_err(failed)?;
                symlinkat(link, to, name).map_err(failed)?;
                utimensat(to, name, &times_of(&stat), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
                if let Some((user, group)) = self.owner {
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
        let cleaned = match &mut self.credentials {
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
        if self.copied.bytes.saturating_add(held) > self.limit.bytes {
            return Err(CopyError::TooLarge(self.limit.bytes));
        }
        self.copied.bytes += if let Some(kept) = cleaned {
            if self.copied.bytes.saturating_add(kept.len() as u64) > self.limit.bytes {
                return Err(CopyError::TooLarge(self.limit.bytes));
            }
            File::from(output.try_clone().map_err(failed)?).write_all(&kept).map_err(failed)?;
            kept.len() as u64
        } else if self.cloned(&output, &input) {
            expected
        } else {
            let allowed = self.limit.bytes - self.copied.bytes;
            let copied = copy_data(input.as_fd(), output.as_fd(), expected, allowed).map_err(failed)?;
            copied.ok_or(CopyError::TooLarge(self.limit.bytes))?
        };
        give(output.as_fd(), self.owner).map_err(failed)?;
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

/// The times of a file, which build tools compare. A file that was made later than its sources is not built
/// again.
fn times_of(stat: &Stat) -> Timestamps {
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
fn copy_data(
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

#[cfg(test)]
mod tests;
