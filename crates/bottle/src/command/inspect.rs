//! `inspect`: the part that this binary plays in a throw-away bottle over an agent's work.

use std::{
    fs,
    io::{self, BufReader},
    process::ExitCode,
};

use bot_bottle_core::{
    error::{Hint, IoContext},
    provider::GuestPaths,
};
use bot_bottle_inspector::Places;
use bot_bottle_launch::inspect::INSPECTED_HOME;

use crate::{
    arguments::{Inspect, Written},
    exit::CommandError,
    ui::Ui,
};

/// Answers one request from standard input on standard output.
pub(super) fn run(inspect: &Inspect, ui: &Ui) -> Result<ExitCode, CommandError> {
    let guest = GuestPaths::default();
    let scratch = inspect.scratch.clone();
    let home = inspect.home.clone().unwrap_or_else(|| INSPECTED_HOME.into());
    // Nothing of ours goes into the agent's own home. Only files are asked for there, and they need no scratch.
    let has_scratch = !scratch.starts_with(&home);
    if has_scratch {
        fs::create_dir(&scratch).io_context(|| format!("making {}", scratch.display()))?;
    }
    let places = Places {
        workspace: guest.workspace.clone(),
        home,
        scratch: scratch.clone(),
        guest_workspace: guest.workspace,
        guest_home: guest.home,
    };
    let ended =
        bot_bottle_inspector::run(&places, &mut BufReader::new(io::stdin()), &mut io::stdout().lock());
    if has_scratch {
        // Where the bottle is the agent's own it would stay.
        let _ = fs::remove_dir_all(&scratch);
    }
    match ended {
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

/// Says what the agent of this bottle wrote.
pub(super) fn written(written: &Written, ui: &Ui) -> Result<ExitCode, CommandError> {
    let answer = bot_bottle_launch::written(&written.question).io_context(|| "looking at the workspace")?;
    ui.result(&(), |()| answer);
    Ok(ExitCode::SUCCESS)
}
