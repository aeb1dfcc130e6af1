//! A file that is appended to, and the older ones that it was before.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Appends to a file until it has its share of the bytes, and then renames it, as logrotate(8) does: `FILE.1` is
/// the newest of the older ones.
#[derive(Debug)]
pub(super) struct RotatingFile {
    path: PathBuf,
    file: File,
    /// Bytes of the file that are known to be whole lines.
    length: u64,
    /// A write ended somewhere in the middle: what is after `length` is cut off before the next one.
    is_torn: bool,
    file_bytes: u64,
    older_files: usize,
}

impl RotatingFile {
    /// Opens a file of which `files`, the older ones among them, may take `bytes` in all.
    pub(super) fn open(path: &Path, bytes: u64, files: usize) -> io::Result<Self> {
        let file = open(path)?;
        let length = file.metadata()?.len();
        let mut opened = Self {
            path: path.to_owned(),
            file,
            length,
            is_torn: false,
            file_bytes: bytes / files.max(1) as u64,
            older_files: files.saturating_sub(1),
        };
        if !matches!(opened.tail(1)?.last(), None | Some(b'\n')) {
            opened.append(b"\n")?;
        }
        Ok(opened)
    }

    /// Whether the file has room for so many bytes more. One that is empty has.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.length == 0 || self.length + bytes as u64 <= self.file_bytes
    }

    /// Appends whole lines. If that fails, none of them is in the file after the next success.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.file.set_len(self.length)?;
            self.is_torn = false;
        }
        self.is_torn = true;
        self.file.write_all(lines)?;
        self.is_torn = false;
        self.length += lines.len() as u64;
        Ok(())
    }

    /// Goes on in a new file. The oldest one is removed where there are too many.
    pub(super) fn rotate(&mut self) -> io::Result<()> {
        for number in (1..self.older_files).rev() {
            match fs::rename(self.older(number), self.older(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.older_files > 0 {
            fs::rename(&self.path, self.older(1))?;
        } else {
            fs::remove_file(&self.path)?;
        }
        self.file = open(&self.path)?;
        self.length = 0;
        self.is_torn = false;
        Ok(())
    }

    /// The last bytes of the newest file that has any, at most so many.
    pub(super) fn tail(&mut self, bytes: u64) -> io::Result<Vec<u8>> {
        if self.length == 0
            && let Ok(mut older) = File::open(self.older(1))
        {
            let length = older.metadata()?.len();
            return tail_of(&mut older, length, bytes);
        }
        tail_of(&mut self.file, self.length, bytes)
    }

    fn older(&self, number: usize) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(format!(".{number}"));
        name.into()
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)
}

fn tail_of(file: &mut File, length: u64, bytes: u64) -> io::Result<Vec<u8>> {
    if length == 0 {
        return Ok(Vec::new());
    }
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
    let mut tail = Vec::new();
    file.take(bytes).read_to_end(&mut tail)?;
    Ok(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_files_are_numbered_and_the_oldest_goes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("receipts.jsonl");
        let mut file = RotatingFile::open(&path, 30, 3).expect("opened");
        for line in ["first\n", "second\n", "third\n", "fourth\n"] {
            if !file.has_room(line.len()) {
                file.rotate().expect("rotated");
            }
            file.append(line.as_bytes()).expect("appended");
        }
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).ok();
        assert_eq!(read("receipts.jsonl").as_deref(), Some("fourth\n"));
        assert_eq!(read("receipts.jsonl.1").as_deref(), Some("third\n"));
        assert_eq!(read("receipts.jsonl.2").as_deref(), Some("second\n"));
        assert_eq!(read("receipts.jsonl.3"), None);
        file.rotate().expect("rotated");
        assert_eq!(file.tail(4).expect("read"), b"rth\n", "of the older file where this one is empty");
    }

    #[test]
    fn half_a_line_is_cut_off_before_the_next() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("receipts.jsonl");
        let mut file = RotatingFile::open(&path, 100, 1).expect("opened");
        file.append(b"first\n").expect("appended");
        // As a write leaves it that the full disk ended.
        file.file.write_all(b"sec").expect("written");
        file.is_torn = true;
        file.append(b"third\n").expect("appended");
        assert_eq!(fs::read_to_string(&path).expect("read"), "first\nthird\n");
    }
}
