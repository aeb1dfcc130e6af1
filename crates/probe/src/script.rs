//! The script that the bottle is given, and its execution inside.

use std::io::Write;

use bot_bottle_core::error::Hint;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{benign_work, context::Context, outcome::Line, table};

/// The tasks of one run inside a bottle.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// The facts.
    pub context: Context,
    /// Whether the scripted agent does its ordinary work first.
    pub benign_work: bool,
    /// Ids of the attempts to make, in this order; `None`: every one of the table.
    pub attempts: Option<Vec<String>>,
}

/// Why a script could not be run to its end.
#[derive(Debug, Error)]
pub enum ScriptError {
    /// It is not the JSON of a [`Script`].
    #[error("the script cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// It names an attempt that is not in the table.
    #[error("`{0}` is not an attempt of the table")]
    UnknownAttempt(String),
    /// The results could not be written.
    #[error("the results cannot be written: {0}")]
    Output(#[from] std::io::Error),
}

impl Hint for ScriptError {}

/// Runs a script inside a bottle and writes one JSON object per line: each [`Line`] as soon as it is known.
///
/// # Errors
/// When the script cannot be parsed or the output is closed. The result of an attempt or a step is never an
/// error.
pub fn run_script(script: &str, output: &mut dyn Write) -> Result<(), ScriptError> {
    let script: Script = serde_json::from_str(script)?;
    let attempts: Vec<_> = match &script.attempts {
        None => table::all().collect(),
        Some(ids) => ids
            .iter()
            .map(|id| table::find(id).ok_or_else(|| ScriptError::UnknownAttempt(id.clone())))
            .collect::<Result<_, _>>()?,
    };
    let mut tell = |line: &Line| -> Result<(), ScriptError> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        output.write_all(&text)?;
        output.flush()?;
        Ok(())
    };
    if script.benign_work {
        for report in benign_work::run(&script.context) {
            tell(&Line::Step(report))?;
        }
    }
    for (group, attempt) in attempts {
        tell(&Line::Attempt(attempt.execute(group, &script.context)))?;
    }
    tell(&Line::Done)
}
