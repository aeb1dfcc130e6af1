//! The end of a log, for the error of the process that wrote it.

use std::{fs, path::Path};

/// How much of the end of a log is shown when its process failed, in bytes.
const LOG_TAIL_BYTES: usize = 2000;

/// The end of a log, or a sentence that says that it is empty.
pub(crate) fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(LOG_TAIL_BYTES)..]).trim().to_owned();
    if text.is_empty() { "it ended without a word".to_owned() } else { text }
}
