//! The append-only file of decisions.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use bot_bottle_core::{
    decision::Decision,
    receipt::{Ending, Line, MAX_PATH_BYTES, Receipt, RequestSummary},
};
use serde::Serialize;
use thiserror::Error;

use crate::{
    clock,
    limits::{MAX_HOST_ECHO, MAX_METHOD_ECHO, RECEIPT_TAIL_BYTES},
};

/// Appends one line for each decision before it takes effect, and one when an exchange that was let out ends.
/// Each is one write of its own: the kernel's page cache survives the end of this process, kill -9 included.
#[derive(Debug)]
pub(crate) struct Receipts {
    writer: Mutex<Writer>,
}

#[derive(Debug)]
struct Writer {
    file: File,
    /// Of the line that was written last.
    sequence: u64,
    line: Vec<u8>,
    /// A write failed. The end of the file is unknown now, so nothing more is written and nothing more
    /// allowed.
    failed: bool,
}

/// The receipts file cannot be opened.
#[derive(Debug, Error)]
#[error("receipts cannot be written to {}: {source}", path.display())]
pub struct OpenReceiptsError {
    path: PathBuf,
    source: io::Error,
}

/// What a decision's line says besides.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Details<'a> {
    /// The status of a refusal; an allowed request has none yet.
    pub(crate) status: Option<u16>,
    /// The number of an exchange that has a line already.
    pub(crate) exchange: Option<u64>,
    /// Names of the credentials that the agent sent itself.
    pub(crate) stripped: &'a [String],
}

impl Details<'_> {
    /// Those of a refusal that was answered with this status.
    pub(crate) fn status(status: u16) -> Self {
        Self { status: Some(status), ..Self::default() }
    }
}

/// A receipt was not written, so its decision must not take effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a receipt could not be written")]
pub(crate) struct ReceiptNotWritten;

impl Receipts {
    /// Opens the file to append to, and goes on counting where it ends.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenReceiptsError> {
        let open = || -> io::Result<Writer> {
            let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
            let (sequence, ends_in_line) = last_sequence(&mut file)?;
            if !ends_in_line {
                file.write_all(b"\n")?;
            }
            Ok(Writer { file, sequence, line: Vec::with_capacity(1024), failed: false })
        };
        let writer = open().map_err(|source| OpenReceiptsError { path: path.to_owned(), source })?;
        Ok(Self { writer: Mutex::new(writer) })
    }

    /// Writes down a decision and returns the number of its exchange.
    pub(crate) fn record(
        &self,
        request: RequestSummary<'_>,
        decision: &Decision,
        details: Details<'_>,
    ) -> Result<u64, ReceiptNotWritten> {
        let time = clock::rfc3339(SystemTime::now());
        let request = RequestSummary {
            method: cut(request.method, MAX_METHOD_ECHO),
            host: cut(request.host, MAX_HOST_ECHO),
            path: cut(request.path, MAX_PATH_BYTES),
            ..request
        };
        let sequence = self.writer().append(|sequence| {
            let exchange = details.exchange.unwrap_or(sequence);
            Line {
                sequence,
                time,
                line: Receipt {
                    exchange,
                    request,
                    decision: decision.clone(),
                    stripped: details.stripped,
                    status: details.status,
                },
            }
        })?;
        Ok(details.exchange.unwrap_or(sequence))
    }

    /// Writes down how an exchange ended that was let out.
    pub(crate) fn end(&self, ending: Ending) -> Result<u64, ReceiptNotWritten> {
        let time = clock::rfc3339(SystemTime::now());
        self.writer().append(|sequence| Line { sequence, time, line: ending })
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    /// Appends the line that `line` makes of its number, and returns the number.
    fn append<T: Serialize>(&mut self, line: impl FnOnce(u64) -> T) -> Result<u64, ReceiptNotWritten> {
        if self.failed {
            return Err(ReceiptNotWritten);
        }
        let sequence = self.sequence + 1;
        self.line.clear();
        let written =
            serde_json::to_writer(&mut self.line, &line(sequence)).map_err(io::Error::from).and_then(|()| {
                self.line.push(b'\n');
                self.file.write_all(&self.line)
            });
        match written {
            Ok(()) => {
                self.sequence = sequence;
                Ok(sequence)
            }
            Err(error) => {
                self.failed = true;
                tracing::error!(%error, "receipts can no longer be written; everything is refused from now on");
                Err(ReceiptNotWritten)
            }
        }
    }
}

/// The sequence of the last whole line, and whether the file ends with a whole line.
fn last_sequence(file: &mut File) -> io::Result<(u64, bool)> {
    let length = file.seek(SeekFrom::End(0))?;
    if length == 0 {
        return Ok((0, true));
    }
    file.seek(SeekFrom::Start(length.saturating_sub(RECEIPT_TAIL_BYTES)))?;
    let mut tail = Vec::new();
    Read::by_ref(file).take(RECEIPT_TAIL_BYTES).read_to_end(&mut tail)?;
    #[derive(serde::Deserialize)]
    struct Line {
        sequence: u64,
    }
    let sequence = tail
        .split(|byte| *byte == b'\n')
        .rev()
        .find_map(|line| serde_json::from_slice::<Line>(line).ok())
        .map_or(0, |line| line.sequence);
    Ok((sequence, tail.last().is_none_or(|byte| *byte == b'\n')))
}

/// The text's start, at most `bytes` of it, whole characters only.
pub(crate) fn cut(text: &str, bytes: usize) -> &str {
    if text.len() <= bytes {
        return text;
    }
    let end = (0..=bytes).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    &text[..end]
}

#[cfg(test)]
mod tests {
    use bot_bottle_core::decision::{DecidedBy, Reason};

    use super::*;

    const REQUEST: RequestSummary<'_> =
        RequestSummary { method: "GET", host: "api.example.org", port: 443, path: "/v1" };

    fn refusal() -> Decision {
        Decision::refuse(Reason::NoRoute, DecidedBy::Policy)
    }

    #[test]
    fn a_file_is_private_and_counted_on_after_a_restart() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("receipts.jsonl");
        for _ in 0..2 {
            let receipts = Receipts::open(&path).expect("opened");
            receipts.record(REQUEST, &refusal(), Details::status(403)).expect("written");
        }
        // A process that was killed in the middle of a line.
        OpenOptions::new().append(true).open(&path).expect("opened").write_all(b"{\"seq").expect("written");
        Receipts::open(&path)
            .expect("opened")
            .record(REQUEST, &refusal(), Details::default())
            .expect("written");

        let text = std::fs::read_to_string(&path).expect("read");
        let sequences: Vec<_> = text
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .map(|line| line["sequence"].as_u64())
            .collect();
        assert_eq!(sequences, [Some(1), Some(2), Some(3)]);
        assert_eq!(std::fs::metadata(&path).expect("metadata").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn after_a_failed_write_nothing_is_recorded_any_more() {
        // Every write to it fails with "no space left on device".
        let receipts = Receipts::open(Path::new("/dev/full")).expect("opened");
        assert_eq!(receipts.record(REQUEST, &refusal(), Details::default()), Err(ReceiptNotWritten));
        assert_eq!(receipts.record(REQUEST, &refusal(), Details::default()), Err(ReceiptNotWritten));
        assert!(receipts.writer.lock().expect("not poisoned").failed);
    }

    #[test]
    fn long_paths_are_cut_between_characters() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
    }
}
