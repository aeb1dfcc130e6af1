//! What the program writes to standard error: notes, log lines with colours, and at last an error.

use bot_bottle_core::printable::printable;
use serde::Deserialize;

/// Lines of standard error that an error quotes.
const MAX_LINES: usize = 6;

/// Characters of one of them, and of a message.
const MAX_LINE: usize = 2000;

/// What is left of it for an error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// The code of the error, if it is JSON.
    pub(crate) code: Option<String>,
    /// The message of the error, or the last line.
    pub(crate) message: String,
    /// The last lines, oldest first, without the error itself.
    pub(crate) lines: Vec<String>,
}

#[derive(Deserialize)]
struct JsonReport {
    error: JsonError,
}

#[derive(Deserialize)]
struct JsonError {
    code: String,
    message: String,
}

impl Report {
    /// Reads standard error. The error is the last line that is one; usage errors are plain text, whatever
    /// `--error-format` says.
    pub(crate) fn read(stderr: &[u8]) -> Self {
        let text = String::from_utf8_lossy(stderr);
        let parsed = |line: &str| serde_json::from_str::<JsonReport>(line.trim()).ok();
        let error = text.lines().rev().find_map(parsed).map(|report| report.error);
        let mut lines: Vec<String> = text
            .lines()
            .filter(|line| parsed(line).is_none())
            .map(shown)
            .filter(|line| !line.is_empty() && !is_noise(line))
            .collect();
        let (code, message) = match error {
            Some(error) => (Some(shown(&error.code)), shown(&error.message)),
            None => (None, plain_error(&mut lines)),
        };
        lines.drain(..lines.len().saturating_sub(MAX_LINES));
        Self { code, message, lines }
    }
}

/// What clap and anyhow begin an error with, or else the last line.
fn plain_error(lines: &mut Vec<String>) -> String {
    let is_error = |line: &String| line.starts_with("error: ") || line.starts_with("Error: ");
    let at = lines.iter().rposition(is_error).or(lines.len().checked_sub(1));
    let line = at.map(|at| lines.remove(at)).unwrap_or_default();
    line.get(..7)
        .filter(|begin| begin.eq_ignore_ascii_case("error: "))
        .map_or(line.as_str(), |_| &line[7..])
        .to_owned()
}

/// What the program says at each run, or for people at a prompt.
fn is_noise(line: &str) -> bool {
    line.starts_with("note: no packed assets found")
        || line.starts_with("Usage: ")
        || line.starts_with("For more information, try ")
}

/// One line that a terminal may get.
pub(crate) fn shown(line: &str) -> String {
    let plain = printable(without_colours(line).trim());
    match plain.char_indices().nth(MAX_LINE) {
        Some((end, _)) => format!("{}…", &plain[..end]),
        None => plain,
    }
}

/// The text without control sequences (CSI, ECMA-48 section 5.4), which colours are.
fn without_colours(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        let end = after.find(|character: char| ('\u{40}'..='\u{7e}').contains(&character));
        rest = end.map_or("", |end| &after[end + 1..]);
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_errors_are_read() {
        let failed = Report::read(include_bytes!("../tests/recorded/start-without-kvm.stderr"));
        assert_eq!(failed.code.as_deref(), Some("SMOLVM_ERROR"));
        assert!(failed.message.contains("KvmOpen(Error(13))"), "{failed:?}");
        let [starting, warning] = failed.lines.as_slice() else { panic!("{failed:?}") };
        assert_eq!(starting, "Starting machine 'b1'...");
        assert!(warning.contains("WARN VMM exited with code 1 pid=22820 cause=Exited"), "{warning}");

        let taken = Report::read(include_bytes!("../tests/recorded/create-name-taken.stderr"));
        assert_eq!(taken.code.as_deref(), Some("CONFIG_ERROR"));
        assert!(taken.message.ends_with("machine 'b1' already exists or is being created"), "{taken:?}");
        assert_eq!(taken.lines, Vec::<String>::new());

        let usage = Report::read(include_bytes!("../tests/recorded/create-bad-cpus.stderr"));
        let message = "invalid value '999' for '--cpus <N>': 999 is not in 0..=255";
        assert_eq!(usage, Report { code: None, message: message.to_owned(), lines: Vec::new() });
    }

    #[test]
    fn the_last_error_counts_and_nothing_reaches_a_terminal() {
        let text = "{\"error\":{\"code\":\"A\",\"message\":\"first\"}}\n\u{1b}[31mred\u{1b}[0m \u{1b}]0;title\u{7}\n\
                    {\"error\":{\"code\":\"B\",\"message\":\"sec\\u001b[1mond\\n\"}}\n{\"error\":1}\n";
        let report = Report::read(text.as_bytes());
        assert_eq!((report.code.as_deref(), report.message.as_str()), (Some("B"), "second"));
        assert_eq!(report.lines, ["red \\u{1b}]0;title\\u{7}", "{\"error\":1}"]);
        assert_eq!(Report::read(b""), Report::default());
        assert_eq!(Report::read(b"one\ntwo\n").message, "two");
        let many = Report::read("x\n".repeat(1000).as_bytes());
        assert_eq!(many.lines.len(), MAX_LINES);
        let long = Report::read("é".repeat(MAX_LINE * 2).as_bytes());
        assert_eq!(long.message.chars().count(), MAX_LINE + 1);
    }
}
