//! `info`: what an agent would run in, and what a run runs in.

use std::process::ExitCode;

use bot_bottle_core::{
    bottle::{EffectiveBottle, ProviderSettings},
    identity::Identity,
    policy::Route,
    printable::printable,
    provider::{self, Conversation, GuestPaths},
};
use bot_bottle_launch::kept::{self, RunDescription};
use serde::Serialize;

use super::{agent, prepare};
use crate::{
    arguments::{AgentOptions, Info},
    exit::CommandError,
    manifest_files,
    ui::{self, FAINT, STRONG, Table, Ui},
};

/// Shows the effective bottle of an agent, or a run.
pub(super) fn run(info: &Info, ui: &Ui) -> Result<ExitCode, CommandError> {
    let home = prepare::home()?;
    if let Ok(run) = info.agent.parse::<Identity>()
        && home.run(&run).is_dir()
    {
        let described = kept::describe(&home, &run).map_err(CommandError::from_error)?;
        ui.result(&described, describe_run);
        return Ok(ExitCode::SUCCESS);
    }
    let manifest = manifest_files::load()?;
    prepare::warn(&manifest, ui);
    let effective = manifest.bottle_for(&info.agent, &info.bottles)?;
    let provider = ProviderInfo::of(&effective);
    ui.result(&AgentInfo { effective, provider }, describe);
    Ok(ExitCode::SUCCESS)
}

/// What an agent would run in.
#[derive(Serialize)]
struct AgentInfo {
    #[serde(flatten)]
    effective: EffectiveBottle,
    provider: ProviderInfo,
}

/// What the provider would bring.
#[derive(Serialize)]
struct ProviderInfo {
    /// How the agent logs in.
    login: String,
    /// Hosts that the provider opens itself.
    routes: Vec<Route>,
    /// Why it would bring nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

impl ProviderInfo {
    fn of(effective: &EffectiveBottle) -> Self {
        let options = AgentOptions { headless: false, prompt: None, yes: false, arguments: Vec::new() };
        let guest = GuestPaths::default();
        let settings = &effective.bottle.provider;
        let routes = || {
            let provider = agent::provider_of(effective)?;
            let provisioned = agent::provision(provider, effective, &options, Conversation::New, &guest)?;
            let mut routes = provisioned.plan.egress_routes;
            let widened = provider::widen(&mut routes, provider.name(), &settings.extra_routes);
            widened.map(|()| routes).map_err(CommandError::from_error)
        };
        let (routes, problem) = match routes() {
            Ok(routes) => (routes, None),
            Err(error) => (Vec::new(), Some(error.message)),
        };
        Self { login: login(settings), routes, problem }
    }
}

fn login(settings: &ProviderSettings) -> String {
    match (&settings.auth_token, &settings.api_key, settings.forward_host_credentials) {
        (Some(token), ..) => format!("by the token in {token}"),
        (None, Some(key), _) => format!("by the API key in {key}"),
        (None, None, true) => "by the host's own login".to_owned(),
        (None, None, false) => "not at all".to_owned(),
    }
}

fn describe_run(run: &RunDescription) -> String {
    let mut table = Table::default();
    let state = if run.is_running { "running" } else { "ended" };
    let rows = [("state", Some(state.to_owned())), ("CA SHA-256", run.ca_fingerprint.clone())];
    for (label, value) in rows.into_iter().filter_map(|(label, value)| Some((label, value?))) {
        table.row([(label.to_owned(), FAINT), (value, anstyle::Style::new())]);
    }
    format!("{}{}", ui::preflight(&run.plan, &[]), table.render())
}

fn describe(AgentInfo { effective, provider }: &AgentInfo) -> String {
    let bottle = &effective.bottle;
    let mut table = Table::default();
    let mut add = |label: &str, values: Vec<String>| {
        for (row, value) in values.into_iter().enumerate() {
            let label = if row == 0 { label } else { "" };
            table.row([(label.to_owned(), FAINT), (value, anstyle::Style::new())]);
        }
    };
    add("agent", vec![effective.agent.name.clone()]);
    add("bottle", vec![effective.bottle_names.join(" + ")]);
    add("provider", vec![bottle.provider.template.clone().unwrap_or_else(|| "claude".to_owned())]);
    add("login", [Some(provider.login.clone()), provider.problem.clone()].into_iter().flatten().collect());
    add("backend", bottle.backend.iter().map(ToString::to_string).collect());
    add("env", bottle.env.keys().cloned().collect());
    add("skills", effective.agent.skills.clone());
    let user = &bottle.git.user;
    add(
        "git user",
        [("name", &user.name), ("email", &user.email)]
            .into_iter()
            .filter_map(|(field, value)| {
                value.as_ref().map(|value| format!("{field} {} ({})", value.value, value.from))
            })
            .collect(),
    );
    add(
        "git remotes",
        bottle.git.remotes.iter().map(|(name, remote)| format!("{name} {}", remote.url)).collect(),
    );
    // The provider owns its hosts.
    let is_owned = |route: &&Route| provider.routes.iter().any(|own| own.host == route.host);
    let others = bottle.egress.routes.iter().filter(|route| !is_owned(route));
    add("egress", provider.routes.iter().chain(others).map(ui::route).collect());
    let text = table.render();
    let prompt = &effective.agent.prompt;
    if prompt.is_empty() {
        return text;
    }
    let prompt: Vec<String> = prompt.lines().map(printable).collect();
    format!("{text}\n{STRONG}prompt{STRONG:#}\n{}\n", prompt.join("\n"))
}
