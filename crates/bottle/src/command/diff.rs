//! `diff`: what an agent changed.

use std::{io, process::ExitCode};

use bot_bottle_core::error::IoContext;
use bot_bottle_inspector::{Request, Style};

use super::work::{self, Answer, Terms, Work};
use crate::{
    arguments::Diff,
    exit::CommandError,
    ui::{Shown, Ui},
};

/// Shows the changes, through a pager on a terminal.
pub(super) fn run(diff: &Diff, ui: &Ui) -> Result<ExitCode, CommandError> {
    let work = Work::of(&diff.run)?;
    if ui.is_json() {
        let summary = work.summary(None, ui)?;
        ui.result(&summary, |_| String::new());
        return Ok(ExitCode::SUCCESS);
    }
    let style = match (diff.stat, diff.name_only) {
        (true, _) => Style::Stat,
        (false, true) => Style::NameOnly,
        (false, false) => Style::Full,
    };
    let request = Request::Diff {
        baseline: work.baseline.clone(),
        repository: diff.repository.clone(),
        style,
        // Colours are added here: those of the stream could be the agent's own.
        colour: false,
    };
    let mut pager = ui.pager();
    let asked = work.ask(&request, Terms::READ, &mut io::empty(), &mut |piece| pager.show(piece), ui);
    let shown = pager.finish();
    match (asked, shown.io_context(|| "showing the changes")?) {
        (Ok(Answer::Nothing), _) | (Ok(_), Shown::Nothing) => {
            ui.progress(&work::nothing(&diff.run));
            Ok(ExitCode::SUCCESS)
        }
        // Whoever leaves the pager has seen enough.
        (Ok(_), _) | (Err(_), Shown::Left) => Ok(ExitCode::SUCCESS),
        (Err(error), _) => Err(error),
    }
}
