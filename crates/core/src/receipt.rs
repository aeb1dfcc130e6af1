//! The records of the gateway.

use serde::{Deserialize, Serialize};

use crate::{
    decision::{DecidedBy, Decision, Reason},
    gateway_config::RenewalCause,
    secret::SecretRef,
};

/// One line of `receipts.jsonl`: the record of a decision, of the end of an exchange, of repeated refusals, or of
/// renewed credentials.
#[derive(Debug, Clone, Serialize)]
pub struct Line<T> {
    /// Counts from 1, and goes on from file to file.
    pub sequence: u64,
    /// When it was written: RFC 3339, UTC, milliseconds.
    pub time: String,
    /// Which of them it is.
    #[serde(flatten)]
    pub line: T,
}

/// The record of a decision. It holds no header, no query, no body and so no secret: the path alone is what
/// the agent wrote, cut to [`MAX_PATH_BYTES`] as it stands in the file.
#[derive(Debug, Clone, Serialize)]
pub struct Receipt<'a> {
    /// The exchange that it is about: the `sequence` of this line.
    pub exchange: u64,
    /// What was asked.
    #[serde(flatten)]
    pub request: RequestSummary<'a>,
    /// What was decided.
    #[serde(flatten)]
    pub decision: Decision,
    /// Credentials that the agent sent itself and that were removed, by the names of their fields.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub stripped: &'a [String],
    /// Status of the refusal, where one was sent. An allowed request has none: its line is written before
    /// anything of it goes on, so that no end of the gateway can lose it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

/// The record of the end of an exchange that was let out. An exchange without one was under way when the
/// gateway ended, or had just ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ending {
    /// The exchange: the number of the [`Receipt`] with which it began.
    pub exchange: u64,
    /// In which way.
    pub end: Outcome,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Which part of the gateway found out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<DecidedBy>,
    /// Status of the response, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The request was sent twice: the upstream had refused its credential, which was then renewed. The rest is about
    /// the second time.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub repeated: bool,
    /// Bytes of the request's body, or of the messages of a WebSocket, that left; both times of a repeated one.
    pub sent: u64,
    /// Bytes of the response's body, or of the messages of a WebSocket, that came.
    pub received: u64,
}

/// The record of refusals that said the same as an earlier one: same request, same decision. They have no
/// lines of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Repeated {
    /// The refusal that they repeat.
    pub exchange: u64,
    /// How many since the last line about it.
    pub again: u64,
}

/// The record that secrets have got other values, or that there are none. It has no value, nor any part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Renewal<'a> {
    /// Whether the new values are in force for the requests that follow.
    pub renewal: RenewalOutcome,
    /// Which secrets, by the names of their references.
    pub references: &'a [SecretRef],
    /// What they were renewed for; `None` where nothing is known of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<RenewalCause>,
    /// Why they were not: printable text of the operator's side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<&'a str>,
}

/// Whether there are new values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RenewalOutcome {
    /// They are in force.
    Renewed,
    /// Those before stay.
    Failed,
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The response has passed whole.
    Complete,
    /// The client went away before that.
    Cancelled,
    /// The upstream failed.
    Failed,
}

/// The longest path that a receipt keeps, in bytes of JSON.
pub const MAX_PATH_BYTES: usize = 2048;

/// What was asked, as far as receipts keep it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct RequestSummary<'a> {
    /// `CONNECT` where no request was seen.
    pub method: &'a str,
    /// As the client named it, or empty where it could not be read.
    pub host: &'a str,
    /// TCP port.
    pub port: u16,
    /// Without the query; empty for a tunnel.
    pub path: &'a str,
}
