//! `egress` of a bottle: routes and what is logged.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    bottle::EgressLog,
    host::{HostError, HostPattern},
    policy::{ContentRules, InboundDetector, OnMatch, OutboundDetector, Route, RouteOwner, RouteTls},
};

use super::{
    auth_file,
    diagnostic::Problem,
    layer::Routes,
    match_file,
    reader::{Given, Keys, Reader, Table},
    source::{Span, quoted},
    yaml::{Kind, Node},
};

/// `egress` of one file.
#[derive(Debug, Default)]
pub(super) struct EgressFile {
    pub(super) log: Given<EgressLog>,
    pub(super) routes: Routes,
}

const KEYS: Keys = Keys {
    accepted: &["log", "routes"],
    also: &[],
    retired: &[
        (
            "allowlist",
            "`egress.allowlist` is a key of an older format",
            "write each host as a route: `routes: [{host: api.example.org}]`",
        ),
        ("resolve", "`egress.resolve` belongs to the host, not to a bottle", "write it in `settings.yml`"),
    ],
};

const ROUTE_KEYS: Keys = Keys {
    accepted: &["host", "ports", "auth", "matches", "pipelock", "dlp", "git", "tls"],
    // Refused with specific messages; see `refuse_role`.
    also: &["role"],
    retired: &[(
        "path_allowlist",
        "`path_allowlist` is a key of an older format",
        "write `matches: [{paths: [{type: prefix, value: /repos/}]}]`",
    )],
};

const GIT_KEYS: Keys = Keys {
    accepted: &["fetch"],
    also: &[],
    retired: &[(
        "push",
        "a push over HTTPS is always refused",
        "write a remote under `git.remotes`: pushes are scanned there",
    )],
};
const PIPELOCK_KEYS: Keys = Keys {
    accepted: &["tls_passthrough"],
    also: &[],
    retired: &[(
        "ssrf_ip_allowlist",
        "`ssrf_ip_allowlist` is a key of an older format",
        "fix the address of the host under `egress.resolve` in `settings.yml`",
    )],
};
const DLP_KEYS: Keys = Keys {
    accepted: &["outbound_detectors", "inbound_detectors", "outbound_on_match"],
    also: &[],
    retired: &[],
};

const LOGS: [(&str, EgressLog); 3] =
    [("0", EgressLog::Receipts), ("1", EgressLog::Warnings), ("2", EgressLog::Full)];
const OUTBOUND: [(&str, OutboundDetector); 3] = [
    ("token_patterns", OutboundDetector::TokenPatterns),
    ("known_secrets", OutboundDetector::KnownSecrets),
    ("entropy", OutboundDetector::Entropy),
];
const INBOUND: [(&str, InboundDetector); 1] =
    [("naive_injection_detection", InboundDetector::NaiveInjectionDetection)];
const ON_MATCH: [(&str, OnMatch); 3] =
    [("block", OnMatch::Block), ("redact", OnMatch::Redact), ("supervise", OnMatch::Supervise)];
const TLS: [(&str, RouteTls); 2] = [("intercept", RouteTls::Intercept), ("splice", RouteTls::Splice)];

pub(super) fn read(reader: &mut Reader, node: Option<&Node>) -> EgressFile {
    let Some(table) = reader.optional_table(node, "`egress`", &KEYS) else { return EgressFile::default() };
    let log = reader.optional(&table, "log", |reader, node, key| reader.choice(node, key, &LOGS));
    let mut routes = Routes::default();
    let nodes = table.get("routes").filter(|node| !node.is_null());
    let nodes = nodes.and_then(|node| reader.list(node, "routes")).unwrap_or_default();
    let mut seen: BTreeMap<HostPattern, Span> = BTreeMap::new();
    for node in nodes {
        let Some((route, host_span)) = read_route(reader, node) else { continue };
        if let Some(first) = seen.get(&route.host) {
            reader.report(
                Problem::at(host_span, format!("there are two routes for `{}`", route.host))
                    .related_here(*first, "the first is here")
                    .hint("put both into one: the entries of `matches` are alternatives"),
            );
            continue;
        }
        seen.insert(route.host.clone(), host_span);
        routes.put(route);
    }
    EgressFile { log, routes }
}

fn read_route(reader: &mut Reader, node: &Node) -> Option<(Route, Span)> {
    let table = reader.table(node, "a route", &ROUTE_KEYS)?;
    refuse_role(reader, &table);
    let tls = reader.optional(&table, "tls", |reader, node, key| reader.choice(node, key, &TLS));
    if let Some((RouteTls::Splice, _)) = tls.given() {
        refuse_with_splice(reader, &table);
    }
    let auth = table.get("auth").and_then(|node| auth_file::read(reader, node));
    let content = read_content(reader, &table);
    let matches = table.get("matches").map(|node| match_file::read(reader, node)).unwrap_or_default();
    let git = reader.optional_table(table.get("git"), "`git` of a route", &GIT_KEYS);
    let git_fetch = git.and_then(|git| reader.optional(&git, "fetch", Reader::boolean).value());
    let ports = table.get("ports").map_or(Some(Route::DEFAULT_PORTS.into()), |node| read_ports(reader, node));
    let Some(host_node) = table.get("host") else {
        reader.report(Problem::at(node.span, "a route has no `host`").hint("write `host: api.example.org`"));
        return None;
    };
    let host = reader.parsed(host_node, "host", host)?;
    let route = Route {
        host,
        ports: ports.unwrap_or_default(),
        auth,
        matches,
        tls: tls.value().unwrap_or_default(),
        git_fetch: git_fetch.unwrap_or(false),
        ask: false,
        content,
        owner: RouteOwner::Manifest,
    };
    Some((route, host_node.span))
}

fn refuse_role(reader: &mut Reader, table: &Table<'_>) {
    let Some(entry) = table.entry("role") else { return };
    let role = match &entry.value.kind {
        Kind::Scalar(scalar) => scalar.text.as_str(),
        Kind::Sequence(_) | Kind::Mapping(_) | Kind::Reported => "",
    };
    let owned = |provider: &str, key: &str| {
        (
            format!("unknown role `{role}`: the provider `{provider}` owns this route now"),
            format!("take the route out, and write `agent_provider: {{template: {provider}, {key}}}`"),
        )
    };
    let (message, hint) = match role {
        "claude_code_oauth" => owned("claude", "auth_token: NAME"),
        "codex_auth" => owned("codex", "forward_host_credentials: true"),
        _ => (
            format!("unknown role {}", quoted(role)),
            "take `role` out: routes have none; what a provider needs, it brings itself".to_owned(),
        ),
    };
    reader.report(Problem::at(entry.key.span, message).hint(hint));
}

/// Refuses the keys that need to inspect requests: a spliced tunnel stays encrypted, so they could not be
/// enforced.
fn refuse_with_splice(reader: &mut Reader, table: &Table<'_>) {
    for key in ["auth", "matches", "dlp", "git", "pipelock"] {
        if let Some(entry) = table.entry(key) {
            let why = if key == "auth" { "no credential can be injected" } else { "nothing can be checked" };
            reader.report(
                Problem::at(
                    entry.key.span,
                    format!(
                        "`{key}` cannot be used with `tls: splice`: {why} in a tunnel that is not opened"
                    ),
                )
                .hint(format!("take `{key}` out, or leave `tls` at `intercept`")),
            );
        }
    }
}

fn host(text: &str) -> Result<HostPattern, (String, Option<String>)> {
    text.parse::<HostPattern>().map_err(|error| {
        let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
        let bare = bare.split(['/', '?', '#']).next().unwrap_or_default();
        let (name, port) = bare.rsplit_once(':').map_or((bare, None), |(name, port)| (name, Some(port)));
        let hint = (bare != text || port.is_some()).then(|| name.parse::<HostPattern>().ok()).flatten().map(
            |host| match port.and_then(|port| port.parse::<u16>().ok()) {
                Some(port) => format!("write `host: {host}` and `ports: [{port}]`"),
                None => format!("write the name alone: `host: {host}`"),
            },
        );
        let general = match error {
            HostError::Address(_) | HostError::DisguisedAddress(_) => {
                "give the address a name under `egress.resolve` in `settings.yml`, and write that name here"
            }
            HostError::Wildcard(_) => "write one route for each name, or `\"*.example.org\"`",
            HostError::Empty | HostError::TooLong(_) | HostError::Malformed(_) => {
                "write a name such as `api.example.org`"
            }
        };
        (error.to_string(), Some(hint.unwrap_or_else(|| general.to_owned())))
    })
}

fn read_ports(reader: &mut Reader, node: &Node) -> Option<BTreeSet<u16>> {
    let items = reader.non_empty_list(node, "ports", "the default, 443 and 80")?;
    let ports: Vec<Option<u16>> = items
        .iter()
        .map(|item| {
            reader.whole_number(item, "ports", 1, u16::MAX.into()).and_then(|n| u16::try_from(n).ok())
        })
        .collect();
    ports.into_iter().collect()
}

fn read_content(reader: &mut Reader, table: &Table<'_>) -> ContentRules {
    let mut content = ContentRules::default();
    if let Some(pipelock) = reader.optional_table(table.get("pipelock"), "`pipelock`", &PIPELOCK_KEYS) {
        let passthrough = reader.optional(&pipelock, "tls_passthrough", Reader::boolean);
        content.tls_passthrough = passthrough.value().unwrap_or(false);
    }
    if let Some(dlp) = reader.optional_table(table.get("dlp"), "`dlp`", &DLP_KEYS) {
        content.outbound = dlp
            .get("outbound_detectors")
            .and_then(|node| detectors(reader, node, "outbound_detectors", &OUTBOUND));
        content.inbound = dlp
            .get("inbound_detectors")
            .and_then(|node| detectors(reader, node, "inbound_detectors", &INBOUND));
        content.on_match = reader
            .optional(&dlp, "outbound_on_match", |reader, node, key| reader.choice(node, key, &ON_MATCH))
            .value();
    }
    content
}

/// `false`, or a list of detectors.
fn detectors<T: Copy + Ord>(
    reader: &mut Reader,
    node: &Node,
    key: &str,
    choices: &[(&str, T)],
) -> Option<BTreeSet<T>> {
    if let Kind::Scalar(scalar) = &node.kind {
        if scalar.text == "false" {
            return Some(BTreeSet::new());
        }
        reader.report(
            Problem::at(node.span, format!("`{key}` has to be a list of detectors, or false"))
                .hint(format!("leave `{key}` out for the default"))
                .accepted(choices.iter().map(|(word, _)| *word)),
        );
        return None;
    }
    let items = reader.list(node, key)?;
    let found: Vec<Option<T>> = items.iter().map(|item| reader.choice(item, key, choices)).collect();
    found.into_iter().collect()
}
