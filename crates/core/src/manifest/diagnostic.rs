//! Diagnostics: the problems of a file as data, and their text for the terminal.

use std::{fmt, path::PathBuf, sync::Arc};

use serde::Serialize;

use super::source::{SourceText, Span, shown_path};

/// The most problems of one file that are reported in full; the others are counted.
pub const MAX_PROBLEMS: usize = 100;

/// Every problem of the files that a query needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(transparent)]
pub struct ManifestError {
    /// At least one, in the order of the files and of the positions in them.
    pub diagnostics: Vec<Diagnostic>,
}

/// One problem.
///
/// All texts are safe to print: control characters of a file are replaced, and a value that could be a pasted
/// secret is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The file; `None` where no file is at fault, such as for an agent that does not exist.
    pub file: Option<PathBuf>,
    /// Where in the file; `None` where it is the file as a whole.
    pub position: Option<Position>,
    /// The problem.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
    /// The keys or values that are accepted there; empty if any are.
    pub accepted: Vec<String>,
    /// Other positions that belong to the problem.
    pub related: Vec<Related>,
}

/// A position in a file, with its line for display.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Position {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The line, or the part of a long line around the position.
    pub source_line: String,
    /// The number of characters of [`Self::source_line`] before the underline.
    pub indent: usize,
    /// The length of the underline in characters; at least one.
    pub length: usize,
}

/// Another position that belongs to a problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Related {
    /// How it belongs to the problem.
    pub message: String,
    /// The file.
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

/// A problem while its file is still being read.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    span: Span,
    message: String,
    hint: Option<String>,
    accepted: Vec<String>,
    /// `None`: in the same file.
    related: Vec<(Option<Arc<SourceText>>, Span, String)>,
    concealed: bool,
}

/// A span with its file, kept for problems that show only when several files are merged.
#[derive(Debug, Clone)]
pub(super) struct At {
    pub(super) source: Arc<SourceText>,
    pub(super) span: Span,
}

impl Problem {
    pub(super) fn at(span: Span, message: impl Into<String>) -> Self {
        Self {
            span,
            message: message.into(),
            hint: None,
            accepted: Vec::new(),
            related: Vec::new(),
            concealed: false,
        }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn maybe_hint(self, hint: Option<impl Into<String>>) -> Self {
        match hint {
            Some(hint) => self.hint(hint),
            None => self,
        }
    }

    pub(super) fn accepted<T: Into<String>>(mut self, accepted: impl IntoIterator<Item = T>) -> Self {
        self.accepted = accepted.into_iter().map(Into::into).collect();
        self
    }

    pub(super) fn related(mut self, at: At, message: impl Into<String>) -> Self {
        self.related.push((Some(at.source), at.span, message.into()));
        self
    }

    pub(super) fn related_here(mut self, span: Span, message: impl Into<String>) -> Self {
        self.related.push((None, span, message.into()));
        self
    }

    /// Hides the offending text from every message about the file: it may be a secret, pasted instead of the
    /// name of a variable.
    pub(super) fn concealed(mut self) -> Self {
        self.concealed = true;
        self
    }

    pub(super) fn concealed_span(&self) -> Option<Span> {
        self.concealed.then_some(self.span)
    }

    pub(super) fn start(&self) -> usize {
        self.span.start
    }

    pub(super) fn into_diagnostic(self, source: &SourceText) -> Diagnostic {
        let related = self.related.into_iter().map(|(other, span, message)| {
            let source = other.as_deref().unwrap_or(source);
            let position = source.position(span);
            Related { message, file: source.path.clone(), line: position.line, column: position.column }
        });
        Diagnostic {
            file: Some(source.path.clone()),
            position: Some(source.position(self.span)),
            message: self.message,
            hint: self.hint,
            accepted: self.accepted,
            related: related.collect(),
        }
    }
}

impl Diagnostic {
    pub(super) fn without_position(file: Option<PathBuf>, message: impl Into<String>) -> Self {
        Self {
            file,
            position: None,
            message: message.into(),
            hint: None,
            accepted: Vec::new(),
            related: Vec::new(),
        }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        let margin = self.position.as_ref().map_or(1, |position| position.line.to_string().len());
        match (&self.file, &self.position) {
            (Some(file), Some(position)) => {
                write!(f, "\n{:margin$}--> {}:{}:{}", "", shown_path(file), position.line, position.column)?;
                write!(f, "\n{:margin$} |", "")?;
                write!(f, "\n{} | {}", position.line, position.source_line)?;
                write!(f, "\n{:margin$} | {:indent$}", "", "", indent = position.indent)?;
                write!(f, "{}", "^".repeat(position.length))?;
            }
            (Some(file), None) => write!(f, "\n{:margin$}--> {}", "", shown_path(file))?,
            (None, _) => {}
        }
        for related in &self.related {
            let Related { message, file, line, column } = related;
            write!(f, "\n{:margin$} = note: {message}: {}:{line}:{column}", "", shown_path(file))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n{:margin$} = help: {hint}", "")?;
        }
        if !self.accepted.is_empty() {
            write!(f, "\n{:margin$} = accepted: {}", "", self.accepted.join(", "))?;
        }
        Ok(())
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.diagnostics.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n\n" };
            write!(f, "{separator}{diagnostic}")?;
        }
        Ok(())
    }
}

impl From<Diagnostic> for ManifestError {
    fn from(diagnostic: Diagnostic) -> Self {
        Self { diagnostics: vec![diagnostic] }
    }
}
