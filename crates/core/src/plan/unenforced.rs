//! Keys that are understood but cannot be enforced: a bottle that uses one refuses to start.

use std::fmt;

use crate::{
    bottle::{BackendName, Bottle, EgressLog, Settings, WorkspaceMode, WorkspacePath},
    policy::{Route, RouteTls},
    provider::{self, Provider},
};

/// One key that cannot be enforced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unenforced {
    /// The key, as a path: `egress.routes[api.example.org].tls: splice`.
    pub key: String,
    /// Why not.
    pub why: String,
    /// What to do.
    pub hint: String,
}

impl fmt::Display for Unenforced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` cannot be enforced: {}", self.key, self.why)
    }
}

/// Every key of the bottle and the settings that this version, with this backend, cannot enforce.
#[must_use]
pub fn unenforced(bottle: &Bottle, settings: &Settings, backend: BackendName) -> Vec<Unenforced> {
    let mut found = of_provider(bottle, backend);
    found.extend(bottle.git.remotes.keys().map(|name| {
        missing(
            format!("git.remotes.{name}"),
            "there is no git gate yet",
            "remove the remote; the agent can fetch over HTTPS where a route says `git: {fetch: true}`",
        )
    }));
    found.extend(bottle.egress.routes.iter().flat_map(of_route));
    found.extend(of_log(bottle.egress.log));
    if bottle.workspace.mode == WorkspaceMode::Live {
        found.push(missing(
            "workspace.mode: live".to_owned(),
            "the agent works on a copy in this version",
            "remove the key; `bot-bottle pull` fetches what the agent made",
        ));
    }
    if bottle.workspace.path == WorkspacePath::Same {
        found.push(missing(
            "workspace.path: same".to_owned(),
            "the workspace lies below the agent's home in this version",
            "remove the key, and make virtual environments anew inside",
        ));
    }
    if bottle.supervise == Some(true) {
        found.push(missing(
            "supervise: true".to_owned(),
            "there is no supervisor yet: what no route allows is refused, and never waits for an approval",
            "remove the key, or write `supervise: false`",
        ));
    }
    found.extend(of_settings(settings));
    found
}

fn missing(key: String, why: &str, hint: &str) -> Unenforced {
    Unenforced { key, why: why.to_owned(), hint: hint.to_owned() }
}

fn of_provider(bottle: &Bottle, backend: BackendName) -> Vec<Unenforced> {
    let mut found = Vec::new();
    let settings = &bottle.provider;
    let known = provider::all().map(Provider::name);
    if let Some(template) = settings.template.as_deref().filter(|name| !known.contains(name)) {
        found.push(missing(
            format!("agent_provider.template: {template}"),
            "this version has no such provider",
            &format!("use one of: {}; or run any program with `bot-bottle run`", known.join(", ")),
        ));
    }
    let image_keys = [("image", settings.image.is_some()), ("dockerfile", settings.dockerfile.is_some())];
    for (key, _) in image_keys.into_iter().filter(|(_, is_given)| *is_given && !backend.has_images()) {
        found.push(missing(
            format!("agent_provider.{key}"),
            "the native backend has no images; it uses the host's own programs",
            "remove the key, or choose a backend with images: `backend: docker`",
        ));
    }
    found.extend(settings.settings.keys().map(|key| {
        missing(
            format!("agent_provider.settings.{key}"),
            "the provider declares no settings",
            "remove the key",
        )
    }));
    found
}

fn of_route(route: &Route) -> Vec<Unenforced> {
    let key = |rest: &str| format!("egress.routes[{}].{rest}", route.host);
    let no_scanner = "there is no scanner yet";
    let remove = "remove the key";
    let mut found = Vec::new();
    if route.content.outbound.is_some() {
        found.push(missing(key("dlp.outbound_detectors"), no_scanner, remove));
    }
    if route.content.inbound.is_some() {
        found.push(missing(key("dlp.inbound_detectors"), no_scanner, remove));
    }
    if route.content.on_match.is_some() {
        found.push(missing(key("dlp.outbound_on_match"), no_scanner, remove));
    }
    if route.content.tls_passthrough {
        found.push(missing(key("pipelock.tls_passthrough"), no_scanner, remove));
    }
    match route.tls {
        RouteTls::Intercept => {}
        RouteTls::Splice => found.push(missing(
            key("tls: splice"),
            "the gateway has no tunnels without inspection yet",
            "remove the key; the gateway then looks inside, and the program has to trust the bottle's CA",
        )),
    }
    found
}

fn of_log(log: EgressLog) -> Option<Unenforced> {
    let level = match log {
        EgressLog::Receipts => return None,
        EgressLog::Warnings => 1,
        EgressLog::Full => 2,
    };
    Some(missing(
        format!("egress.log: {level}"),
        "the gateway writes receipts alone yet",
        "remove the key; every decision is in the run's receipts.jsonl",
    ))
}

fn of_settings(settings: &Settings) -> impl Iterator<Item = Unenforced> {
    settings.budgets.keys().map(|provider| {
        missing(
            format!("budgets.{provider} (settings.yml)"),
            "tokens are not counted yet",
            "remove the budget; `limits: {time: …}` on a bottle bounds a run",
        )
    })
}
