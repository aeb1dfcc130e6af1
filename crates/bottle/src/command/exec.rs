//! `exec`: a further program inside a running bottle.

use std::{collections::BTreeMap, process::ExitCode};

use bot_bottle_launch::{client, request::ExecRequest};

use super::prepare;
use crate::{arguments::Exec, exit::CommandError, ui::Ui};

/// Runs a program beside the agent, in the same boundary, and passes on its exit code.
pub(super) fn run(exec: &Exec, _ui: &Ui) -> Result<ExitCode, CommandError> {
    let request =
        ExecRequest { command: exec.command.clone(), environment: BTreeMap::new(), working_directory: None };
    let exit = client::exec(&prepare::home()?, &exec.identity, &request, prepare::terminal())
        .map_err(CommandError::from_error)?;
    prepare::exit_code(&exec.identity, None, &exit)
}
