//! What an agent did, in numbers.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use bot_bottle_core::{error::IoError, work::Baseline};
use serde::{Deserialize, Serialize};

use crate::{
    InspectError, Places, changes::uncommitted, repository::Repository, start::Start, touched, working_tree,
};

/// The answer to [`crate::Request::Summary`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Whether the agent touched anything of the workspace, ignored files and deleted ones included, or made
    /// a commit.
    pub written: bool,
    /// The repository of the workspace or, if it has none, those of its direct subfolders, by name.
    pub repositories: Vec<RepositorySummary>,
    /// The files outside of those repositories.
    pub files: LooseFiles,
}

/// An agent's work in one repository.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositorySummary {
    /// The folder, relative to the workspace; empty for the workspace.
    pub folder: String,
    /// The branch of `HEAD` without `refs/heads/`; `None` if it is detached.
    pub branch: Option<String>,
    /// Number of new commits on any branch or tag.
    pub commits: usize,
    /// Number of tracked files with changes of the agent's that are not committed.
    pub uncommitted: usize,
    /// Number of files of the agent's that are not in the commit of `HEAD`, without ignored ones.
    pub new_files: usize,
}

/// Files that are in no repository.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LooseFiles {
    /// Number of those that the agent made.
    pub new: usize,
    /// Number of those that it changed, and of those whose age is not known.
    pub changed: usize,
}

/// Writes a [`Summary`] as one line of JSON.
pub(crate) fn summarise(
    places: &Places,
    baseline: &Baseline,
    output: &mut dyn Write,
    left_out: &mut Vec<String>,
) -> Result<(), InspectError> {
    let mut folders = vec![];
    let mut repositories = Vec::new();
    let root = places.workspace.clone();
    let subfolders = subfolders(&root);
    for (number, folder) in std::iter::once(&root).chain(&subfolders).enumerate() {
        match of_repository(places, folder, number, baseline, left_out) {
            Ok(Some(repository)) => {
                repositories.push(repository);
                folders.push(folder.clone());
            }
            Ok(None) => {}
            Err(error @ InspectError::System(_)) => return Err(error),
            // Its files are counted at least.
            Err(error) => left_out.push(format!("the repository in {}: {error}", folder.display())),
        }
        if *folder == root && !repositories.is_empty() {
            break;
        }
    }
    let mut files = LooseFiles::default();
    if !folders.contains(&root) {
        for file in touched::files(&root, &folders, baseline.started, left_out) {
            *if file.is_new { &mut files.new } else { &mut files.changed } += 1;
        }
    }
    let written = repositories.iter().any(|repository| repository.commits > 0)
        || touched::is_any(&root, baseline.started);
    let summary = Summary { written, repositories, files };
    serde_json::to_writer(&mut *output, &summary)
        .map_err(Into::into)
        .and_then(|()| output.write_all(b"\n"))
        .map_err(|error| IoError::new("writing to standard output", error).into())
}

/// The direct subfolders that a request can name, sorted. A folder that cannot be read has none.
fn subfolders(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| {
        entry.file_type().is_ok_and(|kind| kind.is_dir())
            && entry.file_name().to_str().is_some_and(|name| name != ".git")
    });
    let mut folders: Vec<_> = folders.map(|entry| entry.path()).collect();
    folders.sort();
    folders
}

fn of_repository(
    places: &Places,
    folder: &Path,
    number: usize,
    baseline: &Baseline,
    left_out: &mut Vec<String>,
) -> Result<Option<RepositorySummary>, InspectError> {
    let scratch = places.scratch.join(format!("repository-{number}"));
    let Some(repository) = Repository::open(places, folder, &scratch, baseline.started)? else {
        return Ok(None);
    };
    let start = Start::find(&repository, baseline, folder == places.workspace)?;
    let tree = working_tree::tree(&repository, &start, baseline.started, left_out)?;
    let changes = uncommitted(&repository, &start, &tree)?;
    let new_files = changes.values().filter(|change| !change.old.exists()).count();
    let relative = folder.strip_prefix(&places.workspace).unwrap_or(folder);
    Ok(Some(RepositorySummary {
        folder: relative.to_string_lossy().into_owned(),
        branch: repository
            .branch
            .as_deref()
            .and_then(|name| name.strip_prefix("refs/heads/"))
            .map(str::to_owned),
        commits: start.new_commits(&repository)?.len(),
        uncommitted: changes.len() - new_files,
        new_files,
    }))
}
