//! `info`: what an agent would run in.

use std::process::ExitCode;

use bot_bottle_core::{bottle::EffectiveBottle, printable::printable};

use super::prepare;
use crate::{
    arguments::Info,
    exit::CommandError,
    manifest_files,
    ui::{FAINT, STRONG, Table, Ui},
};

/// Shows the effective bottle of an agent.
pub(super) fn run(info: &Info, ui: &Ui) -> Result<ExitCode, CommandError> {
    let manifest = manifest_files::load()?;
    prepare::warn(&manifest, ui);
    let effective = manifest.bottle_for(&info.agent, &info.bottles)?;
    ui.result(&effective, describe);
    Ok(ExitCode::SUCCESS)
}

fn describe(effective: &EffectiveBottle) -> String {
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
    add("egress", bottle.egress.routes.iter().map(crate::ui::route).collect());
    let text = table.render();
    let prompt = &effective.agent.prompt;
    if prompt.is_empty() {
        return text;
    }
    let prompt: Vec<String> = prompt.lines().map(printable).collect();
    format!("{text}\n{STRONG}prompt{STRONG:#}\n{}\n", prompt.join("\n"))
}
