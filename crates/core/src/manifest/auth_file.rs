//! `auth` of a route.

use std::borrow::Cow;

use crate::{
    error::Hint,
    policy::{CredentialShape, RouteAuth, RouteCredential, ShapeError},
};

use super::{
    diagnostic::Problem,
    names,
    reader::{Keys, Reader, Table},
    yaml::{Kind, Node},
};

const KEYS: Keys =
    Keys { accepted: &["scheme", "username", "header", "query", "token_ref"], also: &[], retired: &[] };

/// The keys of which one says where the value stands.
const SHAPES: [&str; 3] = ["scheme", "header", "query"];

const HINT: &str = "write `auth: {scheme: Bearer, token_ref: NAME}`, or leave `auth` out for no credential";

pub(super) fn read(reader: &mut Reader, node: &Node) -> Option<RouteAuth> {
    if node.is_null() || matches!(&node.kind, Kind::Mapping(entries) if entries.is_empty()) {
        reader.report(Problem::at(node.span, "`auth` is empty").hint(HINT));
        return None;
    }
    if let Kind::Scalar(scalar) = &node.kind {
        if scalar.text == "keep" {
            return Some(RouteAuth::Keep);
        }
        // It may be the credential itself.
        let problem =
            Problem::at(node.span, "`auth` has to be a mapping of keys to values, or `keep`").concealed();
        reader.report(problem.hint("write `auth: {scheme: Bearer, token_ref: NAME}`"));
        return None;
    }
    let table = reader.table(node, "`auth`", &KEYS)?;
    let shape = read_shape(reader, &table);
    if table.get("token_ref").is_none() {
        reader.report(Problem::at(table.span, "`auth` has no `token_ref`").hint(HINT));
    }
    let token_ref = table.get("token_ref").and_then(|node| names::secret_ref(reader, node, "token_ref"));
    Some(RouteAuth::Inject(RouteCredential { shape: shape?, token_ref: token_ref? }))
}

fn read_shape(reader: &mut Reader, table: &Table<'_>) -> Option<CredentialShape> {
    let mut given = SHAPES.iter().filter_map(|key| table.entry(key));
    let Some(first) = given.next() else {
        reader.report(Problem::at(table.span, "`auth` has no `scheme`, `header` or `query`").hint(HINT));
        return None;
    };
    if let Some(second) = given.next() {
        let message =
            format!("`{}` and `{}` are two ways to send one value", first.key.text, second.key.text);
        reader.report(
            Problem::at(second.key.span, message)
                .related_here(first.key.span, format!("`{}` is here", first.key.text))
                .hint("write the one that the host's documentation names"),
        );
        return None;
    }
    let (key, node) = (first.key.text.as_str(), &first.value);
    let username = match table.get("username") {
        None => None,
        Some(node) if key != "scheme" => {
            let error = ShapeError::UserWithoutBasic;
            reader.report(Problem::at(node.span, error.to_string()).maybe_hint(error.hint()));
            return None;
        }
        Some(node) => {
            let name = reader.line(node, "username")?;
            if let Err(error) = CredentialShape::scheme("Basic", Some(name)) {
                // What follows a colon may be the password.
                let problem = Problem::at(node.span, format!("`username`: {error}")).concealed();
                reader.report(problem.maybe_hint(error.hint()));
                return None;
            }
            Some(name)
        }
    };
    reader.parsed(node, key, |text| {
        let shape = match key {
            "scheme" => CredentialShape::scheme(text, username),
            "header" => CredentialShape::header(text),
            _ => CredentialShape::query(text),
        };
        shape.map_err(|error| (error.to_string(), error.hint().map(Cow::into_owned)))
    })
}
