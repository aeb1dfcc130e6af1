//! `stop`: the end of a running bottle.

use std::process::ExitCode;

use bot_bottle_launch::client;

use super::prepare;
use crate::{arguments::Stop, exit::CommandError, ui::Ui};

/// Ends a bottle and waits until its processes have exited.
pub(super) fn run(stop: &Stop, ui: &Ui) -> Result<ExitCode, CommandError> {
    client::stop(&prepare::home()?, &stop.identity).map_err(CommandError::from_error)?;
    ui.done(&format!("{} is stopped", stop.identity));
    Ok(ExitCode::SUCCESS)
}
