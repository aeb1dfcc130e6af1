//! The append-only record of decisions: one line each, in a file that rotates.
//!
//! Two kinds of lines share it. Those of exchanges that are let out (or wait for the operator) are always
//! written; the oldest file goes when there are too many. Refusals cost an agent nothing, so that one could fill
//! the disk with them: what repeats is counted instead of written, and the bytes of the others are bounded in rate
//! and in all. A refusal beyond that is answered `429 limit_reached`, which is counted like any other.

use std::{
    collections::VecDeque,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Instant, SystemTime},
};

use bot_bottle_core::{
    decision::{DecidedBy, Decision, Reason},
    receipt::{Ending, Line, MAX_PATH_BYTES, Receipt, Renewal, Repeated, RequestSummary},
};
use serde::Serialize;
use thiserror::Error;
use tokio::sync::Notify;

use crate::{
    clock,
    limits::{
        ENDING_DELAY, MAX_HOST_ECHO, MAX_METHOD_ECHO, MAX_PENDING_RECEIPTS, RECEIPT_FILES,
        RECEIPT_TAIL_BYTES, RECEIPTS_BYTES, REFUSAL_BURST_BYTES, REFUSAL_REFILL_BYTES,
    },
    token_bucket::TokenBucket,
};

mod output;
mod repeats;
mod rotating_file;

pub use output::ReceiptsFile;
use output::{Output, StreamedFile};
use repeats::{Refused, Repeats};
use rotating_file::RotatingFile;

/// Appends one line for each decision before it takes effect, and one when an exchange that was let out ends.
/// The kernel's page cache survives the end of this process, kill -9 included.
#[derive(Debug)]
pub(crate) struct Receipts {
    writer: Mutex<Writer>,
    /// Told when there is something to write later.
    later: Arc<Notify>,
}

#[derive(Debug)]
struct Writer {
    output: Output,
    /// Of the line that was made last.
    sequence: u64,
    /// Lines that are not in the file yet.
    pending: Vec<u8>,
    /// When they have to be, where nothing takes them along before.
    pending_due: Option<Instant>,
    repeats: Repeats,
    refusal_rate: TokenBucket,
    /// Bytes of refusals in each of the files, the newest first.
    refusal_bytes: VecDeque<u64>,
    max_refusal_bytes: u64,
    /// The last write failed.
    is_failing: bool,
}

/// The receipts file cannot be opened.
#[derive(Debug, Error)]
#[error("receipts cannot be written to {}: {source}", path.display())]
pub struct OpenReceiptsError {
    path: PathBuf,
    source: io::Error,
}

/// What the line of an exchange says besides.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Details<'a> {
    /// The status of a refusal; an allowed request has none yet.
    pub(crate) status: Option<u16>,
    /// The number of an exchange that has a line already.
    pub(crate) exchange: Option<u64>,
    /// Names of the credentials that the agent sent itself.
    pub(crate) stripped: &'a [String],
}

/// A receipt was not written, so its decision must not take effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a receipt could not be written")]
pub(crate) struct ReceiptNotWritten;

/// A refusal has no line of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum RefusalNotWritten {
    #[error(transparent)]
    Failed(#[from] ReceiptNotWritten),
    /// There are too many that differ. It is counted.
    #[error("too many different requests were refused at one time")]
    TooMany,
}

impl Receipts {
    /// Opens the file to append to, and goes on counting where it ends. The files may take so many bytes.
    pub(crate) fn open(path: &Path, bytes: Option<u64>) -> Result<Self, OpenReceiptsError> {
        let bytes = bytes.unwrap_or(RECEIPTS_BYTES).min(RECEIPTS_BYTES);
        let file = RotatingFile::open(path, bytes, RECEIPT_FILES).map(Output::File);
        file.and_then(|file| Self::with_output(file, bytes))
            .map_err(|source| OpenReceiptsError { path: path.to_owned(), source })
    }

    /// Writes to a pipe, for a gateway whose files are kept by another process; see [`ReceiptsFile`].
    pub(crate) fn stream(pipe: OwnedFd, bytes: Option<u64>) -> io::Result<Self> {
        let bytes = bytes.unwrap_or(RECEIPTS_BYTES).min(RECEIPTS_BYTES);
        Self::with_output(Output::Stream(StreamedFile::new(pipe, bytes, RECEIPT_FILES)), bytes)
    }

    fn with_output(mut output: Output, bytes: u64) -> io::Result<Self> {
        let sequence = last_sequence(&output.tail(RECEIPT_TAIL_BYTES)?);
        let writer = Writer {
            output,
            sequence,
            pending: Vec::with_capacity(1024),
            pending_due: None,
            repeats: Repeats::default(),
            refusal_rate: TokenBucket::new(REFUSAL_BURST_BYTES, REFUSAL_REFILL_BYTES, Instant::now()),
            refusal_bytes: VecDeque::from([0]),
            max_refusal_bytes: bytes / 2,
            is_failing: false,
        };
        Ok(Self { writer: Mutex::new(writer), later: Arc::default() })
    }

    /// Writes down a decision of an exchange that goes on, or did, and returns its number.
    pub(crate) fn record(
        &self,
        request: RequestSummary<'_>,
        decision: &Decision,
        details: Details<'_>,
    ) -> Result<u64, ReceiptNotWritten> {
        self.writer().decide(cut_all(request), decision, details)
    }

    /// Writes down a refusal, or counts it where it is the same as one before.
    pub(crate) fn refuse(
        &self,
        request: RequestSummary<'_>,
        decision: &Decision,
        status: Option<u16>,
    ) -> Result<(), RefusalNotWritten> {
        let refused = self.writer().refuse(cut_all(request), decision, status, Instant::now());
        self.later.notify_one();
        refused
    }

    /// Writes down how an exchange ended that was let out: together with the next line, or a moment later.
    pub(crate) fn end(&self, ending: Ending) {
        if self.writer().end(ending, Instant::now()) {
            self.later.notify_one();
        }
    }

    /// Writes down a renewal, before its values are in force.
    pub(crate) fn renewal(&self, renewal: Renewal<'_>) -> Result<(), ReceiptNotWritten> {
        let mut writer = self.writer();
        writer.push(renewal);
        writer.write()
    }

    /// Writes what waits to be written.
    pub(crate) fn flush(&self) {
        self.writer().flush();
    }

    /// Writes in time what waits to be written, until the receipts are dropped.
    pub(crate) async fn write_later(receipts: Weak<Self>) {
        let Some(later) = receipts.upgrade().map(|receipts| Arc::clone(&receipts.later)) else { return };
        loop {
            later.notified().await;
            while let Some(receipts) = receipts.upgrade() {
                let Some(due) = receipts.writer().write_due(Instant::now()) else { break };
                drop(receipts);
                tokio::time::sleep_until(due.into()).await;
            }
        }
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Receipts {
    fn drop(&mut self) {
        self.flush();
    }
}

impl Writer {
    fn decide(
        &mut self,
        request: RequestSummary<'_>,
        decision: &Decision,
        details: Details<'_>,
    ) -> Result<u64, ReceiptNotWritten> {
        let exchange = details.exchange.unwrap_or(self.sequence + 1);
        self.push(Receipt {
            exchange,
            request,
            decision: decision.clone(),
            stripped: details.stripped,
            status: details.status,
        });
        self.write()?;
        Ok(exchange)
    }

    fn refuse(
        &mut self,
        request: RequestSummary<'_>,
        decision: &Decision,
        status: Option<u16>,
        now: Instant,
    ) -> Result<(), RefusalNotWritten> {
        let refused = Refused::new(request, decision, status);
        if self.repeats.count(&refused) {
            return Ok(());
        }
        let before = self.pending.len();
        let exchange = self.sequence + 1;
        self.push(Receipt { exchange, request, decision: decision.clone(), stripped: &[], status });
        let bytes = (self.pending.len() - before) as u64;
        if !self.has_room_for_refusal(bytes) || !self.refusal_rate.take(bytes, now) {
            self.pending.truncate(before);
            self.sequence -= 1;
            self.count_excess(now)?;
            return Err(RefusalNotWritten::TooMany);
        }
        self.write()?;
        self.count_refusal_bytes(bytes);
        if self.repeats.has_room() {
            self.repeats.remember(refused, exchange, now);
        }
        Ok(())
    }

    /// Counts a refusal that is one too many: one line now, and its count later. It is remembered whether or not
    /// there is room: an agent could fill that, and each of these would then have a line of its own.
    fn count_excess(&mut self, now: Instant) -> Result<(), ReceiptNotWritten> {
        let decision = Decision::refuse(Reason::LimitReached, DecidedBy::Limits);
        let request = RequestSummary { method: "", host: "", port: 0, path: "" };
        let status = Some(429);
        let excess = Refused::new(request, &decision, status);
        if !self.repeats.count(&excess) {
            let exchange = self.decide(request, &decision, Details { status, ..Details::default() })?;
            self.repeats.remember(excess, exchange, now);
        }
        Ok(())
    }

    /// Makes a line of an ending, and says whether it still has to be written.
    fn end(&mut self, ending: Ending, now: Instant) -> bool {
        self.push(ending);
        if self.pending.len() >= MAX_PENDING_RECEIPTS {
            // Ignored: the exchange is over, and every later one is refused.
            let _ = self.write();
            return false;
        }
        self.pending_due.get_or_insert(now + ENDING_DELAY);
        true
    }

    /// Writes what is due, and says when to come again.
    fn write_due(&mut self, now: Instant) -> Option<Instant> {
        let is_counted = self.repeats.is_due(now) && self.push_due_counts(now);
        if is_counted || self.pending_due.is_some_and(|due| due <= now) {
            // Ignored: these lines let nothing out.
            let _ = self.write();
        }
        [self.pending_due, self.repeats.due()].into_iter().flatten().min()
    }

    /// Makes lines of the counts that are due, at the rate of refusals: an agent can repeat many of them every
    /// second, and the lines of the counts would make the oldest receipts go.
    fn push_due_counts(&mut self, now: Instant) -> bool {
        let (length, sequence) = (self.pending.len(), self.sequence);
        let counts = self.repeats.counts();
        counts.into_iter().for_each(|repeated| self.push(repeated));
        let bytes = (self.pending.len() - length) as u64;
        let is_written = self.refusal_rate.charge(bytes, now);
        if is_written {
            self.count_refusal_bytes(bytes);
            self.repeats.written(now);
        } else {
            self.pending.truncate(length);
            self.sequence = sequence;
            self.repeats.postpone(now);
        }
        is_written
    }

    fn flush(&mut self) {
        let repeated = self.repeats.take_all();
        self.push_repeated(repeated);
        // Ignored: these lines let nothing out.
        let _ = self.write();
    }

    fn push_repeated(&mut self, repeated: Vec<Repeated>) {
        let before = self.pending.len();
        for repeated in repeated {
            self.push(repeated);
        }
        let bytes = (self.pending.len() - before) as u64;
        self.count_refusal_bytes(bytes);
    }

    /// Makes a line and gives it the next number.
    fn push<T: Serialize>(&mut self, line: T) {
        self.sequence += 1;
        let line = Line { sequence: self.sequence, time: clock::rfc3339(SystemTime::now()), line };
        // Writing to memory does not fail, and no type of a line has a map with keys that are no text.
        let _ = serde_json::to_writer(&mut self.pending, &line);
        self.pending.push(b'\n');
    }

    /// Writes the lines that were made, in one write.
    fn write(&mut self) -> Result<(), ReceiptNotWritten> {
        self.pending_due = None;
        if self.pending.is_empty() {
            return Ok(());
        }
        let written = if self.output.has_room(self.pending.len()) { Ok(()) } else { self.rotate() };
        let written = written.and_then(|()| self.output.append(&self.pending));
        self.pending.clear();
        match written {
            Ok(()) => self.is_failing = false,
            Err(error) => {
                if !self.is_failing {
                    tracing::error!(%error, "receipts cannot be written; everything is refused until they can");
                }
                self.is_failing = true;
                return Err(ReceiptNotWritten);
            }
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.output.rotate()?;
        // What is refused again has its whole line again, in the new file.
        let repeated = self.repeats.take_all();
        self.push_repeated(repeated);
        self.refusal_bytes.push_front(0);
        self.refusal_bytes.truncate(RECEIPT_FILES);
        Ok(())
    }

    fn has_room_for_refusal(&self, bytes: u64) -> bool {
        self.refusal_bytes.iter().sum::<u64>() + bytes <= self.max_refusal_bytes
    }

    fn count_refusal_bytes(&mut self, bytes: u64) {
        if let Some(newest) = self.refusal_bytes.front_mut() {
            *newest += bytes;
        }
    }
}

/// The number of the last whole line.
fn last_sequence(tail: &[u8]) -> u64 {
    #[derive(serde::Deserialize)]
    struct Line {
        sequence: u64,
    }
    let mut lines = tail.split(|byte| *byte == b'\n').rev();
    lines.find_map(|line| serde_json::from_slice::<Line>(line).ok()).map_or(0, |line| line.sequence)
}

fn cut_all(request: RequestSummary<'_>) -> RequestSummary<'_> {
    RequestSummary {
        method: cut(request.method, MAX_METHOD_ECHO),
        host: cut(request.host, MAX_HOST_ECHO),
        path: cut(request.path, MAX_PATH_BYTES),
        ..request
    }
}

/// The text's start, whole characters only: as much as takes at most `bytes` in JSON, where a quote takes two and
/// a control character six (RFC 8259 section 7).
pub(crate) fn cut(text: &str, bytes: usize) -> &str {
    let mut left = bytes;
    for (at, character) in text.char_indices() {
        let written = match character {
            '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
            '\0'..'\x20' => 6,
            _ => character.len_utf8(),
        };
        match left.checked_sub(written) {
            Some(rest) => left = rest,
            None => return &text[..at],
        }
    }
    text
}

#[cfg(test)]
mod tests;
