//! `list`: agents, or running bottles.

use std::process::ExitCode;

use anstyle::Style;
use bot_bottle_core::error::IoContext;
use bot_bottle_launch::state;

use super::prepare;
use crate::{
    arguments::{List, ListWhat},
    exit::CommandError,
    manifest_files,
    ui::{BAD, FAINT, STRONG, Table, Ui},
};

/// Prints the list.
pub(super) fn run(list: &List, ui: &Ui) -> Result<ExitCode, CommandError> {
    match list.what {
        ListWhat::Agents => agents(ui),
        ListWhat::Active => active(ui),
    }
}

fn agents(ui: &Ui) -> Result<ExitCode, CommandError> {
    let manifest = manifest_files::load()?;
    prepare::warn(&manifest, ui);
    ui.result(&manifest.agents(), |agents| {
        if agents.is_empty() {
            return "there is no agent; `bot-bottle init` writes a first one".to_owned();
        }
        let mut table = Table::default();
        for agent in agents {
            let bottles = if agent.bottles.is_empty() {
                "(chosen at start)".to_owned()
            } else {
                agent.bottles.join(" + ")
            };
            let (state, style) = if agent.error.is_some() { ("broken", BAD) } else { ("", Style::new()) };
            table.row([
                (agent.name.clone(), STRONG),
                (bottles, Style::new()),
                (agent.path.display().to_string(), FAINT),
                (state.to_owned(), style),
            ]);
        }
        table.render()
    });
    Ok(ExitCode::SUCCESS)
}

fn active(ui: &Ui) -> Result<ExitCode, CommandError> {
    let home = prepare::home()?;
    let bottles =
        state::list_active(&home).io_context(|| format!("{} cannot be read", home.state().display()))?;
    ui.result(&bottles, |bottles| {
        if bottles.is_empty() {
            return "no bottle is running".to_owned();
        }
        let mut table = Table::default();
        for bottle in bottles {
            let note = if state::is_of_another_version(&home, bottle) {
                "made by another version of bot-bottle"
            } else {
                ""
            };
            table.row([(bottle.to_string(), STRONG), (note.to_owned(), FAINT)]);
        }
        table.render()
    });
    Ok(ExitCode::SUCCESS)
}
