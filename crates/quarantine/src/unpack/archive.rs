//! Reads an archive within bounds.

use std::{
    cell::Cell,
    io::{self, Read},
};

use bot_bottle_core::error::IoError;

use super::{
    UnpackBounds,
    entry_path::{EntryPath, refused},
    error::UnpackError,
};

/// Bytes that may be read between the contents of two entries: headers, long names, pax records. A path has at
/// most 4096 bytes on Linux, but the `tar` crate reads whatever length a header declares into memory.
const MAX_HEADERS: u64 = 1 << 20;

/// An entry of an archive.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: EntryPath,
    pub(super) kind: Kind,
    /// Permissions: the lowest nine bits.
    pub(super) mode: u32,
    /// When it was last modified, in seconds since 1970.
    pub(super) modified: u64,
}

/// What an entry is.
#[derive(Debug)]
pub(super) enum Kind {
    File,
    Folder,
    SymbolicLink(Vec<u8>),
    /// Another name of an earlier entry, as it is written.
    HardLink(Vec<u8>),
    /// Something that is left out.
    Other(&'static str),
}

/// The content of an entry.
pub(super) struct Content<'a> {
    source: &'a mut dyn Read,
    position: &'a Position,
    left: u64,
    bounds: &'a UnpackBounds,
    bytes: &'a mut u64,
}

/// An archive that is read.
pub(super) struct Archive<'a> {
    source: &'a mut dyn Read,
    bounds: &'a UnpackBounds,
    bytes: u64,
    written: u64,
}

impl<'a> Archive<'a> {
    pub(super) fn new(source: &'a mut dyn Read, bounds: &'a UnpackBounds) -> Self {
        Self { source, bounds, bytes: 0, written: 0 }
    }

    /// Bytes of contents that were read to be written.
    pub(super) fn bytes_written(&self) -> u64 {
        self.written
    }

    /// Hands over each entry with its content, and reads what is not read of it.
    pub(super) fn for_each(
        &mut self,
        mut each: impl FnMut(Entry, &mut Content<'_>) -> Result<(), UnpackError>,
    ) -> Result<(), UnpackError> {
        let position = Position::default();
        let mut archive = tar::Archive::new(Bounded { source: &mut *self.source, position: &position });
        let mut entries = archive.entries().map_err(|error| position.explain(error))?;
        let mut count = 0_u64;
        loop {
            position.allowed.set(MAX_HEADERS);
            let Some(entry) = entries.next() else { break };
            let mut entry = entry.map_err(|error| position.explain(error))?;
            count += 1;
            if count > self.bounds.entries {
                return Err(UnpackError::TooLarge { what: "entries", bound: self.bounds.entries });
            }
            position.allowed.set(u64::MAX);
            let size = entry.size();
            let Some(described) = describe(&entry, self.bounds)? else { continue };
            let mut content = Content {
                left: size,
                source: &mut entry,
                position: &position,
                bounds: self.bounds,
                bytes: &mut self.bytes,
            };
            each(described, &mut content)?;
            self.written += size - content.left;
            content.skip()?;
        }
        // An archive ends with a block of zeros, tar(5). Without it the sender did not come to the end.
        if position.ended.get() {
            return Err(UnpackError::CutOff);
        }
        Ok(())
    }
}

/// `None` for what describes no entry.
fn describe<R: Read>(entry: &tar::Entry<'_, R>, bounds: &UnpackBounds) -> Result<Option<Entry>, UnpackError> {
    use tar::EntryType as Type;
    let header = entry.header();
    let written = entry.path_bytes();
    let target = || entry.link_name_bytes().map(|target| target.into_owned()).unwrap_or_default();
    let kind = match header.entry_type() {
        Type::XGlobalHeader => return Ok(None),
        // Old archives have no type for folders.
        Type::Regular if written.ends_with(b"/") && entry.size() == 0 => Kind::Folder,
        Type::Regular | Type::Continuous | Type::GNUSparse => Kind::File,
        Type::Directory => Kind::Folder,
        Type::Symlink => Kind::SymbolicLink(target()),
        Type::Link => Kind::HardLink(target()),
        Type::Char | Type::Block => Kind::Other("is a device"),
        Type::Fifo => Kind::Other("is a named pipe"),
        _ => Kind::Other("is of a kind that is not known"),
    };
    let path = EntryPath::new(&written, bounds.depth)?;
    let number = |value: io::Result<u64>| value.map_err(|_| refused(&written, "its header is malformed"));
    let mode = number(header.mode().map(u64::from))?;
    let mode = u32::try_from(mode & 0o777).unwrap_or(0);
    Ok(Some(Entry { path, kind, mode, modified: number(header.mtime())? }))
}

impl Content<'_> {
    /// Reads some of the content; 0 at its end.
    pub(super) fn read(&mut self, into: &mut [u8]) -> Result<usize, UnpackError> {
        let wanted = into.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        // Before it is read: the size of a file with holes is only a number in its header.
        if self.left > self.bounds.bytes.saturating_sub(*self.bytes) {
            return Err(UnpackError::TooLarge { what: "bytes", bound: self.bounds.bytes });
        }
        let read = self.source.read(&mut into[..wanted]).map_err(|error| self.position.explain(error))?;
        if read == 0 {
            return Err(UnpackError::CutOff);
        }
        self.left -= read as u64;
        *self.bytes += read as u64;
        Ok(read)
    }

    fn skip(&mut self) -> Result<(), UnpackError> {
        if self.left == 0 {
            return Ok(());
        }
        let mut buffer = vec![0; 64 << 10];
        while self.read(&mut buffer)? > 0 {}
        Ok(())
    }
}

/// What the reader below tells besides bytes.
#[derive(Debug, Default)]
struct Position {
    /// Bytes that may be read now.
    allowed: Cell<u64>,
    /// Whether `allowed` was exceeded.
    exceeded: Cell<bool>,
    /// Whether the source has ended.
    ended: Cell<bool>,
}

impl Position {
    fn explain(&self, error: io::Error) -> UnpackError {
        if self.exceeded.get() {
            return UnpackError::TooLarge { what: "bytes in the header of one entry", bound: MAX_HEADERS };
        }
        if self.ended.get() || error.kind() == io::ErrorKind::UnexpectedEof {
            return UnpackError::CutOff;
        }
        match error.raw_os_error() {
            Some(_) => UnpackError::Io(IoError::new("reading the archive", error)),
            // The crate's messages may quote the archive.
            None => UnpackError::Malformed(bot_bottle_core::printable::printable(&error.to_string())),
        }
    }
}

struct Bounded<'a> {
    source: &'a mut dyn Read,
    position: &'a Position,
}

impl Read for Bounded<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let allowed = self.position.allowed.get();
        if allowed == 0 && !into.is_empty() {
            self.position.exceeded.set(true);
            return Err(io::Error::other("the header of an entry is too large"));
        }
        let wanted = into.len().min(usize::try_from(allowed).unwrap_or(usize::MAX));
        let read = self.source.read(&mut into[..wanted])?;
        self.position.allowed.set(allowed - read as u64);
        self.position.ended.set(read == 0 && wanted > 0);
        Ok(read)
    }
}
