//! The preflight: the plan on a few lines, shown before a start.

use std::path::PathBuf;

use bot_bottle_core::{
    bottle::EnvEntry,
    plan::BottlePlan,
    policy::{Route, RouteOwner, RouteTls},
};

use super::{FAINT, STRONG, Table, Ui, WARNING};

impl Ui {
    /// Prints the plan to stderr: agent, bottle, routes and limits.
    pub(crate) fn preflight(&self, plan: &BottlePlan, limits: &[String]) {
        eprint_text(&render(plan, limits));
    }
}

#[allow(clippy::print_stderr, reason = "part of the module that prints")]
fn eprint_text(text: &str) {
    anstream::eprint!("{text}");
}

/// The preflight as text. `limits` says how each limit is enforced.
pub(crate) fn render(plan: &BottlePlan, limits: &[String]) -> String {
    let mut sections: Vec<(&str, Vec<String>)> = Vec::new();
    let agent = match &plan.provider {
        Some(provider) => format!("{} ({provider})", plan.identity.agent()),
        None => plan.program.command.join(" "),
    };
    sections.push(("agent", vec![agent]));
    sections.push(("run", vec![format!("{} on {}", plan.identity, plan.backend)]));
    let bottles =
        if plan.bottle_names.is_empty() { "(none)".to_owned() } else { plan.bottle_names.join(" + ") };
    sections.push(("bottle", vec![bottles]));
    sections.push(("image", plan.image.iter().map(ToString::to_string).collect()));
    sections.push(("env", env_names(plan)));
    sections.push(("skills", plan.skills.clone()));
    let identity = [("name", &plan.git_user.name), ("email", &plan.git_user.email)];
    let identity = identity
        .into_iter()
        .filter_map(|(field, value)| {
            value.as_ref().map(|value| format!("{field} {} ({})", value.value, value.from))
        })
        .collect();
    sections.push(("git user", identity));
    let without = match plan.workspace_exclude.as_slice() {
        [] => String::new(),
        patterns => format!(" without {}", patterns.join(", ")),
    };
    let copy = |folder: &PathBuf| format!("a copy of {}{without}", folder.display());
    let workspace = plan.workspace.iter().map(copy).collect();
    sections.push(("workspace", workspace));
    let mut routes: Vec<String> = plan.policy.routes.iter().map(route).collect();
    if routes.is_empty() {
        routes.push("nothing".to_owned());
    }
    sections.push(("egress", routes));
    sections.push(("limits", limits.to_vec()));
    sections.push(("note", plan.notes.clone()));

    let mut table = Table::default();
    for (label, values) in sections {
        for (row, value) in values.into_iter().enumerate() {
            let label = if row == 0 { label } else { "" };
            let style = if label == "note" { WARNING } else { anstyle::Style::new() };
            table.row([(label.to_owned(), if label == "agent" { STRONG } else { FAINT }), (value, style)]);
        }
    }
    table.render()
}

fn env_names(plan: &BottlePlan) -> Vec<String> {
    plan.env
        .iter()
        .filter(|(name, _)| !plan.hidden_env_names.contains(name))
        .map(|(name, entry)| match entry {
            EnvEntry::Literal(_) => name.clone(),
            EnvEntry::HostVariable(variable) => format!("{name} (from ${variable})"),
            EnvEntry::Prompt(_) => format!("{name} (asked for)"),
        })
        .collect()
}

/// A route on one line.
pub(crate) fn route(route: &Route) -> String {
    let mut text = route.host.to_string();
    if !route.ports.iter().eq(Route::DEFAULT_PORTS.iter()) {
        let ports: Vec<String> = route.ports.iter().map(u16::to_string).collect();
        text.push_str(&format!(":{}", ports.join(",")));
    }
    if let Some(auth) = &route.auth {
        text.push_str(&format!(" [auth:{auth}]"));
    }
    if !route.matches.is_empty() {
        text.push_str(&format!(
            " [{} match{}]",
            route.matches.len(),
            if route.matches.len() == 1 { "" } else { "es" }
        ));
    }
    if route.tls == RouteTls::Splice {
        text.push_str(" [splice]");
    }
    if route.git_fetch {
        text.push_str(" [git fetch]");
    }
    if route.content.tls_passthrough {
        text.push_str(" [passthrough]");
    }
    if let RouteOwner::Provider(provider) = &route.owner {
        text.push_str(&format!(" (by {provider})"));
    }
    text
}
