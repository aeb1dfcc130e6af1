//! The private folder that an archive is unpacked into.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsStr,
    fs::{File, Permissions},
    io::{Seek, SeekFrom, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::PermissionsExt},
    },
    path::{Path, PathBuf},
};

use bot_bottle_core::{error::IoError, work::ARCHIVE_ITEM};
use rustix::{
    fs::{
        AtFlags, CWD, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT, futimens, linkat,
        mkdirat, openat, openat2, symlinkat, unlinkat, utimensat,
    },
    io::Errno,
};
use tempfile::TempDir;

use super::{
    archive::{Content, Entry, Kind},
    entry_path::{EntryPath, refused, why_link_is_left_out},
    error::UnpackError,
    left_out::LeftOut,
    repository_files::RepositoryFiles,
};
use crate::dot_git;

/// Nothing in the archive can make a path be resolved through a link, or out of the folder: openat2(2).
const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// An archive that is being unpacked.
#[derive(Debug)]
pub(super) struct Staging {
    /// Removed when dropped.
    folder: TempDir,
    root: OwnedFd,
    /// Regular files, which hard links may refer to.
    files: HashSet<EntryPath>,
    /// Folders, with the time that each gets when nothing is written into it any more.
    folders: HashMap<EntryPath, Option<u64>>,
    /// In which folder are which files of a repository, and the paths of those that are its HEAD.
    repository_files: HashMap<EntryPath, (RepositoryFiles, Vec<EntryPath>)>,
    /// What nothing can be in: entries that were left out, and are no folder.
    left_out_files: HashSet<Vec<u8>>,
    /// Names of git's that were left out, with all that is in them.
    left_out_trees: HashSet<Vec<u8>>,
    left_out: LeftOut,
    entries: u64,
    /// For copying, so that not every small file makes one.
    buffer: Vec<u8>,
    /// Why the item itself was left out.
    without_item: Option<&'static str>,
}

/// An archive that is unpacked, and checked as a whole.
#[derive(Debug)]
pub(super) struct Staged {
    /// Removed when dropped.
    _folder: TempDir,
    /// The folder that the item is in, as [`ARCHIVE_ITEM`].
    pub(super) root: OwnedFd,
    pub(super) left_out: LeftOut,
    pub(super) entries: u64,
}

impl Staging {
    /// Makes a private folder in another one, so that what is in it can be renamed into that.
    pub(super) fn beside(parent: &Path) -> Result<Self, UnpackError> {
        let failed =
            |error| UnpackError::Io(IoError::new(format!("making a folder in {}", parent.display()), error));
        let folder = tempfile::Builder::new()
            .prefix(".bot-bottle-")
            .rand_bytes(12)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(parent)
            .map_err(failed)?;
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let root = openat(CWD, folder.path(), flags, Mode::empty()).map_err(|error| failed(error.into()))?;
        Ok(Self {
            folder,
            root,
            files: HashSet::new(),
            folders: HashMap::new(),
            repository_files: HashMap::new(),
            left_out_files: HashSet::new(),
            left_out_trees: HashSet::new(),
            left_out: LeftOut::default(),
            entries: 0,
            buffer: vec![0; 64 << 10],
            without_item: Some("is not in the archive"),
        })
    }

    /// Unpacks one entry, or leaves it out.
    pub(super) fn add(&mut self, entry: Entry, content: &mut Content<'_>) -> Result<(), UnpackError> {
        let path = &entry.path;
        if path.prefixes().any(|prefix| self.left_out_files.contains(prefix)) {
            return Err(refused(path.bytes(), "it is there twice, or in something that is not a folder"));
        }
        if let Some(tree) = path.prefixes().find(|prefix| last_part(prefix).is_some_and(dot_git::is_dot_git))
        {
            if self.left_out_trees.insert(tree.to_vec()) {
                self.left_out.add(tree, "is what git takes for a repository");
            }
            return Ok(());
        }
        let name = path.parts().last().unwrap_or(ARCHIVE_ITEM.as_bytes());
        let name = Path::new(OsStr::from_bytes(name));
        let failed = |error: Errno| explain(path, error);
        match entry.kind {
            Kind::Folder => {
                self.make_folder(path, entry.mode)?;
                self.folders.insert(path.clone(), Some(entry.modified));
            }
            Kind::File => {
                let parent = self.make_parent(path)?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let mode = Mode::from_raw_mode(entry.mode & 0o777 | 0o600);
                let file = openat2(&parent, name, flags, mode, BENEATH).map_err(failed)?;
                let file = write(path, File::from(file), content, &mut self.buffer)?;
                futimens(&file, &modified_at(entry.modified)).map_err(failed)?;
                self.files.insert(path.clone());
            }
            Kind::SymbolicLink(target) => {
                if let Some(why) = why_link_is_left_out(path, &target) {
                    self.leave_out(path, why);
                    return Ok(());
                }
                let parent = self.make_parent(path)?;
                symlinkat(OsStr::from_bytes(&target), &parent, name).map_err(failed)?;
                utimensat(&parent, name, &modified_at(entry.modified), AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(failed)?;
            }
            Kind::HardLink(target) => {
                let target =
                    EntryPath::new(&target, usize::MAX).ok().filter(|target| self.files.contains(target));
                let Some(target) = target else {
                    self.leave_out(path, "is a hard link to a file that was not copied");
                    return Ok(());
                };
                let parent = self.make_parent(path)?;
                linkat(&self.root, below_root(target.bytes()), &parent, name, AtFlags::empty())
                    .map_err(failed)?;
                self.files.insert(path.clone());
            }
            Kind::Other(why) => {
                self.leave_out(path, why);
                return Ok(());
            }
        }
        self.entries += 1;
        self.without_item = None;
        self.note_repository_file(&entry.path);
        Ok(())
    }

    fn leave_out(&mut self, path: &EntryPath, why: &'static str) {
        if path.is_item() {
            self.without_item = Some(why);
        }
        self.left_out.add(path.bytes(), why);
        self.left_out_files.insert(path.bytes().to_vec());
    }

    fn note_repository_file(&mut self, path: &EntryPath) {
        let (Some(parent), Some(name)) = (path.parent(), path.parts().last()) else { return };
        let file = RepositoryFiles::of(name);
        // A folder is no HEAD.
        if file.is_none() || file.is_head() && self.folders.contains_key(path) {
            return;
        }
        let (files, heads) = self.repository_files.entry(parent).or_default();
        *files = files.and(file);
        if file.is_head() {
            heads.push(path.clone());
        }
    }

    fn make_parent(&mut self, path: &EntryPath) -> Result<OwnedFd, UnpackError> {
        match path.parent() {
            Some(parent) => self.make_folder(&parent, 0o755),
            None => rustix::io::fcntl_dupfd_cloexec(&self.root, 0).map_err(|error| explain(path, error)),
        }
    }

    /// Makes a folder and those above it, or opens it.
    fn make_folder(&mut self, path: &EntryPath, mode: u32) -> Result<OwnedFd, UnpackError> {
        let failed = |error| explain(path, error);
        let open =
            |at: &Path| openat2(&self.root, at, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), BENEATH);
        let whole = below_root(path.bytes());
        match open(&whole) {
            Err(Errno::NOENT) => {}
            opened => return opened.map_err(failed),
        }
        let mut at = rustix::io::fcntl_dupfd_cloexec(&self.root, 0).map_err(failed)?;
        for prefix in path.prefixes() {
            let name = Path::new(OsStr::from_bytes(last_part(prefix).unwrap_or(ARCHIVE_ITEM.as_bytes())));
            // Ours to write into, whatever the archive says.
            let mode = if prefix == path.bytes() { mode & 0o777 | 0o700 } else { 0o755 };
            match mkdirat(&at, name, Mode::from_raw_mode(mode)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(failed(error)),
            }
            at = openat2(at.as_fd(), name, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), BENEATH)
                .map_err(failed)?;
        }
        for prefix in path.prefixes() {
            // Each is below the item, as the whole path is.
            let above = EntryPath::new(&[ARCHIVE_ITEM.as_bytes(), b"/", prefix].concat(), usize::MAX)?;
            self.note_repository_file(&above);
            self.folders.entry(above).or_insert(None);
        }
        Ok(at)
    }

    /// Leaves out what makes folders to repositories, and sets the times of the folders.
    pub(super) fn finish(mut self) -> Result<Staged, UnpackError> {
        if let Some(why) = self.without_item {
            return Err(UnpackError::Nothing(why));
        }
        for (files, heads) in self.repository_files.values() {
            if !files.make_repository() {
                continue;
            }
            for head in heads {
                unlinkat(&self.root, below_root(head.bytes()), AtFlags::empty())
                    .map_err(|error| explain(head, error))?;
                self.left_out.add(head.bytes(), "would make its folder a git repository");
                self.entries -= 1;
            }
        }
        for (path, modified) in &self.folders {
            let Some(modified) = modified else { continue };
            utimensat(
                &self.root,
                below_root(path.bytes()),
                &modified_at(*modified),
                AtFlags::SYMLINK_NOFOLLOW,
            )
            .map_err(|error| explain(path, error))?;
        }
        Ok(Staged { _folder: self.folder, root: self.root, left_out: self.left_out, entries: self.entries })
    }
}

/// The last part of a path; `None` for the item.
fn last_part(path: &[u8]) -> Option<&[u8]> {
    path.rsplit(|byte| *byte == b'/').next().filter(|part| !part.is_empty())
}

fn below_root(path: &[u8]) -> PathBuf {
    if path.is_empty() {
        PathBuf::from(ARCHIVE_ITEM)
    } else {
        Path::new(ARCHIVE_ITEM).join(OsStr::from_bytes(path))
    }
}

/// Writes the content. Blocks of zeros become holes: a small archive must not fill a disk.
fn write(
    path: &EntryPath,
    mut file: File,
    content: &mut Content<'_>,
    buffer: &mut [u8],
) -> Result<File, UnpackError> {
    let failed = |error| {
        UnpackError::Io(IoError::new(format!("writing {}", below_root(path.bytes()).display()), error))
    };
    let mut length = 0_u64;
    loop {
        let read = content.read(buffer)?;
        if read == 0 {
            break;
        }
        length += read as u64;
        if buffer[..read].iter().all(|byte| *byte == 0) {
            file.seek(SeekFrom::Current(i64::try_from(read).unwrap_or(0))).map_err(failed)?;
        } else {
            file.write_all(&buffer[..read]).map_err(failed)?;
        }
    }
    file.set_len(length).map_err(failed)?;
    Ok(file)
}

fn modified_at(seconds: u64) -> Timestamps {
    let seconds = i64::try_from(seconds).unwrap_or(0);
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: 0 },
    }
}

fn explain(path: &EntryPath, error: Errno) -> UnpackError {
    let why = match error {
        Errno::EXIST | Errno::ISDIR => "it is there twice",
        // openat2(2): a part of the path is a link, or a file.
        Errno::LOOP | Errno::NOTDIR | Errno::XDEV => "it is in something that is not a folder",
        Errno::NAMETOOLONG => "its name is too long",
        _ => {
            let context = format!("writing {}", below_root(path.bytes()).display());
            return UnpackError::Io(IoError::new(context, error));
        }
    };
    refused(path.bytes(), why)
}
