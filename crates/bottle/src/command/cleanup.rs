//! `cleanup`: what ended bottles left.

use std::process::ExitCode;

use bot_bottle_launch::cleanup;

use super::prepare;
use crate::{arguments::Cleanup, exit::CommandError, ui::Ui};

/// Shows what is left, asks once, and removes it.
pub(super) fn run(options: &Cleanup, ui: &Ui) -> Result<ExitCode, CommandError> {
    let home = prepare::home()?;
    let plan = cleanup::plan(&home).map_err(|error| {
        CommandError::failed(format!("{} cannot be read: {error}", home.state().display()))
    })?;
    let folders: Vec<String> = plan.iter().map(|leftover| leftover.folder.display().to_string()).collect();
    if folders.is_empty() {
        ui.result(&folders, |_| "nothing is left of any bottle".to_owned());
        return Ok(ExitCode::SUCCESS);
    }
    if options.dry_run {
        ui.result(&folders, |folders| folders.join("\n"));
        return Ok(ExitCode::SUCCESS);
    }
    if !options.yes {
        ui.progress(&folders.join("\n"));
        if !ui.confirm("Remove all of the above?")? {
            return Err(CommandError::failed("nothing was removed"));
        }
    }
    cleanup::apply(&home, &plan).map_err(|error| {
        CommandError::failed(format!("not everything could be removed: {error}"))
            .hint("run `bot-bottle cleanup` again, as the user that owns what is left")
    })?;
    ui.result(&folders, |folders| format!("removed:\n{}", folders.join("\n")));
    Ok(ExitCode::SUCCESS)
}
