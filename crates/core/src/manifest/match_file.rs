//! `matches` of a route.

use crate::policy::{HeaderMatch, PathMatch, RequestMatch, TextMatch, TextMatchError, canonical_path};

use super::{
    diagnostic::Problem,
    names,
    reader::{Keys, Reader, Table},
    source::quoted,
    yaml::{Kind, Node},
};

const KEYS: Keys = Keys { accepted: &["paths", "methods", "headers"], also: &[], retired: &[] };
const PATH_KEYS: Keys = Keys { accepted: &["type", "value"], also: &[], retired: &[] };
const HEADER_KEYS: Keys = Keys { accepted: &["name", "type", "value"], also: &[], retired: &[] };

/// What `type` may be.
#[derive(Debug, Clone, Copy)]
enum MatchType {
    Exact,
    Prefix,
    Regex,
}

const TYPES: [(&str, MatchType); 3] =
    [("exact", MatchType::Exact), ("prefix", MatchType::Prefix), ("regex", MatchType::Regex)];

pub(super) fn read(reader: &mut Reader, node: &Node) -> Vec<RequestMatch> {
    let items = reader.non_empty_list(node, "matches", "everything on the host").unwrap_or_default();
    items.iter().filter_map(|item| read_entry(reader, item)).collect()
}

fn read_entry(reader: &mut Reader, node: &Node) -> Option<RequestMatch> {
    if node.is_null() || matches!(&node.kind, Kind::Mapping(entries) if entries.is_empty()) {
        reader.report(
            Problem::at(node.span, "an entry of `matches` is empty")
                .hint("leave `matches` out for everything on the host, or say what is allowed")
                .accepted(KEYS.accepted.iter().copied()),
        );
        return None;
    }
    let table = reader.table(node, "an entry of `matches`", &KEYS)?;
    Some(RequestMatch {
        paths: items(reader, &table, "paths", "any path", read_path),
        methods: items(reader, &table, "methods", "any method", read_method),
        headers: items(reader, &table, "headers", "any headers", read_header),
    })
}

fn items<T>(
    reader: &mut Reader,
    table: &Table<'_>,
    key: &str,
    all: &str,
    read: impl Fn(&mut Reader, &Node) -> Option<T>,
) -> Vec<T> {
    let nodes = table.get(key).and_then(|node| reader.non_empty_list(node, key, all)).unwrap_or_default();
    nodes.iter().filter_map(|node| read(reader, node)).collect()
}

/// The `type` and the node of the `value`.
fn typed<'n>(reader: &mut Reader, table: &Table<'n>, what: &str) -> Option<(MatchType, &'n Node)> {
    let mut required = |key: &str| {
        let found = table.get(key);
        if found.is_none() {
            reader.report(
                Problem::at(table.span, format!("{what} has no `{key}`"))
                    .hint("write `{type: prefix, value: …}`, or another type")
                    .accepted(TYPES.iter().map(|(word, _)| *word)),
            );
        }
        found
    };
    let (kind, value) = (required("type"), required("value"));
    let kind = kind.and_then(|node| reader.choice(node, "type", &TYPES));
    Some((kind?, value?))
}

fn read_path(reader: &mut Reader, node: &Node) -> Option<PathMatch> {
    let table = reader.table(node, "an entry of `paths`", &PATH_KEYS)?;
    let (kind, value) = typed(reader, &table, "an entry of `paths`")?;
    match kind {
        MatchType::Exact => reader.parsed(value, "value", path).map(PathMatch::Exact),
        MatchType::Prefix => reader.parsed(value, "value", path).map(PathMatch::Prefix),
        MatchType::Regex => reader.parsed(value, "value", |text| {
            let expression = PathMatch::Regex(text.to_owned().try_into().map_err(regex_problem)?);
            // Expressions are anchored, so this one could never match.
            if text.starts_with(|first: char| first.is_ascii_alphanumeric()) {
                return Err((
                    format!("{} matches no path: paths begin with `/`", quoted(text)),
                    Some(format!("write `/{text}`, or `/.*{text}`")),
                ));
            }
            Ok(expression)
        }),
    }
}

/// A path in the spelling in which requests are compared.
pub(super) fn path(text: &str) -> Result<String, (String, Option<String>)> {
    if !text.starts_with('/') {
        return Err((format!("{} does not begin with `/`", quoted(text)), Some(format!("write `/{text}`"))));
    }
    if text.contains(['?', '#']) {
        return Err((
            "a path ends before `?` and `#`".to_owned(),
            Some("queries cannot be matched; leave the query out".to_owned()),
        ));
    }
    if text.contains('*') {
        return Err((
            format!("{} has a `*`, which stands for itself here", quoted(text)),
            Some(
                "write `type: prefix` with whole segments, or `type: regex`; `%2A` is a real `*`".to_owned(),
            ),
        ));
    }
    if !text.is_ascii() {
        return Err((
            format!("{} has characters that requests carry escaped", quoted(text)),
            Some("write them as requests do, such as `/b%C3%BCcher`".to_owned()),
        ));
    }
    canonical_path(text).map(|path| path.into_owned()).ok_or_else(|| {
        (
            format!("{} can be read in two ways, and no request with such a path passes", quoted(text)),
            Some("leave out `.` and `..` segments, backslashes, spaces and escaped slashes".to_owned()),
        )
    })
}

fn read_method(reader: &mut Reader, node: &Node) -> Option<String> {
    reader.parsed(node, "methods", |text| {
        if names::is_token(text) {
            // Methods are case-sensitive (RFC 9110, section 9.1), and every registered one is upper case.
            return Ok(text.to_ascii_uppercase());
        }
        Err((format!("{} is not a method", quoted(text)), Some("write methods such as `GET`".to_owned())))
    })
}

fn read_header(reader: &mut Reader, node: &Node) -> Option<HeaderMatch> {
    let table = reader.table(node, "an entry of `headers`", &HEADER_KEYS)?;
    let name = match table.get("name") {
        None => {
            reader.report(
                Problem::at(node.span, "an entry of `headers` has no `name`")
                    .hint("write `{name: X-Kind, type: exact, value: a}`"),
            );
            None
        }
        Some(node) => reader.parsed(node, "name", |text| {
            if names::is_token(text) {
                return Ok(text.to_ascii_lowercase());
            }
            Err((
                format!("{} is not the name of a header", quoted(text)),
                Some("write a name such as `X-Kind`, without a colon".to_owned()),
            ))
        }),
    };
    let (kind, value) = typed(reader, &table, "an entry of `headers`")?;
    let text = reader.text(value, "value")?;
    let value = match kind {
        MatchType::Exact => TextMatch::Exact(text.to_owned()),
        MatchType::Prefix => TextMatch::Prefix(text.to_owned()),
        MatchType::Regex => reader.parsed(value, "value", |text| {
            Ok(TextMatch::Regex(text.to_owned().try_into().map_err(regex_problem)?))
        })?,
    };
    Some(HeaderMatch { name: name?, value })
}

fn regex_problem(error: TextMatchError) -> (String, Option<String>) {
    (
        error.to_string(),
        Some("see https://docs.rs/regex/latest/regex/#syntax for what is accepted".to_owned()),
    )
}
