//! The text of a file, positions in it, and its frontmatter.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use super::diagnostic::{Position, Problem};
use crate::printable::is_hazardous;

/// The longest file that is read, in bytes. Everything in a manifest is written by hand; the longest prompts
/// are a tenth of this.
pub const MAX_FILE_BYTES: usize = 256 << 10;

/// The longest part of a line that a message shows, in characters.
const MAX_SHOWN_LINE: usize = 120;

/// The longest text that a message quotes, in characters.
const MAX_QUOTED: usize = 60;

/// One file as text.
#[derive(Debug)]
pub(super) struct SourceText {
    pub(super) path: PathBuf,
    /// The operator's home, for paths in the file that begin with `~`.
    pub(super) home: PathBuf,
    pub(super) text: String,
    /// The text with concealed spans replaced, of the same length; unset if nothing is concealed.
    pub(super) shown: OnceLock<String>,
}

/// A range of bytes in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
}

/// A Markdown file in its two parts.
#[derive(Debug)]
pub(super) struct Split<'t> {
    pub(super) yaml: &'t str,
    /// Where `yaml` begins in the file, in bytes.
    pub(super) offset: usize,
    pub(super) body: &'t str,
}

impl SourceText {
    /// Hides these spans, which may be secrets, from every message about the file.
    pub(super) fn conceal(&self, spans: &[Span]) {
        if spans.is_empty() {
            return;
        }
        let mut shown = self.text.clone();
        for span in spans {
            let (start, end) = (floor_boundary(&shown, span.start), floor_boundary(&shown, span.end));
            if start < end {
                shown.replace_range(start..end, &"*".repeat(end - start));
            }
        }
        // Called once, after the file is read and before the first message is rendered.
        let _ = self.shown.set(shown);
    }

    pub(super) fn position(&self, span: Span) -> Position {
        let text = self.shown.get().unwrap_or(&self.text).as_str();
        let start = floor_boundary(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        let end = floor_boundary(text, span.end).clamp(start, line_end);
        let before = &text[line_start..start];
        let marked = text[start..end].trim_end();
        let after = text[start + marked.len()..line_end].trim_end();
        let column = before.chars().count() + 1;

        let marked: Vec<char> = marked.chars().collect();
        let before: Vec<char> = before.chars().filter(|c| *c != '\u{feff}').collect();
        let cut = before.len().saturating_sub(MAX_SHOWN_LINE / 2);
        let mut shown: String = if cut > 0 { "…".into() } else { String::new() };
        shown.extend(&before[cut..]);
        let indent = shown.chars().count();
        shown.extend(&marked);
        shown.push_str(after);
        let mut source_line: String = shown.chars().take(MAX_SHOWN_LINE).map(printable).collect();
        if shown.chars().count() > MAX_SHOWN_LINE {
            source_line.push('…');
        }
        let length = marked.len().clamp(1, MAX_SHOWN_LINE - indent);
        let line = text[..line_start].matches('\n').count() + 1;
        Position { line, column, source_line, indent, length }
    }
}

/// Separates the frontmatter, which is enclosed by two `---` lines, from the body.
pub(super) fn split(text: &str) -> Result<Split<'_>, Problem> {
    let is_fence = |line: &str| line.trim_end() == "---";
    let bom = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let first_line = text[bom..].split_inclusive('\n').next().unwrap_or_default();
    if !is_fence(first_line) {
        let span = Span { start: bom, end: bom + first_line.len() };
        return Err(Problem::at(span, "there is no frontmatter")
            .hint("begin the file with a line `---`, then the keys, then another line `---`"));
    }
    let offset = bom + first_line.len();
    let mut at = offset;
    for line in text[offset..].split_inclusive('\n') {
        if is_fence(line) {
            return Ok(Split { yaml: &text[offset..at], offset, body: &text[at + line.len()..] });
        }
        at += line.len();
    }
    Err(Problem::at(Span { start: bom, end: offset }, "the frontmatter does not end")
        .hint("write a line `---` after the last key"))
}

/// A text of a file in backquotes, shortened and without control characters.
pub(super) fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_QUOTED).map(printable).collect();
    if text.chars().nth(MAX_QUOTED).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// A path without control characters: a cloned repository chooses the names of its files.
pub(super) fn shown_path(path: &Path) -> String {
    path.to_string_lossy().chars().map(printable).collect()
}

/// Replaces one character by one, so that the underline stays aligned.
pub(super) fn printable(character: char) -> char {
    match character {
        '\t' => ' ',
        hazardous if is_hazardous(hazardous) => char::REPLACEMENT_CHARACTER,
        other => other,
    }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}
