//! `settings.yml`.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use crate::{
    bottle::{Budget, EgressDefaults, OnExceeded, SecretSource, Settings},
    gateway_config::FixedAddress,
    host::{Host, HostName},
    secret::SecretRef,
    suggest::closest,
};

use super::{
    bottle_file::{BACKENDS, provider_names},
    diagnostic::Problem,
    names::is_variable,
    reader::{Keys, Reader},
    source::quoted,
    yaml::{Kind, Node},
};

const KEYS: Keys = Keys { accepted: &["backend", "egress", "budgets", "secrets"], also: &[], retired: &[] };
const EGRESS_KEYS: Keys = Keys {
    accepted: &["upstream_proxy", "extra_ca", "resolve"],
    also: &[],
    retired: &[
        ("routes", "routes belong into a bottle", "write them in ~/.bot-bottle/bottles/<name>.md"),
        ("log", "`egress.log` belongs into a bottle", "write it in ~/.bot-bottle/bottles/<name>.md"),
    ],
};
const SECRET_KEYS: Keys = Keys {
    accepted: &["command", "file"],
    also: &[],
    retired: &[(
        "renew_every",
        "`renew_every` is not enforced yet: a secret is read once, when its bottle starts",
        "take it out, and start a bottle anew when its secret has ended",
    )],
};
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
        egress: read_egress(reader, table.get("egress")),
        secrets: read_secrets(reader, table.get("secrets")),
        budgets: table.get("budgets").map(|node| read_budgets(reader, node)).unwrap_or_default(),
    }
}

fn read_egress(reader: &mut Reader, node: Option<&Node>) -> EgressDefaults {
    let Some(table) = reader.optional_table(node, "`egress`", &EGRESS_KEYS) else {
        return EgressDefaults::default();
    };
    EgressDefaults {
        upstream_proxy: reader.optional(&table, "upstream_proxy", upstream_proxy).value(),
        extra_ca: reader.optional(&table, "extra_ca", paths).value().unwrap_or_default(),
        resolve: table.get("resolve").map(|node| read_resolve(reader, node)).unwrap_or_default(),
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
    match (table.get("command"), table.get("file")) {
        (Some(_), None) => command.map(SecretSource::Command),
        (None, Some(_)) => file.map(SecretSource::File),
        (both, _) => {
            let message = match both {
                Some(_) => format!("`{name}` has two sources"),
                None => format!("`{name}` has no source"),
            };
            reader.report(Problem::at(node.span, message).hint(HINT));
            None
        }
    }
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

fn upstream_proxy(reader: &mut Reader, node: &Node, key: &str) -> Option<String> {
    const HINT: &str = "write `http://proxy.example.org:3128`";
    let text = reader.line(node, key)?;
    let authority = text.strip_prefix("http://").map(|rest| rest.strip_suffix('/').unwrap_or(rest));
    let Some(authority) = authority else {
        reader.report(
            Problem::at(node.span, format!("`{key}` is not an `http://` address")).concealed().hint(HINT),
        );
        return None;
    };
    if authority.contains('@') {
        reader.report(
            Problem::at(node.span, format!("`{key}` carries a credential, which no file of ours may hold"))
                .concealed()
                .hint("use a proxy that knows this host without a password, or a local one that adds it"),
        );
        return None;
    }
    let end_of_host = authority.rfind(']').map_or(0, |end| end + 1);
    let (host, port) = match authority[end_of_host..].split_once(':') {
        Some((rest, port)) => (&authority[..end_of_host + rest.len()], Some(port)),
        None => (authority, None),
    };
    let good_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    if Host::parse(host).is_err() || !good_port {
        let message = format!("`{key}`: {} is not a host and a port", quoted(authority));
        reader.report(Problem::at(node.span, message).hint(HINT));
        return None;
    }
    Some(format!("http://{authority}"))
}

fn paths(reader: &mut Reader, node: &Node, key: &str) -> Option<Vec<PathBuf>> {
    let items = reader.list(node, key)?;
    let paths: Vec<Option<PathBuf>> = items.iter().map(|item| reader.path(item, key)).collect();
    paths.into_iter().collect()
}

fn read_resolve(reader: &mut Reader, node: &Node) -> BTreeMap<HostName, FixedAddress> {
    let mut resolve = BTreeMap::new();
    if node.is_null() {
        return resolve;
    }
    for entry in reader.entries(node, "`resolve`").unwrap_or_default() {
        let name = HostName::parse(&entry.key.text);
        let address = reader.parsed(&entry.value, &entry.key.text, fixed_address);
        match name {
            Err(error) => {
                let message = error.to_string().chars().map(super::source::printable).collect::<String>();
                reader
                    .report(Problem::at(entry.key.span, message).hint("addresses are fixed for whole names"));
            }
            Ok(name) if resolve.contains_key(&name) => {
                let message = format!("`{name}` is given twice, in two spellings");
                reader.report(Problem::at(entry.key.span, message).hint("take one of them out"));
            }
            Ok(name) => {
                if let Some(address) = address {
                    resolve.insert(name, address);
                }
            }
        }
    }
    resolve
}

/// `10.0.0.7`, `10.0.0.7:8443`, `::1`, `[::1]` or `[::1]:8443`.
fn fixed_address(text: &str) -> Result<FixedAddress, (String, Option<String>)> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(FixedAddress { address, port: None });
    }
    if let Ok(socket) = text.parse::<SocketAddr>()
        && socket.port() > 0
    {
        return Ok(FixedAddress { address: socket.ip(), port: Some(socket.port()) });
    }
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(Ok(address)) = bracketed.map(str::parse::<std::net::Ipv6Addr>) {
        return Ok(FixedAddress { address: address.into(), port: None });
    }
    let hint = "write `10.0.0.7`, `\"10.0.0.7:8443\"` or `\"[fd00::7]:8443\"`";
    Err((format!("{} is not an address", quoted(text)), Some(hint.to_owned())))
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
