//! The one place that prints, and that makes text of strangers printable: whatever is told goes through
//! [`bot_bottle_core::printable`] here, a table's cells in [`Table`].
//!
//! Progress and questions go to stderr, results to stdout; colour only where it is
//! welcome (`NO_COLOR`, `CLICOLOR`, a terminal), which `anstream` decides.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this module is the one that prints")]

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
};

use anstream::{eprint, eprintln, println};
use anstyle::{AnsiColor, Style};
use bot_bottle_core::printable::{printable, printable_but_colours, printable_lines};
use serde::Serialize;

use crate::exit::{CommandError, Failure};

mod ask;
mod preflight;
mod table;

pub(crate) use preflight::{render as preflight, route};
pub(crate) use table::Table;

/// Bold.
pub(crate) const STRONG: Style = Style::new().bold();
/// What matters less.
pub(crate) const FAINT: Style = Style::new().dimmed();
/// What went well.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// What went wrong.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// What deserves attention.
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default();
/// What to do next.
pub(crate) const HINT: Style = AnsiColor::Cyan.on_default();

/// How this run talks to the person.
#[derive(Debug)]
pub(crate) struct Ui {
    json: bool,
}

impl Ui {
    /// With results and errors as JSON, if wanted.
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Prints a result: as JSON if wanted, else as `text` makes it.
    pub(crate) fn result<T: Serialize>(&self, value: &T, text: impl FnOnce(&T) -> String) {
        if self.json {
            match serde_json::to_string_pretty(value) {
                Ok(json) => println!("{json}"),
                Err(error) => eprintln!("{BAD}error{BAD:#}: the result cannot be written as JSON: {error}"),
            }
        } else {
            let text = text(value);
            println!("{}", printable_but_colours(text.trim_end_matches('\n')));
        }
    }

    /// Tells what is going on.
    pub(crate) fn progress(&self, text: &str) {
        eprintln!("{FAINT}{}{FAINT:#}", printable_lines(text));
    }

    /// Tells that something was done.
    pub(crate) fn done(&self, text: &str) {
        eprintln!("{GOOD}✓{GOOD:#} {}", printable_lines(text));
    }

    /// Rewrites one line of progress, on a terminal only.
    pub(crate) fn progress_line(&self, text: &str) {
        if std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K{FAINT}{}{FAINT:#}", printable(text));
        }
    }

    /// Ends a line of progress.
    pub(crate) fn end_progress_line(&self) {
        if std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K");
        }
    }

    /// Warns.
    pub(crate) fn warn(&self, text: &str) {
        eprintln!("{WARNING}warning{WARNING:#}: {}", printable_lines(text));
    }

    /// Says what to do next.
    pub(crate) fn hint(&self, text: &str) {
        eprintln!("{HINT}  hint{HINT:#}: {}", printable_lines(text));
    }

    /// Prints why a command failed; returns its exit code.
    pub(crate) fn fail(&self, error: &CommandError) -> ExitCode {
        if self.json {
            match serde_json::to_string(
                &serde_json::json!({"error": error, "exit_code": error.failure.code()}),
            ) {
                Ok(json) => eprintln!("{json}"),
                Err(fault) => eprintln!("error: {} ({fault})", error.message),
            }
        } else {
            let message = printable_lines(&error.message);
            let mut lines = message.lines();
            let first = lines.next().unwrap_or_default();
            match &error.manifest {
                // A manifest's own diagnostics begin with their kind and place.
                Some(_) => eprintln!("{message}"),
                None => {
                    eprintln!("{BAD}error{BAD:#}: {first}");
                    lines.for_each(|line| eprintln!("       {line}"));
                }
            }
            if let Some(hint) = &error.hint {
                self.hint(hint);
            }
        }
        error.failure.into()
    }
}

/// Prints what `clap` says of the arguments, and of `--help`.
pub(crate) fn usage(usage: &clap::Error) -> ExitCode {
    // A closed stdout loses the help text, and nothing else.
    let text = printable_but_colours(&usage.render().ansi().to_string());
    if usage.use_stderr() {
        eprint!("{text}");
    } else {
        let _ = write!(anstream::stdout(), "{text}");
    }
    if usage.use_stderr() { Failure::Usage.into() } else { ExitCode::SUCCESS }
}
