//! Small typed readers over the tree. Each reports a problem and goes on, so that one run shows all of them.

use std::{path::PathBuf, sync::Arc};

use crate::suggest::closest;

use super::{
    diagnostic::{At, Problem},
    paths::resolve_path,
    source::{SourceText, Span, quoted},
    yaml::{Entry, Kind, Node, Scalar},
};

/// Reads one file and collects its problems.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) source: Arc<SourceText>,
    pub(super) problems: Vec<Problem>,
}

/// The keys of a mapping.
#[derive(Debug)]
pub(super) struct Keys {
    /// Listed in messages.
    pub(super) accepted: &'static [&'static str],
    /// Accepted as well, but not advertised.
    pub(super) also: &'static [&'static str],
    /// Keys that are refused with their own message: key, problem, what to write instead.
    pub(super) retired: &'static [(&'static str, &'static str, &'static str)],
}

/// A mapping whose keys are known to be accepted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table<'n> {
    pub(super) entries: &'n [Entry],
    pub(super) span: Span,
}

/// The value of one key of one file. When layers merge, the last one that is not absent wins.
#[derive(Debug, Clone, Default)]
pub(super) enum Given<T> {
    /// The key is not in the file.
    #[default]
    Absent,
    /// The key has an invalid value, which has been reported.
    Unusable,
    /// The value and its position.
    Present(T, At),
}

impl<T> Given<T> {
    pub(super) fn overlaid(self, over: Self) -> Self {
        if matches!(over, Self::Absent) { self } else { over }
    }

    pub(super) fn value(self) -> Option<T> {
        match self {
            Self::Present(value, _) => Some(value),
            Self::Absent | Self::Unusable => None,
        }
    }

    pub(super) fn given(&self) -> Option<(&T, &At)> {
        match self {
            Self::Present(value, at) => Some((value, at)),
            Self::Absent | Self::Unusable => None,
        }
    }

    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

impl<'n> Table<'n> {
    pub(super) fn entry(&self, key: &str) -> Option<&'n Entry> {
        self.entries.iter().find(|entry| entry.key.text == key)
    }

    pub(super) fn get(&self, key: &str) -> Option<&'n Node> {
        self.entry(key).map(|entry| &entry.value)
    }
}

impl Reader {
    pub(super) fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    pub(super) fn at(&self, span: Span) -> At {
        At { source: Arc::clone(&self.source), span }
    }

    /// A mapping with any keys.
    pub(super) fn entries<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [Entry]> {
        match &node.kind {
            Kind::Mapping(entries) => Some(entries),
            Kind::Reported => None,
            Kind::Scalar(_) | Kind::Sequence(_) => {
                self.report(Problem::at(node.span, format!("{what} has to be a mapping of keys to values")));
                None
            }
        }
    }

    /// A mapping with certain keys.
    pub(super) fn table<'n>(&mut self, node: &'n Node, what: &str, keys: &Keys) -> Option<Table<'n>> {
        let Kind::Mapping(entries) = &node.kind else {
            if !matches!(node.kind, Kind::Reported) {
                let message = format!("{what} has to be a mapping of keys to values");
                self.report(Problem::at(node.span, message).accepted(keys.accepted.iter().copied()));
            }
            return None;
        };
        for Entry { key, .. } in entries {
            let known = |list: &[&str]| list.contains(&key.text.as_str());
            if known(keys.accepted) || known(keys.also) {
                continue;
            }
            let retired = keys.retired.iter().find(|(name, ..)| *name == key.text);
            self.report(match retired {
                Some((_, message, hint)) => Problem::at(key.span, *message).hint(*hint),
                None => Problem::at(key.span, format!("{what} has no key {}", quoted(&key.text)))
                    .maybe_hint(did_you_mean(&key.text, keys.accepted))
                    .accepted(keys.accepted.iter().copied()),
            });
        }
        Some(Table { entries, span: node.span })
    }

    /// A mapping with certain keys; `None` if it is absent or null, without a problem.
    pub(super) fn optional_table<'n>(
        &mut self,
        node: Option<&'n Node>,
        what: &str,
        keys: &Keys,
    ) -> Option<Table<'n>> {
        node.filter(|node| !node.is_null()).and_then(|node| self.table(node, what, keys))
    }

    /// The value of a key with two names. Using both is a problem.
    pub(super) fn either<'n>(&mut self, table: &Table<'n>, name: &str, other: &str) -> Option<&'n Node> {
        match (table.entry(name), table.entry(other)) {
            (Some(first), Some(second)) => {
                let message = format!("`{name}` and `{other}` are two spellings of one key");
                self.report(
                    Problem::at(second.key.span, message)
                        .related_here(first.key.span, format!("`{name}` is here"))
                        .hint(format!("put everything under `{name}`")),
                );
                Some(&first.value)
            }
            (first, second) => first.or(second).map(|entry| &entry.value),
        }
    }

    pub(super) fn list<'n>(&mut self, node: &'n Node, key: &str) -> Option<&'n [Node]> {
        match &node.kind {
            Kind::Sequence(items) => Some(items),
            Kind::Reported => None,
            Kind::Scalar(scalar) if scalar.is_null() => {
                self.report(
                    Problem::at(node.span, format!("`{key}` has no value"))
                        .hint(format!("leave `{key}` out, or give it a list")),
                );
                None
            }
            Kind::Scalar(scalar) => {
                self.report(
                    Problem::at(node.span, format!("`{key}` has to be a list"))
                        .hint(format!("write `{key}: [{}]`", short(&scalar.text))),
                );
                None
            }
            Kind::Mapping(_) => {
                self.report(
                    Problem::at(node.span, format!("`{key}` has to be a list"))
                        .hint(format!("begin each entry below `{key}:` with `- `")),
                );
                None
            }
        }
    }

    /// A list with at least one item.
    pub(super) fn non_empty_list<'n>(&mut self, node: &'n Node, key: &str, all: &str) -> Option<&'n [Node]> {
        let items = self.list(node, key)?;
        if items.is_empty() {
            self.report(
                Problem::at(node.span, format!("`{key}` is empty, which could mean all or nothing"))
                    .hint(format!("leave `{key}` out for {all}")),
            );
            return None;
        }
        Some(items)
    }

    fn scalar<'n>(&mut self, node: &'n Node, key: &str) -> Option<&'n Scalar> {
        match &node.kind {
            Kind::Scalar(scalar) if scalar.is_missing() => {
                self.report(
                    Problem::at(node.span, format!("`{key}` has no value"))
                        .hint(format!("give `{key}` a value, or leave it out")),
                );
                None
            }
            Kind::Scalar(scalar) => Some(scalar),
            Kind::Reported => None,
            Kind::Sequence(_) => {
                self.report(Problem::at(node.span, format!("`{key}` has to be one value, not a list")));
                None
            }
            Kind::Mapping(_) => {
                self.report(Problem::at(node.span, format!("`{key}` has to be one value, not a mapping")));
                None
            }
        }
    }

    /// A text, exactly as written. NUL is refused, because no argument or variable can hold it.
    pub(super) fn text<'n>(&mut self, node: &'n Node, key: &str) -> Option<&'n str> {
        let text = self.scalar(node, key)?.text.as_str();
        if text.contains('\0') {
            let message = format!("`{key}` contains a NUL character");
            self.report(Problem::at(node.span, message).hint("take it out: no program can be given one"));
            return None;
        }
        Some(text)
    }

    /// A text on one line that is not empty.
    pub(super) fn line<'n>(&mut self, node: &'n Node, key: &str) -> Option<&'n str> {
        let text = self.text(node, key)?;
        if text.trim().is_empty() {
            self.report(Problem::at(node.span, format!("`{key}` is empty")));
            return None;
        }
        if text.chars().any(char::is_control) {
            let message = format!("`{key}` contains a line break or another control character");
            self.report(Problem::at(node.span, message).hint("write it on one line"));
            return None;
        }
        Some(text)
    }

    /// A text on one line, converted by `parse`.
    pub(super) fn parsed<T>(
        &mut self,
        node: &Node,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, (String, Option<String>)>,
    ) -> Option<T> {
        let text = self.line(node, key)?;
        match parse(text) {
            Ok(value) => Some(value),
            Err((message, hint)) => {
                let message = message.chars().map(super::source::printable).collect::<String>();
                self.report(Problem::at(node.span, format!("`{key}`: {message}")).maybe_hint(hint));
                None
            }
        }
    }

    pub(super) fn boolean(&mut self, node: &Node, key: &str) -> Option<bool> {
        match self.scalar(node, key)?.text.as_str() {
            "true" => Some(true),
            "false" => Some(false),
            other => {
                let meant = match other.to_ascii_lowercase().as_str() {
                    "yes" | "on" | "y" | "1" | "true" => Some("write `true`"),
                    "no" | "off" | "n" | "0" | "false" => Some("write `false`"),
                    _ => None,
                };
                let message = format!("`{key}` has to be true or false, not {}", quoted(other));
                self.report(Problem::at(node.span, message).maybe_hint(meant));
                None
            }
        }
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&mut self, node: &Node, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.scalar(node, key)?.text.as_str();
        let found = choices.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            self.report(
                Problem::at(node.span, format!("`{key}` cannot be {}", quoted(text)))
                    .maybe_hint(did_you_mean(text, &words))
                    .accepted(words),
            );
        }
        found.map(|(_, value)| *value)
    }

    /// A whole number from `least` to `most`; underscores may separate digits.
    pub(super) fn whole_number(&mut self, node: &Node, key: &str, least: u64, most: u64) -> Option<u64> {
        let text = self.scalar(node, key)?.text.as_str();
        let number = Some(text.replace('_', ""))
            .filter(|digits| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()))
            .and_then(|digits| digits.parse::<u64>().ok())
            .filter(|number| (least..=most).contains(number));
        if number.is_none() {
            let range = if most == u64::MAX {
                format!("of at least {least}")
            } else {
                format!("from {least} to {most}")
            };
            let message = format!("`{key}` has to be a whole number {range}, not {}", quoted(text));
            self.report(Problem::at(node.span, message));
        }
        number
    }

    /// A path of the host, made absolute.
    pub(super) fn path(&mut self, node: &Node, key: &str) -> Option<PathBuf> {
        let text = self.line(node, key)?;
        if text.starts_with('~') && text != "~" && !text.starts_with("~/") {
            self.report(
                Problem::at(node.span, format!("`{key}`: {} is the home of somebody else", quoted(text)))
                    .hint("write the whole path; `~/` is your own home"),
            );
            return None;
        }
        Some(resolve_path(text, &self.source.path, &self.source.home))
    }

    /// Reads an optional key of a table.
    pub(super) fn optional<T>(
        &mut self,
        table: &Table<'_>,
        key: &str,
        read: impl FnOnce(&mut Self, &Node, &str) -> Option<T>,
    ) -> Given<T> {
        match table.get(key) {
            None => Given::Absent,
            Some(node) => match read(self, node, key) {
                Some(value) => Given::Present(value, self.at(node.span)),
                None => Given::Unusable,
            },
        }
    }
}

pub(super) fn did_you_mean(written: &str, candidates: &[&str]) -> Option<String> {
    // Skip one-character words: every digit is at distance one from every other.
    let words = candidates.iter().copied().filter(|word| word.len() > 1);
    closest(&short(written), words).map(|meant| format!("did you mean `{meant}`?"))
}

/// The start of a text, long enough for any word that is meant.
fn short(text: &str) -> String {
    text.chars().take(60).map(super::source::printable).collect()
}
