//! Where receipts are written: a file of this host, or a pipe to the process that keeps them.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::OwnedFd,
    path::Path,
};

use crate::limits::{MAX_RECEIPT_LINE_BYTES, RECEIPT_FILES, RECEIPTS_BYTES};

use super::rotating_file::RotatingFile;

/// Where the lines go.
#[derive(Debug)]
pub(super) enum Output {
    File(RotatingFile),
    Stream(StreamedFile),
}

impl Output {
    /// Whether the file has room for so many bytes more.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        match self {
            Self::File(file) => file.has_room(bytes),
            Self::Stream(file) => file.has_room(bytes),
        }
    }

    /// Appends whole lines.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.append(lines),
            Self::Stream(file) => file.append(lines),
        }
    }

    /// Goes on in a new file.
    pub(super) fn rotate(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.rotate(),
            Self::Stream(file) => {
                file.length = 0;
                Ok(())
            }
        }
    }

    /// The last bytes, at most so many. Of a stream nothing is known.
    pub(super) fn tail(&mut self, bytes: u64) -> io::Result<Vec<u8>> {
        match self {
            Self::File(file) => file.tail(bytes),
            Self::Stream(_) => Ok(Vec::new()),
        }
    }
}

/// A file that another process writes. It rotates at the same sizes there ([`ReceiptsFile`]), so that the share
/// of the refusals is counted here for the file that they are in.
#[derive(Debug)]
pub(super) struct StreamedFile {
    pipe: File,
    length: u64,
    file_bytes: u64,
}

impl StreamedFile {
    pub(super) fn new(pipe: OwnedFd, bytes: u64, files: usize) -> Self {
        Self { pipe: pipe.into(), length: 0, file_bytes: bytes / files.max(1) as u64 }
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.length == 0 || self.length + bytes as u64 <= self.file_bytes
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.pipe.write_all(lines)?;
        self.length += lines.len() as u64;
        Ok(())
    }
}

/// The files of a gateway that streams its receipts: appends what comes, and rotates as the gateway itself does
/// where it has files.
#[derive(Debug)]
pub struct ReceiptsFile {
    file: RotatingFile,
    /// A line that has not come to its end.
    partial: Vec<u8>,
}

impl ReceiptsFile {
    /// Opens the file to append to. It and the older ones may take so many bytes.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path, bytes: Option<u64>) -> io::Result<Self> {
        let bytes = bytes.unwrap_or(RECEIPTS_BYTES).min(RECEIPTS_BYTES);
        Ok(Self { file: RotatingFile::open(path, bytes, RECEIPT_FILES)?, partial: Vec::new() })
    }

    /// Appends a piece of the stream. Whole lines are in the file when this returns.
    ///
    /// # Errors
    /// When the file cannot be written, or a line is longer than a receipt can be.
    pub fn append(&mut self, piece: &[u8]) -> io::Result<()> {
        let Some(end) = piece.iter().rposition(|byte| *byte == b'\n') else {
            if self.partial.len() + piece.len() > MAX_RECEIPT_LINE_BYTES {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is longer than a receipt"));
            }
            self.partial.extend(piece);
            return Ok(());
        };
        let mut lines = std::mem::take(&mut self.partial);
        lines.extend(&piece[..=end]);
        self.partial.extend(&piece[end + 1..]);
        if !self.file.has_room(lines.len()) {
            self.file.rotate()?;
        }
        self.file.append(&lines)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn pieces_become_whole_lines_in_files_that_rotate() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("receipts.jsonl");
        let mut file = ReceiptsFile::open(&path, Some(64 * RECEIPT_FILES as u64)).expect("opened");
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap_or_default();
        file.append(b"fir").expect("kept");
        assert_eq!(read("receipts.jsonl"), "", "a part of a line is no receipt");
        file.append(b"st\nsec").expect("written");
        assert_eq!(read("receipts.jsonl"), "first\n");
        file.append(format!("ond\n{}\n", "x".repeat(60)).as_bytes()).expect("written");
        assert_eq!(read("receipts.jsonl.1"), "first\n");
        assert!(read("receipts.jsonl").starts_with("second\nxxx"));
        file.append(&vec![b'x'; MAX_RECEIPT_LINE_BYTES + 1]).expect_err("no receipt is that long");
    }
}
