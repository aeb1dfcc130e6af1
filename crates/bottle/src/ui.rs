//! The only module that prints. File names, manifests and errors may hold terminal escape sequences, so all
//! text goes through [`bot_bottle_core::printable`] here, and a table's cells in [`Table`].
//!
//! Progress and questions go to stderr, results to stdout. `anstream` decides about colour (`NO_COLOR`,
//! `CLICOLOR`, a terminal).

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this module is the one that prints")]

use std::{
    cell::Cell,
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use anstyle::{AnsiColor, Style};
use bot_bottle_core::{
    error::{Hint, causes},
    printable::{printable, printable_but_colours, printable_json, printable_lines},
};
use serde::Serialize;

use crate::exit::{CommandError, Failure};

/// A message on standard error. One that nobody can read any more ends nothing, as the macros of `std` would.
macro_rules! eprint {
    ($($message:tt)*) => {{
        let _ = write!(anstream::stderr(), $($message)*);
    }};
}

/// The same with a line break.
macro_rules! eprintln {
    ($($message:tt)*) => {{
        let _ = writeln!(anstream::stderr(), $($message)*);
    }};
}

mod ask;
mod pager;
mod preflight;
mod table;

pub(crate) use pager::Shown;
pub(crate) use preflight::{render as preflight, route};
pub(crate) use table::Table;

/// Bold.
pub(crate) const STRONG: Style = Style::new().bold();
/// Secondary text.
pub(crate) const FAINT: Style = Style::new().dimmed();
/// Success.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// Failure.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// Warnings.
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default();
/// Advice.
pub(crate) const HINT: Style = AnsiColor::Cyan.on_default();

/// The output of this run.
#[derive(Debug)]
pub(crate) struct Ui {
    json: bool,
    /// Whether a result could not be written.
    is_lost: Cell<bool>,
}

impl Ui {
    /// Prints results and errors as JSON if `json`.
    pub(crate) fn new(json: bool) -> Self {
        Self { json, is_lost: Cell::new(false) }
    }

    /// Prints a result, as JSON or as the text that `text` renders.
    pub(crate) fn result<T: Serialize>(&self, value: &T, text: impl FnOnce(&T) -> String) {
        if self.json {
            match serde_json::to_string_pretty(value) {
                Ok(json) => self.print(&printable_json(&json)),
                Err(error) => eprintln!("{BAD}error{BAD:#}: the result cannot be written as JSON: {error}"),
            }
        } else {
            let text = text(value);
            self.print(&printable_but_colours(text.trim_end_matches('\n')));
        }
    }

    fn print(&self, text: &str) {
        let mut stdout = anstream::stdout();
        match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
            // Whoever closes the pipe has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(error) => {
                self.is_lost.set(true);
                eprintln!("{BAD}error{BAD:#}: the result could not be written: {error}");
            }
            Ok(()) => {}
        }
    }

    /// The exit code of a command that succeeded if its result could be written.
    pub(crate) fn code(&self, code: ExitCode) -> ExitCode {
        if self.is_lost.get() && code == ExitCode::SUCCESS { ExitCode::FAILURE } else { code }
    }

    /// Whether results are printed as JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints lines to stderr, for the part of this binary that reads them.
    pub(crate) fn lines(&self, lines: &[String]) {
        lines.iter().for_each(|line| eprintln!("{}", printable(line)));
    }

    /// Tells the operator something while a program draws on the terminal: as a notification of the terminal's, which
    /// many show beside their window (OSC 9). Those that do not know it show nothing (ECMA-48 section 8.3.89).
    pub(crate) fn notify(&self, text: &str) {
        if std::io::stderr().is_terminal() {
            let _ = write!(io::stderr(), "{}", notification(text));
        }
    }

    /// Prints progress.
    pub(crate) fn progress(&self, text: &str) {
        eprintln!("{FAINT}{}{FAINT:#}", printable_lines(text));
    }

    /// Prints a success.
    pub(crate) fn done(&self, text: &str) {
        eprintln!("{GOOD}✓{GOOD:#} {}", printable_lines(text));
    }

    /// Rewrites one line of progress, on a terminal only.
    pub(crate) fn progress_line(&self, text: &str) {
        if std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K{FAINT}{}{FAINT:#}", printable(text));
        }
    }

    /// Tells how an image is pulled or built: the last line alone on a terminal, else all of them, unless the
    /// streams belong to a program.
    pub(crate) fn image_progress(&self, text: &str, is_quiet: bool) {
        if std::io::stderr().is_terminal() {
            self.progress_line(text);
        } else if !is_quiet {
            self.progress(text);
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

    /// Prints advice.
    pub(crate) fn hint(&self, text: &str) {
        eprintln!("{HINT}  hint{HINT:#}: {}", printable_lines(text));
    }

    /// Prints why a command failed; returns its exit code.
    pub(crate) fn fail(&self, error: &CommandError) -> ExitCode {
        if self.json {
            match serde_json::to_string(
                &serde_json::json!({"error": error, "exit_code": error.failure.code()}),
            ) {
                Ok(json) => eprintln!("{}", printable_json(&json)),
                Err(fault) => eprintln!("error: {} ({fault})", error.message),
            }
        } else {
            let message = printable_lines(&error.message);
            let mut lines = message.lines();
            let first = lines.next().unwrap_or_default();
            match &error.manifest {
                // The text of a diagnostic begins with `error:` itself.
                Some(_) => eprintln!("{message}"),
                None => {
                    eprintln!("{BAD}error{BAD:#}: {first}");
                    lines.for_each(|line| eprintln!("       {line}"));
                }
            }
            for cause in causes(error) {
                eprintln!("       caused by: {}", printable(&cause));
            }
            if let Some(hint) = error.hint() {
                self.hint(&hint);
            }
        }
        error.failure.into()
    }
}

/// Prints clap's usage error or `--help`.
pub(crate) fn usage(usage: &clap::Error) -> ExitCode {
    // A write error on stdout is ignored: only the help text is lost.
    let text = printable_but_colours(&usage.render().ansi().to_string());
    if usage.use_stderr() {
        eprint!("{text}");
    } else {
        let _ = write!(anstream::stdout(), "{text}");
    }
    if usage.use_stderr() { Failure::Usage.into() } else { ExitCode::SUCCESS }
}

/// The sequence, which ends at the first BEL: none is in the text.
fn notification(text: &str) -> String {
    format!("\x1b]9;bot-bottle: {}\x07", printable(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_ends_a_notification_early() {
        let sequence = notification("the file /a\x07\x1b]0;owned\x1b\\ \u{9c} changed");
        let inner = sequence.strip_prefix("\x1b]9;").and_then(|rest| rest.strip_suffix('\x07'));
        let inner = inner.expect("it is one sequence");
        assert!(!inner.contains(char::is_control) && inner.contains("owned"), "{inner:?}");
    }
}
