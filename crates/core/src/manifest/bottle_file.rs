//! `bottles/<name>.md`.

use crate::{
    bottle::{BackendName, EnvEntry, WorkspaceMode, WorkspacePath},
    host::HostName,
    identity::is_name,
    limits::Limits,
    provider::{self, ExtraRoute},
};

use super::{
    diagnostic::{At, Problem},
    egress_file, git_file,
    layer::{Layer, ProviderLayer, WorkspaceLayer},
    match_file, names,
    reader::{Keys, Reader, Table},
    source::quoted,
    yaml::{Kind, Node},
};

/// The content of a bottle file, without its parents.
#[derive(Debug, Default)]
pub(super) struct BottleFile {
    pub(super) extends: Vec<(String, At)>,
    pub(super) layer: Layer,
}

const KEYS: Keys = Keys {
    accepted: &[
        "extends",
        "backend",
        "agent_provider",
        "env",
        "git",
        "egress",
        "workspace",
        "supervise",
        "limits",
    ],
    also: &["git-gate"],
    retired: &[
        (
            "cred_proxy",
            "`cred_proxy` is a key of an older format",
            "write a route under `egress.routes` with `auth: {scheme: Bearer, token_ref: NAME}`",
        ),
        (
            "tokens",
            "`tokens` is a key of an older format",
            "write a route under `egress.routes` with `auth: {scheme: Bearer, token_ref: NAME}`",
        ),
        (
            "egress_proxy",
            "`egress_proxy` is a key of an older format",
            "write the routes under `egress.routes`",
        ),
        (
            "ssh",
            "`ssh` is a key of an older format",
            "write a remote under `git.remotes` with `url: ssh://…`, `host_key` and `key`",
        ),
        (
            "runtime",
            "`runtime` is a key of an older format",
            "take it out: gVisor is used where the engine has it; `backend` chooses the kind of sandbox",
        ),
        ("bottle", "`bottle` belongs into an agent's file", "a bottle builds on others with `extends`"),
        ("skills", "`skills` belongs into an agent's file", "write it in `agents/<name>.md`"),
    ],
};

const PROVIDER_KEYS: Keys = Keys {
    accepted: &[
        "template",
        "image",
        "dockerfile",
        "auth_token",
        "forward_host_credentials",
        "api_key",
        "base_url",
        "extra_routes",
        "settings",
    ],
    also: &[],
    retired: &[],
};

const WORKSPACE_KEYS: Keys = Keys { accepted: &["mode", "exclude", "path"], also: &[], retired: &[] };

const LIMIT_KEYS: Keys =
    Keys { accepted: &["memory", "cpus", "pids", "disk", "time"], also: &[], retired: &[] };

/// A provider that has its own way of being installed and is not built in yet.
const MORE_PROVIDERS: [&str; 1] = ["pi"];

pub(super) const BACKENDS: [(&str, BackendName); 4] = [
    ("native", BackendName::Native),
    ("docker", BackendName::Docker),
    ("smolmachines", BackendName::Smolmachines),
    ("kubernetes", BackendName::Kubernetes),
];

pub(super) fn read(reader: &mut Reader, root: &Node) -> BottleFile {
    let Some(table) = reader.table(root, "a bottle", &KEYS) else { return BottleFile::default() };
    let git_node = reader.either(&table, "git", "git-gate");
    let git = git_file::read(reader, git_node);
    let egress = egress_file::read(reader, table.get("egress"));
    BottleFile {
        extends: table.get("extends").map(|node| name_or_names(reader, node, "extends")).unwrap_or_default(),
        layer: Layer {
            backend: reader
                .optional(&table, "backend", |reader, node, key| reader.choice(node, key, &BACKENDS)),
            provider: read_provider(reader, table.get("agent_provider")),
            env: table.get("env").map(|node| read_env(reader, node)).unwrap_or_default(),
            user: git.user,
            remotes: git.remotes,
            log: egress.log,
            routes: egress.routes,
            workspace: read_workspace(reader, table.get("workspace")),
            supervise: reader.optional(&table, "supervise", Reader::boolean),
            limits: read_limits(reader, table.get("limits")),
        },
    }
}

/// `key: name` or `key: [name, name]`.
pub(super) fn name_or_names(reader: &mut Reader, node: &Node, key: &str) -> Vec<(String, At)> {
    let items = match &node.kind {
        Kind::Sequence(items) => items.as_slice(),
        Kind::Scalar(_) | Kind::Mapping(_) | Kind::Reported => std::slice::from_ref(node),
    };
    let mut names = Vec::new();
    for item in items {
        if let Some(name) = name(reader, item, key) {
            names.push((name, reader.at(item.span)));
        }
    }
    names
}

pub(super) fn name(reader: &mut Reader, node: &Node, key: &str) -> Option<String> {
    reader.parsed(node, key, |text| {
        if is_name(text) {
            return Ok(text.to_owned());
        }
        Err((
            format!("{} is not a name", quoted(text)),
            Some("names are lower-case letters, digits and `-`, and begin with a letter".to_owned()),
        ))
    })
}

/// Every provider that a bottle may name.
pub(super) fn provider_names() -> Vec<&'static str> {
    provider::all().iter().map(|provider| provider.name()).chain(MORE_PROVIDERS).collect()
}

pub(super) fn provider_name(reader: &mut Reader, node: &Node, key: &str) -> Option<String> {
    let choices: Vec<(&str, &str)> = provider_names().into_iter().map(|name| (name, name)).collect();
    reader.choice(node, key, &choices).map(str::to_owned)
}

fn read_provider(reader: &mut Reader, node: Option<&Node>) -> ProviderLayer {
    let Some(table) = reader.optional_table(node, "`agent_provider`", &PROVIDER_KEYS) else {
        return ProviderLayer::default();
    };
    ProviderLayer {
        template: reader.optional(&table, "template", provider_name),
        image: reader.optional(&table, "image", names::image_reference),
        dockerfile: reader.optional(&table, "dockerfile", Reader::path),
        auth_token: reader.optional(&table, "auth_token", names::secret_ref),
        forward_host_credentials: reader.optional(&table, "forward_host_credentials", Reader::boolean),
        api_key: reader.optional(&table, "api_key", names::secret_ref),
        base_url: reader.optional(&table, "base_url", names::base_url),
        extra_routes: reader.optional(&table, "extra_routes", extra_routes).value().unwrap_or_default(),
        settings: read_settings(reader, &table),
    }
}

fn extra_routes(reader: &mut Reader, node: &Node, key: &str) -> Option<Vec<ExtraRoute>> {
    let items = reader.list(node, key)?;
    let routes: Vec<Option<ExtraRoute>> =
        items.iter().map(|item| reader.parsed(item, key, extra_route)).collect();
    routes.into_iter().collect()
}

/// `api.example.org/v1/new`, or `api.example.org`.
fn extra_route(text: &str) -> Result<ExtraRoute, (String, Option<String>)> {
    let (host, path) = text.find('/').map_or((text, None), |at| (&text[..at], Some(&text[at..])));
    let hint = || Some("write `api.example.org/v1/new`, or `api.example.org` for all of a host".to_owned());
    let host = HostName::parse(host).map_err(|error| (error.to_string(), hint()))?;
    Ok(ExtraRoute { host, path: path.map(match_file::path).transpose()? })
}

fn read_settings(reader: &mut Reader, table: &Table<'_>) -> serde_json::Map<String, serde_json::Value> {
    let Some(node) = table.get("settings").filter(|node| !node.is_null()) else { return Default::default() };
    let Some(entries) = reader.entries(node, "`settings`") else { return Default::default() };
    entries.iter().map(|entry| (entry.key.text.clone(), json(&entry.value))).collect()
}

/// A value as JSON. A scalar becomes a number only if JSON would print that number the same: `1.10` is a
/// version.
fn json(node: &Node) -> serde_json::Value {
    match &node.kind {
        Kind::Reported => serde_json::Value::Null,
        Kind::Sequence(items) => items.iter().map(json).collect(),
        Kind::Mapping(entries) => {
            let pairs = entries.iter().map(|entry| (entry.key.text.clone(), json(&entry.value)));
            serde_json::Value::Object(pairs.collect())
        }
        Kind::Scalar(scalar) if scalar.is_null() => serde_json::Value::Null,
        Kind::Scalar(scalar) => {
            let typed = || match scalar.text.as_str() {
                "true" => Some(true.into()),
                "false" => Some(false.into()),
                text => serde_json::from_str::<serde_json::Number>(text)
                    .ok()
                    .filter(|number| number.to_string() == text)
                    .map(Into::into),
            };
            scalar.plain.then(typed).flatten().unwrap_or_else(|| scalar.text.clone().into())
        }
    }
}

fn read_env(reader: &mut Reader, node: &Node) -> std::collections::BTreeMap<String, EnvEntry> {
    let mut env = std::collections::BTreeMap::new();
    if node.is_null() {
        return env;
    }
    let Some(entries) = reader.entries(node, "`env`") else { return env };
    for entry in entries {
        let name = &entry.key.text;
        if !names::is_variable(name) {
            reader.report(
                Problem::at(entry.key.span, format!("{} is not the name of a variable", quoted(name)))
                    .hint("names of variables are letters, digits and `_`, and do not begin with a digit"),
            );
            continue;
        }
        if let Some(value) = env_entry(reader, &entry.value, name) {
            env.insert(name.clone(), value);
        }
    }
    env
}

fn env_entry(reader: &mut Reader, node: &Node, name: &str) -> Option<EnvEntry> {
    if matches!(&node.kind, Kind::Scalar(scalar) if scalar.is_missing()) {
        reader.report(Problem::at(node.span, format!("`{name}` has no value")).hint(
            "write `\"\"` for an empty one, `${NAME}` to copy one of the host, or `\"?text\"` to be asked",
        ));
        return None;
    }
    let text = reader.text(node, name)?;
    if let Some(question) = text.strip_prefix('?') {
        let question = question.trim();
        let shown = if question.is_empty() { name } else { question };
        return Some(EnvEntry::Prompt(shown.chars().map(super::source::printable).collect()));
    }
    let Some(start) = text.find("${") else { return Some(EnvEntry::Literal(text.to_owned())) };
    let variable = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    match variable {
        Some(variable) if names::is_variable(variable) => Some(EnvEntry::HostVariable(variable.to_owned())),
        Some(variable) if !variable.contains(['$', '{', '}']) => {
            let message = format!("`{name}`: {} is not the name of a variable", quoted(variable));
            reader.report(Problem::at(node.span, message).hint(
                "write `${NAME}`, where the name is letters, digits and `_` and does not begin with a digit",
            ));
            None
        }
        Some(_) | None => {
            let written: String = text[start..].chars().take_while(|c| *c != '}').chain(['}']).collect();
            let message = format!("`{name}`: {} has to stand alone", quoted(&written));
            reader.report(Problem::at(node.span, message).hint(
                "write `${NAME}` and nothing else to copy a variable of the host; texts are not put together",
            ));
            None
        }
    }
}

fn read_workspace(reader: &mut Reader, node: Option<&Node>) -> WorkspaceLayer {
    let Some(table) = reader.optional_table(node, "`workspace`", &WORKSPACE_KEYS) else {
        return WorkspaceLayer::default();
    };
    let modes = [("copy", WorkspaceMode::Copy), ("live", WorkspaceMode::Live)];
    let paths = [("default", WorkspacePath::Default), ("same", WorkspacePath::Same)];
    let patterns = table.get("exclude").and_then(|node| reader.list(node, "exclude")).unwrap_or_default();
    WorkspaceLayer {
        mode: reader.optional(&table, "mode", |reader, node, key| reader.choice(node, key, &modes)),
        exclude: patterns.iter().filter_map(|node| reader.line(node, "exclude").map(str::to_owned)).collect(),
        path: reader.optional(&table, "path", |reader, node, key| reader.choice(node, key, &paths)),
    }
}

fn read_limits(reader: &mut Reader, node: Option<&Node>) -> Limits {
    let Some(table) = reader.optional_table(node, "`limits`", &LIMIT_KEYS) else { return Limits::default() };
    let least_one = |reader: &mut Reader, node: &Node, key: &str| {
        reader.whole_number(node, key, 1, u64::from(u32::MAX)).and_then(|pids| u32::try_from(pids).ok())
    };
    Limits {
        memory: reader.optional(&table, "memory", quantity).value(),
        cpus: reader.optional(&table, "cpus", cpus).value(),
        pids: reader.optional(&table, "pids", least_one).value(),
        disk: reader.optional(&table, "disk", quantity).value(),
        time: reader.optional(&table, "time", quantity).value(),
    }
}

pub(super) fn quantity<T: std::str::FromStr<Err = crate::limits::QuantityError>>(
    reader: &mut Reader,
    node: &Node,
    key: &str,
) -> Option<T> {
    reader.parsed(node, key, |text| text.parse().map_err(|error: T::Err| (error.to_string(), None)))
}

fn cpus(reader: &mut Reader, node: &Node, key: &str) -> Option<f64> {
    reader.parsed(node, key, |text| {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        text.parse::<f64>().ok().filter(|cpus| plain && cpus.is_finite() && *cpus > 0.0).ok_or_else(|| {
            (format!("{} is not a number of processors", quoted(text)), Some("write `2` or `0.5`".to_owned()))
        })
    })
}
