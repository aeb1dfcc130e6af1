//! `list`: agents, or running bottles.

use std::{process::ExitCode, time::SystemTime};

use anstyle::Style;
use bot_bottle_core::error::IoContext;
use bot_bottle_launch::{
    kept::{self, KeptRun},
    state,
};

use super::{
    cleanup::{ago, fetched, rounded},
    prepare,
};
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
        ListWhat::Runs => runs(ui),
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

fn runs(ui: &Ui) -> Result<ExitCode, CommandError> {
    let home = prepare::home()?;
    let runs = kept::list(&home).io_context(|| format!("{} cannot be read", home.state().display()))?;
    ui.result(&runs, |runs| {
        if runs.is_empty() {
            return "no agent's work is kept".to_owned();
        }
        let mut table = Table::default();
        for run in runs {
            let age = run.started.and_then(|started| SystemTime::now().duration_since(started).ok());
            let bottle = if run.bottles.is_empty() { "(none)".to_owned() } else { run.bottles.join(" + ") };
            let folder = run.folder.as_ref().map_or("(empty)".to_owned(), |path| path.display().to_string());
            let size = run.size.map_or("(unknown)".to_owned(), |size| rounded(size).to_string());
            let state = match run {
                KeptRun { is_running: true, .. } => "running",
                KeptRun { has_work: false, .. } => "a conversation alone",
                KeptRun { fetched: state, .. } => fetched(*state),
            };
            table.row([
                (run.identity.to_string(), STRONG),
                (age.map(ago).unwrap_or_default(), Style::new()),
                (bottle, Style::new()),
                (folder, Style::new()),
                (size, Style::new()),
                (state.to_owned(), FAINT),
            ]);
        }
        table.render()
    });
    Ok(ExitCode::SUCCESS)
}
