//! `inspect`: the part that this binary plays in a throw-away bottle over an agent's work.

use std::{
    fs,
    io::{self, BufReader},
    path::PathBuf,
    process::ExitCode,
};

use bot_bottle_core::{
    error::{Hint, IoContext},
    provider::GuestPaths,
};
use bot_bottle_inspector::Places;
use bot_bottle_launch::inspect::INSPECTED_HOME;

use crate::{exit::CommandError, ui::Ui};

/// Answers one request from standard input on standard output.
pub(super) fn run(ui: &Ui) -> Result<ExitCode, CommandError> {
    let guest = GuestPaths::default();
    let scratch = guest.home.join("scratch");
    fs::create_dir(&scratch).io_context(|| format!("making {}", scratch.display()))?;
    let places = Places {
        workspace: guest.workspace.clone(),
        home: PathBuf::from(INSPECTED_HOME),
        scratch,
        guest_workspace: guest.workspace,
        guest_home: guest.home,
    };
    match bot_bottle_inspector::run(&places, &mut BufReader::new(io::stdin()), &mut io::stdout().lock()) {
        Ok(left_out) => {
            ui.lines(&left_out);
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            let hint = error.hint().map(|hint| format!("hint: {hint}"));
            ui.lines(&[Some(error.to_string()), hint].into_iter().flatten().collect::<Vec<_>>());
            Ok(ExitCode::from(error.exit_code()))
        }
    }
}
