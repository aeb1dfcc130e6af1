//! `settings.yml`.

use std::collections::BTreeMap;

use crate::{
    bottle::{Budget, OnExceeded, Settings},
    limits::WallTime,
    secret::{SecretOrigin, SecretRef, SecretSource},
    suggest::closest,
};

use super::{
    bottle_file::{BACKENDS, provider_names, quantity},
    diagnostic::Problem,
    names::is_variable,
    reader::{Keys, Reader},
    settings_egress,
    source::quoted,
    yaml::{Kind, Node},
};

const KEYS: Keys = Keys { accepted: &["backend", "egress", "budgets", "secrets"], also: &[], retired: &[] };
const SECRET_KEYS: Keys = Keys { accepted: &["command", "file", "renew_every"], also: &[], retired: &[] };
/// A command may take a minute, and may ask its owner.
const SHORTEST_RENEWAL: WallTime = WallTime(60);

const BUDGET_KEYS: Keys = Keys { accepted: &["tokens_per_day", "on_exceeded"], also: &[], retired: &[] };

const ON_EXCEEDED: [(&str, OnExceeded); 3] =
    [("cutoff", OnExceeded::Cutoff), ("freeze", OnExceeded::Freeze), ("kill", OnExceeded::Kill)];

pub(super) fn read(reader: &mut Reader, root: &Node) -> Settings {
    let Some(table) = reader.optional_table(Some(root), "`settings.yml`", &KEYS) else {
        return Settings::default();
    };
    Settings {
        backend: reader
            .optional(&table, "backend", |reader, node, key| reader.choice(node, key, &BACKENDS))
            .value(),
        egress: settings_egress::read(reader, table.get("egress")),
        secrets: read_secrets(reader, table.get("secrets")),
        budgets: table.get("budgets").map(|node| read_budgets(reader, node)).unwrap_or_default(),
    }
}

fn read_secrets(reader: &mut Reader, node: Option<&Node>) -> BTreeMap<SecretRef, SecretSource> {
    let mut secrets = BTreeMap::new();
    let Some(node) = node.filter(|node| !node.is_null()) else { return secrets };
    for entry in reader.entries(node, "`secrets`").unwrap_or_default() {
        let name = entry.key.text.as_str();
        if !is_variable(name) {
            let message = format!("{} cannot be a `token_ref`", quoted(name));
            let hint = "name a secret like a variable: letters, digits and `_`";
            reader.report(Problem::at(entry.key.span, message).hint(hint));
        } else if let Some(source) = read_source(reader, &entry.value, name) {
            secrets.insert(SecretRef::new(name), source);
        }
    }
    secrets
}

fn read_source(reader: &mut Reader, node: &Node, name: &str) -> Option<SecretSource> {
    const HINT: &str = "write `{command: [gh, auth, token]}` or `{file: ~/.secrets/token}`";
    if let Kind::Scalar(_) = node.kind {
        // It may be the secret itself.
        let message = format!("`{name}` is no source of a secret, and no file of ours may hold one itself");
        reader.report(Problem::at(node.span, message).concealed().hint(HINT));
        return None;
    }
    let table = reader.table(node, &format!("`{name}`"), &SECRET_KEYS)?;
    let command = reader.optional(&table, "command", words).value();
    let file = reader.optional(&table, "file", Reader::path).value();
    let renew_every = reader.optional(&table, "renew_every", renew_every).value();
    let origin = match (table.get("command"), table.get("file")) {
        (Some(_), None) => command.map(SecretOrigin::Command),
        (None, Some(_)) => file.map(SecretOrigin::File),
        (both, _) => {
            let message = match both {
                Some(_) => format!("`{name}` has two sources"),
                None => format!("`{name}` has no source"),
            };
            reader.report(Problem::at(node.span, message).hint(HINT));
            None
        }
    };
    origin.map(|origin| SecretSource { origin, renew_every })
}

/// A time after which a secret is asked for again.
fn renew_every(reader: &mut Reader, node: &Node, key: &str) -> Option<WallTime> {
    let time: WallTime = quantity(reader, node, key)?;
    if time < SHORTEST_RENEWAL {
        let message = format!("`{key}: {time}` is too often");
        reader.report(Problem::at(node.span, message).hint(format!("write {SHORTEST_RENEWAL} or more")));
        return None;
    }
    Some(time)
}

/// A program and its arguments.
fn words(reader: &mut Reader, node: &Node, key: &str) -> Option<Vec<String>> {
    let items = reader.list(node, key)?;
    let words: Vec<Option<String>> =
        items.iter().map(|item| reader.text(item, key).map(str::to_owned)).collect();
    let words = words.into_iter().collect::<Option<Vec<String>>>()?;
    if words.first().is_none_or(|program| program.is_empty()) {
        let message = format!("`{key}` names no program");
        reader.report(Problem::at(node.span, message).hint("write `[gh, auth, token]`"));
        return None;
    }
    Some(words)
}

fn read_budgets(reader: &mut Reader, node: &Node) -> BTreeMap<String, Budget> {
    let mut budgets = BTreeMap::new();
    if node.is_null() {
        return budgets;
    }
    for entry in reader.entries(node, "`budgets`").unwrap_or_default() {
        let providers = provider_names();
        if !providers.contains(&entry.key.text.as_str()) {
            let meant = closest(&entry.key.text, providers.iter().copied());
            reader.report(
                Problem::at(entry.key.span, format!("there is no provider {}", quoted(&entry.key.text)))
                    .maybe_hint(meant.map(|meant| format!("did you mean `{meant}`?")))
                    .accepted(providers),
            );
        }
        let Some(table) = reader.table(&entry.value, "a budget", &BUDGET_KEYS) else { continue };
        let tokens = match table.get("tokens_per_day") {
            Some(node) => reader.whole_number(node, "tokens_per_day", 1, u64::MAX),
            None => {
                reader.report(
                    Problem::at(entry.key.span, "a budget has no `tokens_per_day`")
                        .hint("write `tokens_per_day: 5_000_000`"),
                );
                None
            }
        };
        let on_exceeded = reader
            .optional(&table, "on_exceeded", |reader, node, key| reader.choice(node, key, &ON_EXCEEDED))
            .value()
            .unwrap_or(OnExceeded::Cutoff);
        if let Some(tokens_per_day) = tokens {
            budgets.insert(entry.key.text.clone(), Budget { tokens_per_day, on_exceeded });
        }
    }
    budgets
}
