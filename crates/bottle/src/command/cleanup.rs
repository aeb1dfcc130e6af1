//! `cleanup`: removes the remains of dead runs.

use std::process::ExitCode;

use bot_bottle_core::error::IoContext;
use bot_bottle_launch::cleanup::{self, Leftover};

use super::prepare;
use crate::{arguments::Cleanup, exit::CommandError, ui::Ui};

/// Shows the remains, asks once, and removes them.
pub(super) fn run(options: &Cleanup, ui: &Ui) -> Result<ExitCode, CommandError> {
    let home = prepare::home()?;
    let plan = cleanup::plan(&home).io_context(|| format!("{} cannot be read", home.state().display()))?;
    let (removable, kept): (Vec<Leftover>, Vec<Leftover>) =
        plan.into_iter().partition(Leftover::is_removable);
    for leftover in &kept {
        ui.warn(&format!("not removed: {}", described(leftover)));
        leftover.hint().iter().for_each(|hint| ui.hint(hint));
    }
    let folders: Vec<String> =
        removable.iter().map(|leftover| leftover.folder.display().to_string()).collect();
    let lines = removable.iter().map(described).collect::<Vec<_>>().join("\n");
    if folders.is_empty() {
        ui.result(&folders, |_| match kept.len() {
            0 => "nothing is left of any bottle".to_owned(),
            _ => "there is nothing that this version of bot-bottle can remove".to_owned(),
        });
        return Ok(exit_code(&kept));
    }
    if options.dry_run {
        ui.result(&folders, |_| lines);
        return Ok(ExitCode::SUCCESS);
    }
    if !options.yes {
        ui.progress(&lines);
        if !ui.confirm("Remove all of the above?")? {
            return Err(CommandError::failed("nothing was removed"));
        }
    }
    cleanup::apply(&home, &removable).io_context(|| "not everything could be removed").map_err(|error| {
        CommandError::from_error(error)
            .with_hint("run `bot-bottle cleanup` again, as the user that owns what is left")
    })?;
    ui.result(&folders, |_| format!("removed:\n{lines}"));
    Ok(exit_code(&kept))
}

/// A folder, with what there is to say about it.
fn described(leftover: &Leftover) -> String {
    let folder = leftover.folder.display();
    leftover.note().map_or_else(|| folder.to_string(), |note| format!("{folder} ({note})"))
}

fn exit_code(kept: &[Leftover]) -> ExitCode {
    if kept.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
