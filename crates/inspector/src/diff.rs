//! What changed, for a person or for `git apply`.

use std::{io::Write, path::Path};

use bot_bottle_core::{error::IoContext as _, work::Baseline};

use crate::{
    InspectError, Places, Style,
    quote::in_a_line,
    repository::{Repository, folder_of},
    start::Start,
    touched, working_tree,
};

/// Writes the difference between the start and the working tree; without a repository, a list of files.
pub(crate) fn show(
    places: &Places,
    baseline: &Baseline,
    relative: &str,
    (style, colour): (Style, bool),
    output: &mut dyn Write,
    left_out: &mut Vec<String>,
) -> Result<(), InspectError> {
    let folder = folder_of(places, relative)?;
    let repository =
        match Repository::open(places, &folder, &places.scratch.join("repository"), baseline.started) {
            Ok(Some(repository)) => repository,
            Ok(None) | Err(InspectError::NoGit) => return list(&folder, baseline, style, output, left_out),
            Err(error) => return Err(error),
        };
    let (start, tree) = trees(places, &repository, baseline, left_out)?;
    let style = match style {
        Style::Full => "--patch",
        Style::Stat => "--stat",
        Style::NameOnly => "--name-only",
    };
    let colour = if colour { "--color=always" } else { "--color=never" };
    let arguments = ["diff-tree", "-r", style, colour, "--find-renames", &start.tree, &tree];
    repository.own.stream(&arguments, b"", output)
}

/// Writes a patch that applies to what the operator has.
pub(crate) fn patch(
    places: &Places,
    baseline: &Baseline,
    relative: &str,
    output: &mut dyn Write,
    left_out: &mut Vec<String>,
) -> Result<(), InspectError> {
    let repository = Repository::required(places, relative, baseline.started)?;
    let (start, tree) = trees(places, &repository, baseline, left_out)?;
    if start.tree == tree {
        return Err(InspectError::Nothing);
    }
    repository.name_stored_elsewhere(baseline.started, left_out);
    match start.commits_beside_head(&repository)? {
        0 => {}
        1 => left_out.push("1 commit on another branch, which `pull` brings without `--patch`".to_owned()),
        count => {
            left_out.push(format!("{count} commits on other branches, which `pull` brings without `--patch`"))
        }
    }
    // Without renames: `git apply` then needs nothing but the files that the patch names.
    let arguments =
        ["diff-tree", "-r", "--patch", "--binary", "--full-index", "--no-renames", &start.tree, &tree];
    repository.own.stream(&arguments, b"", output)
}

/// The start, and the tree of the working tree.
fn trees(
    places: &Places,
    repository: &Repository,
    baseline: &Baseline,
    left_out: &mut Vec<String>,
) -> Result<(Start, String), InspectError> {
    let start = Start::find(repository, baseline, repository.folder == places.workspace)?;
    let tree = working_tree::tree(repository, &start, baseline.started, left_out)?;
    Ok((start, tree))
}

/// `A path` for each new file and `M path` for each other that was touched.
fn list(
    folder: &Path,
    baseline: &Baseline,
    style: Style,
    output: &mut dyn Write,
    left_out: &mut Vec<String>,
) -> Result<(), InspectError> {
    for file in touched::files(folder, &[], baseline.started, left_out) {
        let letter = if file.is_new { 'A' } else { 'M' };
        let path = in_a_line(&file.path);
        match style {
            Style::Full | Style::NameOnly => writeln!(output, "{letter} {path}"),
            Style::Stat => writeln!(output, "{letter} {path} ({} bytes)", file.size),
        }
        .io_context(|| "writing to standard output")?;
    }
    Ok(())
}
