//! `commit`: what an agent installed becomes an image.

use std::process::ExitCode;

use bot_bottle_launch::commit::commit;

use super::prepare;
use crate::{arguments::Commit, exit::CommandError, ui::Ui};

/// Makes the image, and prints its name.
pub(super) fn run(arguments: &Commit, ui: &Ui) -> Result<ExitCode, CommandError> {
    let image = commit(&prepare::home()?, &arguments.run, arguments.image.as_deref());
    let image = image.map_err(CommandError::from_error)?;
    ui.result(&image, |image| image.reference.clone());
    Ok(ExitCode::SUCCESS)
}
