//! `pull`: an agent's commits, and what it did not commit, into the operator's repository.

use std::{path::Path, process::ExitCode};

use bot_bottle_inspector::{RepositorySummary, Request};
use bot_bottle_quarantine::{
    import::{self, Import, ImportBounds, Imported},
    patch::{self, PatchBounds},
};
use serde::Serialize;

use super::{
    quarantine::Quarantine,
    work::{self, Answer, Terms, Work},
};
use crate::{arguments::Pull, exit::CommandError, system, ui::Ui};

/// What was fetched.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Pulled {
    /// Git sees no change.
    Nothing,
    /// Refs of the repository in the current directory.
    Refs(Imported),
    /// A file, with its size in bytes.
    Patch {
        /// Which.
        file: std::path::PathBuf,
        /// Its size.
        bytes: u64,
    },
}

/// Fetches the work of a run.
pub(super) fn run(pull: &Pull, ui: &Ui) -> Result<ExitCode, CommandError> {
    let work = Work::of(&pull.run)?;
    let quarantine = Quarantine::create(&work.home)?;
    let (answer, pulled) = match &pull.patch {
        Some(file) => as_patch(pull, file, &work, &quarantine, ui)?,
        None => as_refs(pull, &work, &quarantine, ui)?,
    };
    // Where git sees nothing, something else is kept.
    if pull.repository.is_empty() && answer != Answer::Nothing {
        work.mark_fetched(answer == Answer::Whole)?;
    }
    ui.result(&pulled, |pulled| described(pulled, pull));
    Ok(ExitCode::SUCCESS)
}

fn as_patch(
    pull: &Pull,
    file: &Path,
    work: &Work,
    quarantine: &Quarantine,
    ui: &Ui,
) -> Result<(Answer, Pulled), CommandError> {
    let request = Request::Patch { baseline: work.baseline.clone(), repository: pull.repository.clone() };
    let (answer, mut stream) = work.ask_for_file(&request, Terms::READ, quarantine, ui)?;
    if answer == Answer::Nothing {
        return Ok((answer, Pulled::Nothing));
    }
    let bytes =
        patch::write_patch(&mut stream, file, &PatchBounds::default()).map_err(CommandError::from_error)?;
    Ok((answer, Pulled::Patch { file: file.to_owned(), bytes }))
}

fn as_refs(
    pull: &Pull,
    work: &Work,
    quarantine: &Quarantine,
    ui: &Ui,
) -> Result<(Answer, Pulled), CommandError> {
    let repository = system::working_directory()?;
    // Everything that the agent started with, and that is here too, does not have to come.
    let started_with =
        work.baseline.head.iter().chain(work.baseline.refs.values()).cloned().collect::<Vec<_>>();
    let known = import::known_commits(&repository, &started_with).map_err(CommandError::from_error)?;
    let head = head(pull, work, ui)?;
    let request =
        Request::Bundle { baseline: work.baseline.clone(), repository: pull.repository.clone(), known };
    let (answer, mut stream) = work.ask_for_file(&request, Terms::READ, quarantine, ui)?;
    if answer == Answer::Nothing {
        return Ok((answer, Pulled::Nothing));
    }
    let import = Import {
        repository,
        run: pull.run.clone(),
        head,
        branch: pull.branch.clone(),
        quarantine: quarantine.path().to_owned(),
        bounds: ImportBounds::default(),
    };
    let imported = import::import(&mut stream, &import).map_err(CommandError::from_error)?;
    Ok((answer, Pulled::Refs(imported)))
}

/// The branch that the agent was on, which is asked for only where a branch is to be made of it.
fn head(pull: &Pull, work: &Work, ui: &Ui) -> Result<Option<String>, CommandError> {
    if pull.branch.is_none() {
        return Ok(None);
    }
    let summary = work.summary(None, ui)?;
    let is_asked = |repository: &RepositorySummary| repository.folder == pull.repository;
    let repository = summary.repositories.into_iter().find(is_asked);
    // Commits on no branch come as one of this name.
    Ok(repository.map(|repository| repository.branch.unwrap_or_else(|| "detached".to_owned())))
}

fn described(pulled: &Pulled, pull: &Pull) -> String {
    match pulled {
        Pulled::Nothing if pull.patch.is_some() => {
            format!("{}\nbranches come without `--patch`", work::nothing(&pull.run))
        }
        Pulled::Nothing => work::nothing(&pull.run),
        Pulled::Patch { file, .. } => {
            format!("{}; `git apply` puts it into your working tree", file.display())
        }
        Pulled::Refs(imported) => {
            let line = |written: &import::ImportedRef| {
                let commits = match written.new_commits {
                    1 => "1 new commit".to_owned(),
                    count => format!("{count} new commits"),
                };
                format!("{} {} ({commits})", written.id, written.name)
            };
            let lines: Vec<_> = imported.refs.iter().chain(&imported.branch).map(line).collect();
            lines.join("\n")
        }
    }
}
