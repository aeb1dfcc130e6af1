//! The folder of a Dockerfile as a tar archive, which is what the engine builds from.
//!
//! The same files make the same archive: it has neither times nor owners, so that its hash names the image.

use std::{
    borrow::Cow,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use bot_bottle_core::{
    error::{Hint, IoContext, IoError},
    limits::ByteSize,
};
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use tar::{Builder, EntryType, Header, HeaderMode};
use thiserror::Error;

/// Name of the file that says what of the folder is not sent.
const IGNORE_FILE: &str = ".dockerignore";

/// Longest Dockerfile and `.dockerignore`, in bytes.
const MAX_TEXT_BYTES: u64 = 1 << 20;

/// Most bytes of a context's files together.
const MAX_CONTEXT_BYTES: u64 = 1 << 30;

/// Most files, folders and links of a context.
const MAX_CONTEXT_ENTRIES: u64 = 200_000;

/// Why the folder of a Dockerfile cannot be sent.
#[derive(Debug, Error)]
pub enum ContextError {
    /// Too many bytes.
    #[error("{} has more than {}, and all of it would go to the engine with its Dockerfile", .0.display(), ByteSize(MAX_CONTEXT_BYTES))]
    TooLarge(PathBuf),
    /// Too many files.
    #[error("{} has more than {MAX_CONTEXT_ENTRIES} entries, and all would go to the engine with its Dockerfile", .0.display())]
    TooMany(PathBuf),
    /// A line of `.dockerignore`.
    #[error("{}:{line}: `{pattern}` is no pattern: {why}", .file.display())]
    Pattern {
        /// Which file.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// As it is written.
        pattern: String,
        /// What is wrong.
        why: String,
    },
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] IoError),
}

impl Hint for ContextError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::TooLarge(_) | Self::TooMany(_) => Some(
                "give the Dockerfile a folder of its own, or name in `.dockerignore` what the image does not need"
                    .into(),
            ),
            Self::Pattern { .. } => Some("patterns are those of docker: `data`, `**/*.iso`, `!keep`".into()),
            Self::File(error) => error.hint(),
        }
    }
}

/// A Dockerfile and what is sent with it.
#[derive(Debug)]
pub(super) struct BuildContext {
    /// Text of the Dockerfile.
    pub(super) dockerfile: String,
    /// Its name in the archive.
    pub(super) name: String,
    /// Its folder; `None` for one that copies nothing.
    folder: Option<PathBuf>,
    ignored: Vec<IgnoreLine>,
}

/// A line of `.dockerignore`.
#[derive(Debug)]
struct IgnoreLine {
    takes_back: bool,
    pattern: Gitignore,
}

impl BuildContext {
    /// A Dockerfile that copies nothing.
    pub(super) fn of_text(dockerfile: &str) -> Self {
        let name = "Dockerfile".to_owned();
        Self { dockerfile: dockerfile.to_owned(), name, folder: None, ignored: Vec::new() }
    }

    /// Reads a Dockerfile and the `.dockerignore` beside it.
    pub(super) fn read(path: &Path) -> Result<Self, ContextError> {
        let dockerfile = text(path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
        let file = folder.join(IGNORE_FILE);
        let lines = match text(&file) {
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => String::new(),
            lines => lines?,
        };
        let mut ignored = Vec::new();
        for (number, line) in lines.lines().enumerate() {
            let parsed = IgnoreLine::parse(line).map_err(|why| ContextError::Pattern {
                file: file.clone(),
                line: number + 1,
                pattern: line.to_owned(),
                why,
            })?;
            ignored.extend(parsed);
        }
        Ok(Self { dockerfile, name, folder: Some(folder), ignored })
    }

    /// Writes the archive.
    pub(super) fn pack(&self, to: impl Write) -> Result<(), ContextError> {
        let mut packer = Packer { context: self, archive: Builder::new(to), bytes: 0, entries: 0 };
        packer.regular(Path::new(&self.name), self.dockerfile.as_bytes()).map_err(sending)?;
        if let Some(folder) = &self.folder {
            packer.folder(folder, folder, Path::new(""))?;
        }
        let finish = || packer.archive.into_inner()?.flush();
        finish().map_err(sending)
    }

    /// Whether something is not sent. The last line that says something of it or of a folder above it counts.
    fn ignores(&self, path: &Path) -> bool {
        let about = |line: &&IgnoreLine| {
            let above = path.ancestors().filter(|above| !above.as_os_str().is_empty());
            above.into_iter().any(|above| line.pattern.matched(above, true).is_ignore())
        };
        self.ignored.iter().rev().find(about).is_some_and(|line| !line.takes_back)
    }

    fn takes_something_back(&self) -> bool {
        self.ignored.iter().any(|line| line.takes_back)
    }
}

impl IgnoreLine {
    /// As docker reads it; `None` for an empty line or a comment. Unlike in gitignore(5) every pattern is one of a
    /// whole path below the folder.
    fn parse(line: &str) -> Result<Option<Self>, String> {
        if line.starts_with('#') {
            return Ok(None);
        }
        let trimmed = line.trim();
        let (takes_back, pattern) = match trimmed.strip_prefix('!') {
            Some(pattern) => (true, pattern.trim()),
            None => (false, trimmed),
        };
        let components = pattern.split('/').filter(|component| !matches!(*component, "" | "."));
        let pattern: Vec<&str> = components.collect();
        if pattern.is_empty() {
            return Ok(None);
        }
        let mut builder = GitignoreBuilder::new("");
        let pattern = builder
            .add_line(None, &format!("/{}", pattern.join("/")))
            .and_then(|builder| builder.build())
            .map_err(|error| error.to_string())?;
        Ok(Some(Self { takes_back, pattern }))
    }
}

struct Packer<'c, W: Write> {
    context: &'c BuildContext,
    archive: Builder<W>,
    bytes: u64,
    entries: u64,
}

impl<W: Write> Packer<'_, W> {
    /// Packs what is in a folder whose name in the archive is `name`.
    fn folder(&mut self, root: &Path, folder: &Path, name: &Path) -> Result<(), ContextError> {
        let reading = || format!("reading {}", folder.display());
        let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut entries = entries.io_context(reading)?;
        // The order is part of the hash.
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = name.join(entry.file_name());
            let is_sent_apart = name == Path::new(&self.context.name) || name == Path::new(IGNORE_FILE);
            let is_ignored = self.context.ignores(&name);
            let kind = entry.file_type().io_context(reading)?;
            if is_sent_apart || is_ignored && !(kind.is_dir() && self.context.takes_something_back()) {
                continue;
            }
            self.entries += 1;
            if self.entries > MAX_CONTEXT_ENTRIES {
                return Err(ContextError::TooMany(root.to_owned()));
            }
            if kind.is_dir() {
                if !is_ignored {
                    let mut header = header(EntryType::Directory, 0, 0o755);
                    self.archive.append_data(&mut header, &name, io::empty()).map_err(sending)?;
                }
                self.folder(root, &entry.path(), &name)?;
            } else if kind.is_symlink() {
                let target = fs::read_link(entry.path()).io_context(reading)?;
                let mut header = header(EntryType::Symlink, 0, 0o777);
                self.archive.append_link(&mut header, &name, target).map_err(sending)?;
            } else if kind.is_file() {
                self.file(root, &entry.path(), &name)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, root: &Path, path: &Path, name: &Path) -> Result<(), ContextError> {
        let reading = || format!("reading {}", path.display());
        let file = File::open(path).io_context(reading)?;
        let metadata = file.metadata().io_context(reading)?;
        self.bytes = self.bytes.saturating_add(metadata.len());
        if self.bytes > MAX_CONTEXT_BYTES {
            return Err(ContextError::TooLarge(root.to_owned()));
        }
        let mut header = Header::new_gnu();
        // Of the mode it keeps whether the file is executable.
        header.set_metadata_in_mode(&metadata, HeaderMode::Deterministic);
        // One that grows meanwhile is cut, and one that shrinks fails in the engine.
        let content = file.take(metadata.len());
        self.archive.append_data(&mut header, name, content).io_context(reading)?;
        Ok(())
    }

    fn regular(&mut self, name: &Path, content: &[u8]) -> io::Result<()> {
        let mut header = header(EntryType::Regular, content.len() as u64, 0o644);
        self.archive.append_data(&mut header, name, content)
    }
}

fn header(kind: EntryType, size: u64, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn sending(error: io::Error) -> ContextError {
    ContextError::File(IoError::new("packing what the image is built from", error))
}

/// The text of a file. A folder of strangers' files may hold anything under that name, so a bound comes first.
fn text(path: &Path) -> Result<String, IoError> {
    let reading = || format!("reading {}", path.display());
    let metadata = fs::metadata(path).io_context(reading)?;
    if !metadata.is_file() || metadata.len() > MAX_TEXT_BYTES {
        let why = format!("it is no file of at most {MAX_TEXT_BYTES} bytes");
        return Err(IoError::new(reading(), io::Error::other(why)));
    }
    fs::read_to_string(path).io_context(reading)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn names(context: &BuildContext) -> Vec<String> {
        let mut bytes = Vec::new();
        context.pack(&mut bytes).expect("packed");
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries = archive.entries().expect("entries");
        let name =
            |entry: tar::Entry<'_, &[u8]>| entry.path().expect("a path").to_string_lossy().into_owned();
        entries.map(|entry| name(entry.expect("an entry"))).collect()
    }

    #[test]
    fn what_dockerignore_names_is_not_sent() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        for name in ["src/deep", "data/kept", "node_modules/a"] {
            fs::create_dir_all(root.join(name)).expect("folders");
        }
        for name in ["src/main.c", "src/a.log", "src/deep/b.log", "data/x", "data/kept/y", "node_modules/a/i"]
        {
            fs::write(root.join(name), name).expect("written");
        }
        symlink("/etc/passwd", root.join("src/link")).expect("a link");
        fs::write(root.join("Dockerfile"), "FROM scratch\n").expect("written");
        let read = |ignored: &str| {
            fs::write(root.join(IGNORE_FILE), ignored).expect("written");
            names(&BuildContext::read(&root.join("Dockerfile")).expect("read"))
        };
        let all = read("");
        assert_eq!(all[0], "Dockerfile");
        for name in ["src/link", "src/deep/b.log", "node_modules/a/i", "data/kept/y"] {
            assert!(all.iter().any(|sent| sent == name), "{name}: {all:?}");
        }
        assert!(
            !all.iter().any(|sent| sent == IGNORE_FILE)
                && all.iter().filter(|n| *n == "Dockerfile").count() == 1
        );
        let some = read("# all\n\n/node_modules/\n**/*.log\ndata\n!data/kept\nmain.c\nDockerfile\n");
        assert_eq!(
            some,
            ["Dockerfile", "data/kept", "data/kept/y", "src", "src/deep", "src/link", "src/main.c"]
        );
        // The last line that speaks of a path counts, whatever it is more exact than.
        let last = read("!src/main.c\nsrc\n");
        assert!(!last.iter().any(|sent| sent.starts_with("src")), "{last:?}");
        fs::write(root.join(IGNORE_FILE), "ok\n[z-a]\n").expect("written");
        let error = BuildContext::read(&root.join("Dockerfile")).expect_err("no pattern");
        assert!(error.to_string().contains(":2: `[z-a]` is no pattern"), "{error}");
    }

    #[test]
    fn the_archive_depends_on_the_content_alone() {
        let pack = |mode| {
            let folder = tempfile::tempdir().expect("a folder");
            fs::write(folder.path().join("Dockerfile"), "FROM scratch\n").expect("written");
            fs::write(folder.path().join("tool"), "#!/bin/sh\n").expect("written");
            fs::set_permissions(folder.path().join("tool"), fs::Permissions::from_mode(mode)).expect("set");
            let mut bytes = Vec::new();
            let context = BuildContext::read(&folder.path().join("Dockerfile")).expect("read");
            context.pack(&mut bytes).expect("packed");
            bytes
        };
        assert_eq!(pack(0o755), pack(0o755));
        assert_ne!(pack(0o755), pack(0o644));
    }

    #[test]
    fn a_folder_that_is_too_large_is_refused_before_it_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("Dockerfile"), "FROM scratch\n").expect("written");
        // It takes no place on the disk.
        File::create(folder.path().join("large"))
            .and_then(|file| file.set_len(MAX_CONTEXT_BYTES + 1))
            .expect("made");
        let context = BuildContext::read(&folder.path().join("Dockerfile")).expect("read");
        assert!(
            matches!(context.pack(io::sink()), Err(ContextError::TooLarge(path)) if path == folder.path())
        );
        fs::write(folder.path().join(IGNORE_FILE), "large\n").expect("written");
        let context = BuildContext::read(&folder.path().join("Dockerfile")).expect("read");
        context.pack(io::sink()).expect("packed without it");
    }
}
