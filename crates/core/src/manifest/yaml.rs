//! YAML as a tree that keeps every scalar as written, with its position.
//!
//! Deserialising with serde would resolve types before the expected type is known (`1.10` becomes a number)
//! and stop at the first problem. So the parser's events become a plain tree, and small typed readers walk
//! it.

use std::collections::{BTreeMap, btree_map};

use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle, ScanError, Tag};

use super::{
    diagnostic::Problem,
    source::{Span, quoted},
};

/// The deepest nesting of lists and mappings. The format itself goes seven deep; provider settings are free.
pub const MAX_DEPTH: usize = 32;

/// The most values, keys and collections in one file.
pub const MAX_NODES: usize = 20_000;

/// A value and its position.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) span: Span,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Scalar(Scalar),
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
    /// An invalid node, which has been reported.
    Reported,
}

/// A scalar after YAML's escapes, and before any typing.
#[derive(Debug)]
pub(super) struct Scalar {
    pub(super) text: String,
    /// Neither quoted nor a block.
    pub(super) plain: bool,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) value: Node,
}

#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) text: String,
    pub(super) span: Span,
}

/// The tree, and the problems of the YAML itself.
#[derive(Debug)]
pub(super) struct Document {
    /// `None`: the text is not YAML, and `problems` says why. An empty document is an empty mapping.
    pub(super) root: Option<Node>,
    pub(super) problems: Vec<Problem>,
}

impl Scalar {
    /// Whether the value is missing (`key:`).
    pub(super) fn is_missing(&self) -> bool {
        self.plain && self.text.is_empty()
    }

    /// Whether YAML reads it as null.
    pub(super) fn is_null(&self) -> bool {
        self.plain && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }
}

impl Node {
    /// Whether YAML reads it as null.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar(scalar) if scalar.is_null())
    }
}

/// Parses one document, which begins at `offset` of its file.
pub(super) fn parse(text: &str, offset: usize) -> Document {
    let options = granit_parser::options! {
        disallow_directives: true,
        emit_unresolved_aliases: true,
        emit_anchor_events: true,
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut builder = Builder { open: Vec::new(), root: None, problems: Vec::new(), nodes: 0, documents: 0 };
    for event in Parser::new_from_str_with_options(text, options) {
        let proceed = match event {
            Ok((event, span)) => {
                let range = span.byte_range().unwrap_or(0..0);
                builder.take(event, Span { start: offset + range.start, end: offset + range.end })
            }
            Err(error) => Err(syntax_problem(&error, text, offset)),
        };
        if let Err(fatal) = proceed {
            builder.problems.push(fatal);
            return Document { root: None, problems: builder.problems };
        }
    }
    let empty = || Node { span: Span { start: offset, end: offset }, kind: Kind::Mapping(Vec::new()) };
    Document { root: Some(builder.root.unwrap_or_else(empty)), problems: builder.problems }
}

struct Builder {
    open: Vec<Open>,
    root: Option<Node>,
    problems: Vec<Problem>,
    nodes: usize,
    documents: usize,
}

/// A collection that is still open.
enum Open {
    Sequence { start: usize, items: Vec<Node> },
    Mapping { start: usize, entries: Vec<Entry>, seen: BTreeMap<String, Span>, key: Option<Pending> },
}

/// A key whose value comes next.
enum Pending {
    Usable(Key),
    /// Reported already; its value is dropped.
    Dropped,
}

impl Builder {
    /// Takes one event. An error ends the parse.
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Problem> {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(Problem::at(span, "there is more than one YAML document")
                        .hint("a file holds one; take the line `---` or `...` out"));
                }
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => self.alias(span)?,
            Event::Anchor(..) => {
                self.problems.push(Problem::at(span, "YAML anchors (`&name`) are not accepted").hint(
                    "write the value out where it is needed, or share it between bottles with `extends`; \
                 a text that begins with `&` has to be quoted",
                ))
            }
            Event::Scalar(text, style, _, tag) => {
                self.refuse_tag(span, tag.as_deref());
                let plain = style == ScalarStyle::Plain;
                // The parser reports a missing value as `~`.
                let text = if plain && span.start >= span.end { String::new() } else { text.into_owned() };
                let scalar = Scalar { text, plain };
                self.place(Node { span, kind: Kind::Scalar(scalar) })?;
            }
            Event::SequenceStart(_, _, tag) => {
                self.refuse_tag(span, tag.as_deref());
                self.open.push(Open::Sequence { start: span.start, items: Vec::new() });
            }
            Event::MappingStart(_, _, tag) => {
                self.refuse_tag(span, tag.as_deref());
                self.open.push(Open::Mapping {
                    start: span.start,
                    entries: Vec::new(),
                    seen: BTreeMap::new(),
                    key: None,
                });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let (start, kind) = match self.open.pop() {
                    Some(Open::Sequence { start, items }) => (start, Kind::Sequence(items)),
                    Some(Open::Mapping { start, entries, .. }) => (start, Kind::Mapping(entries)),
                    None => return Ok(()),
                };
                self.place(Node { span: Span { start, end: span.end.max(start) }, kind })?;
            }
            // Comments are switched off; the parser's enum may grow.
            _ => {}
        }
        Ok(())
    }

    fn alias(&mut self, span: Span) -> Result<(), Problem> {
        self.problems.push(Problem::at(span, "YAML aliases (`*name`) are not accepted").hint(
            "write the value out; a text that begins with `*` has to be quoted, such as \"*.example.org\"",
        ));
        self.place(Node { span, kind: Kind::Reported })
    }

    fn refuse_tag(&mut self, span: Span, tag: Option<&Tag>) {
        if let Some(tag) = tag {
            let message = format!("YAML tags ({}) are not accepted", quoted(&tag.original()));
            self.problems.push(
                Problem::at(span, message).hint("take it out; a text that begins with `!` has to be quoted"),
            );
        }
    }

    /// Appends a finished value to the open collection.
    fn place(&mut self, node: Node) -> Result<(), Problem> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(Problem::at(node.span, format!("there are more than {MAX_NODES} values"))
                .hint("no bottle needs so many; a wildcard route such as \"*.example.org\" may stand for many hosts"));
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::Sequence { items, .. }) => items.push(node),
            Some(Open::Mapping { entries, seen, key, .. }) => match key.take() {
                None => *key = Some(pending_key(node, seen, &mut self.problems)),
                Some(Pending::Dropped) => {}
                Some(Pending::Usable(name)) => {
                    let mut value = node;
                    if matches!(&value.kind, Kind::Scalar(scalar) if scalar.is_missing()) {
                        // A missing value has no span, so point at the key.
                        value.span = name.span;
                    }
                    entries.push(Entry { key: name, value });
                }
            },
        }
        Ok(())
    }
}

fn pending_key(node: Node, seen: &mut BTreeMap<String, Span>, problems: &mut Vec<Problem>) -> Pending {
    let Kind::Scalar(scalar) = node.kind else {
        if !matches!(node.kind, Kind::Reported) {
            problems.push(Problem::at(node.span, "a key has to be a text"));
        }
        return Pending::Dropped;
    };
    if scalar.is_missing() {
        problems.push(Problem::at(node.span, "there is a value without a key").hint("write `key: value`"));
        return Pending::Dropped;
    }
    match seen.entry(scalar.text.clone()) {
        btree_map::Entry::Occupied(first) => {
            let message = format!("{} is given twice", quoted(&scalar.text));
            problems.push(
                Problem::at(node.span, message)
                    .related_here(*first.get(), "first given here")
                    .hint("take one of them out"),
            );
            Pending::Dropped
        }
        btree_map::Entry::Vacant(vacant) => {
            vacant.insert(node.span);
            Pending::Usable(Key { text: scalar.text, span: node.span })
        }
    }
}

fn syntax_problem(error: &ScanError, text: &str, offset: usize) -> Problem {
    use granit_parser::ErrorKind;
    let marker = error.marker();
    let by_characters = || text.char_indices().nth(marker.index()).map_or(text.len(), |(at, _)| at);
    let at = marker.byte_offset().unwrap_or_else(by_characters).min(text.len());
    // At the end of the text there is no line to show, so point at the last character that is not white
    // space.
    let at = if text[..at].len() == text.trim_end().len()
        || text.get(at..).is_some_and(|rest| rest.trim().is_empty())
    {
        text.trim_end().char_indices().next_back().map_or(0, |(last, _)| last)
    } else {
        at
    };
    let hint = match error.kind() {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabInPlainScalar
        | ErrorKind::TabAtBlockScalarStart => "indent with spaces",
        ErrorKind::MappingValueNotAllowed
        | ErrorKind::InvalidColonPlacement
        | ErrorKind::SimpleKeyExpected => {
            "keys of one level stand in one column; a text that contains `: ` has to be quoted"
        }
        ErrorKind::UnexpectedCharacter { .. } | ErrorKind::ExpectedNodeContent => {
            "a text that begins with one of @ ` % & * ! | > { } [ ] , # has to be quoted"
        }
        ErrorKind::UnclosedQuotedScalar => "close the quotation mark",
        ErrorKind::UnclosedFlowCollection { .. }
        | ErrorKind::MismatchedFlowCollectionEnd { .. }
        | ErrorKind::MisplacedFlowCollectionEnd
        | ErrorKind::UnexpectedEofFlowSequence
        | ErrorKind::UnexpectedEofFlowMapping
        | ErrorKind::ExpectedFlowMappingSeparator
        | ErrorKind::ExpectedFlowSequenceSeparator => "close the bracket, and put commas between the values",
        ErrorKind::RecursionLimitExceeded => "nothing in a manifest needs to be nested so deep",
        ErrorKind::DirectiveDisallowed => "take the line that begins with `%` out",
        ErrorKind::ExpectedBlockMappingKey | ErrorKind::InvalidIndentation => {
            "keys of one level stand in one column"
        }
        _ => "see https://yaml.org/spec/1.2.2/ for what YAML accepts; quoting the text often helps",
    };
    let why: String = error.kind().to_string().chars().take(160).collect();
    Problem::at(Span { start: offset + at, end: offset + at + 1 }, format!("this is not YAML: {why}"))
        .hint(hint)
}
