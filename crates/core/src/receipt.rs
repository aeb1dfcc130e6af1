//! The record of one decision.

use serde::{Deserialize, Serialize};

use crate::decision::Decision;

/// One line of `receipts.jsonl`. It holds no header, no query, no body and so no secret: the path alone is
/// what the agent wrote, cut to [`MAX_PATH_BYTES`].
#[derive(Debug, Clone, Serialize)]
pub struct Receipt<'a> {
    /// Counts from 1 in each file.
    pub sequence: u64,
    /// When the decision was made: RFC 3339, UTC, milliseconds.
    pub time: String,
    /// What was asked.
    #[serde(flatten)]
    pub request: RequestSummary<'a>,
    /// What was decided.
    #[serde(flatten)]
    pub decision: Decision,
    /// Status of the refusal, where one was sent. An allowed request has none: its line is written before the
    /// request goes on, so that no end of the gateway can lose it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

/// The longest path that a receipt keeps.
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
