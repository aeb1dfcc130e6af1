//! The receipt of an exchange: one line before anything of it leaves, one when it ends.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bot_bottle_core::{
    decision::{DecidedBy, Decision, Reason},
    receipt::{Ending, Outcome, RequestSummary},
};
use http::StatusCode;

use crate::receipts::{Details, ReceiptNotWritten, Receipts};

/// An exchange whose first line is written. Its last line is written when this is dropped, however that
/// comes.
#[derive(Debug)]
pub(crate) struct Entry {
    receipts: Arc<Receipts>,
    exchange: u64,
    /// Whether a refusal has taken the place of the last line.
    is_refused: bool,
    outcome: Outcome,
    failure: Option<(Reason, DecidedBy)>,
    status: Option<StatusCode>,
    is_repeated: bool,
    sent: Arc<AtomicU64>,
    received: u64,
}

/// Writes down that a request goes on. If that fails, it does not.
pub(super) fn begin(
    receipts: &Arc<Receipts>,
    request: RequestSummary<'_>,
    decision: &Decision,
    stripped: &[String],
) -> Result<Entry, ReceiptNotWritten> {
    let details = Details { stripped, ..Details::default() };
    let exchange = receipts.record(request, decision, details)?;
    Ok(Entry {
        receipts: Arc::clone(receipts),
        exchange,
        is_refused: false,
        // Unless it is told otherwise: a client that goes away drops the exchange wherever it is.
        outcome: Outcome::Cancelled,
        failure: None,
        status: None,
        is_repeated: false,
        sent: Arc::default(),
        received: 0,
    })
}

impl Entry {
    /// The number of the exchange.
    pub(super) fn exchange(&self) -> u64 {
        self.exchange
    }

    /// Writes down a later decision about the same exchange. If that fails, it does not go on.
    pub(super) fn decided(
        &self,
        request: RequestSummary<'_>,
        decision: &Decision,
    ) -> Result<(), ReceiptNotWritten> {
        let details = Details { exchange: Some(self.exchange), ..Details::default() };
        self.receipts.record(request, decision, details).map(drop)
    }

    /// The exchange ends with a refusal, whose own line is the last; the number that it has to have.
    pub(super) fn superseded(mut self) -> u64 {
        self.is_refused = true;
        self.exchange
    }

    /// The count of the request's bytes, for the body that sends them.
    pub(super) fn sent(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.sent)
    }

    /// The request is sent once more.
    pub(super) fn repeated(&mut self) {
        self.is_repeated = true;
    }

    /// The head of the response is there.
    pub(super) fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    /// Bytes of the response have passed.
    pub(super) fn received(&mut self, bytes: u64) {
        self.received += bytes;
    }

    /// The response has ended as it should.
    pub(super) fn complete(mut self) {
        self.outcome = Outcome::Complete;
    }

    /// There is no response, and the client is told so with this status.
    pub(super) fn refused(mut self, status: StatusCode, reason: Reason, source: DecidedBy) {
        self.status = Some(status);
        self.failed(reason, source);
    }

    /// The response broke off.
    pub(super) fn failed(mut self, reason: Reason, source: DecidedBy) {
        self.outcome = Outcome::Failed;
        self.failure = Some((reason, source));
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.is_refused {
            return;
        }
        let ending = Ending {
            exchange: self.exchange,
            end: self.outcome,
            reason: self.failure.map(|(reason, _)| reason),
            source: self.failure.map(|(_, source)| source),
            status: self.status.map(|status| status.as_u16()),
            repeated: self.is_repeated,
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received,
        };
        self.receipts.end(ending);
    }
}
