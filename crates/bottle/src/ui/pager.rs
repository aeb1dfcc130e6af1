//! A diff on the operator's terminal: paged, coloured, and with nothing in it that a terminal acts on.

use std::{
    env,
    io::{self, IsTerminal, Write},
    process::{Child, Command, Stdio},
};

use anstyle::{AnsiColor, Style};
use bot_bottle_core::printable::printable_lines;

use super::{STRONG, Ui};
use crate::system;

/// Longest line that is shown whole, in bytes; a longer one is shown in pieces.
const MAX_LINE_BYTES: usize = 1 << 20;

/// Where lines are shown.
pub(crate) struct Pager {
    /// The pager's process; `None` shows lines as they are.
    pager: Option<Child>,
    is_coloured: bool,
    /// The begun line.
    line: Vec<u8>,
    shown: Shown,
    /// Why a line could not be written, though somebody wants it.
    lost: Option<io::Error>,
}

/// How much of the text was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// There was none.
    Nothing,
    /// All of it.
    Whole,
    /// What came before somebody left the pager or closed the pipe.
    Left,
}

impl Ui {
    /// A pager where standard output is a terminal: `$PAGER`, or less(1) if there is one.
    pub(crate) fn pager(&self) -> Pager {
        let is_terminal = io::stdout().is_terminal();
        let colour = anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never;
        let pager = is_terminal.then(start).flatten();
        Pager {
            pager,
            is_coloured: colour && is_terminal,
            line: Vec::new(),
            shown: Shown::Nothing,
            lost: None,
        }
    }
}

/// The operator's own pager, as git(1) starts it: by the shell, because `PAGER` may have arguments.
fn start() -> Option<Child> {
    let has_less = || env::split_paths(&system::search_path()).any(|folder| folder.join("less").is_file());
    let wanted = system::variable("PAGER").or_else(|| has_less().then(|| "less".to_owned()))?;
    if wanted.is_empty() || wanted == "cat" {
        return None;
    }
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &wanted]).stdin(Stdio::piped());
    if system::variable("LESS").is_none() {
        // Colours; quit if it fits on one screen; leave the screen as it is.
        command.env("LESS", "FRX");
    }
    command.spawn().ok()
}

impl Pager {
    /// Shows a piece of the text.
    ///
    /// # Errors
    /// When nobody takes it any more.
    pub(crate) fn show(&mut self, piece: &[u8]) -> io::Result<()> {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") || self.line.len() > MAX_LINE_BYTES {
                let line = std::mem::take(&mut self.line);
                self.write(&rendered(&String::from_utf8_lossy(&line), self.is_coloured))?;
            }
        }
        Ok(())
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        let written = match self.pager.as_mut().and_then(|pager| pager.stdin.as_mut()) {
            Some(pager) => pager.write_all(text.as_bytes()),
            None => io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()),
        };
        self.shown = match &written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Shown::Left,
            _ => Shown::Whole,
        };
        written.inspect_err(|error| {
            let is_lost = error.kind() != io::ErrorKind::BrokenPipe;
            self.lost = is_lost.then(|| io::Error::new(error.kind(), error.to_string()));
        })
    }

    /// Shows the rest, and waits until the operator leaves the pager.
    ///
    /// # Errors
    /// When something could not be written for another reason than that nobody reads it.
    pub(crate) fn finish(mut self) -> io::Result<Shown> {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() && self.shown != Shown::Left && self.lost.is_none() {
            // An error is noted.
            let _ = self.write(&rendered(&String::from_utf8_lossy(&line), self.is_coloured));
        }
        if let Some(pager) = &mut self.pager {
            drop(pager.stdin.take());
            let ended = pager.wait()?;
            // The shell's codes for a program that is not there or is none, sh(1).
            if matches!(ended.code(), Some(126 | 127)) {
                return Err(io::Error::other("the pager that `PAGER` names cannot be run"));
            }
        }
        self.lost.map_or(Ok(self.shown), Err)
    }
}

/// A line of a diff with its colour, and every other character that a terminal acts on made visible.
fn rendered(line: &str, is_coloured: bool) -> String {
    // A line of a file from Windows ends in a carriage return too.
    let shown = printable_lines(&line.replace("\r\n", "\n"));
    match style_of(line).filter(|_| is_coloured) {
        Some(style) => match shown.strip_suffix('\n') {
            Some(text) => format!("{style}{text}{style:#}\n"),
            None => format!("{style}{shown}{style:#}"),
        },
        None => shown,
    }
}

/// As git colours a diff (git-config(1), color.diff.<slot>).
fn style_of(line: &str) -> Option<Style> {
    const HEADERS: [&str; 4] = ["diff ", "index ", "--- ", "+++ "];
    match line.as_bytes().first()? {
        _ if HEADERS.iter().any(|header| line.starts_with(header)) => Some(STRONG),
        b'+' => Some(AnsiColor::Green.on_default()),
        b'-' => Some(AnsiColor::Red.on_default()),
        b'@' => Some(AnsiColor::Cyan.on_default()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_ours_and_everything_else_is_made_visible() {
        assert_eq!(rendered("+new\n", true), "\u{1b}[32m+new\u{1b}[0m\n");
        assert_eq!(rendered("+new\n", false), "+new\n");
        let hostile = "-\u{1b}]0;title\u{7}\u{202e}x\ttab\r\n";
        assert_eq!(rendered(hostile, false), "-\\u{1b}]0;title\\u{7}\\u{202e}x\ttab\n");
        assert_eq!(rendered("+\u{1b}[31m\n", true), "\u{1b}[32m+\\u{1b}[31m\u{1b}[0m\n");
    }
}
