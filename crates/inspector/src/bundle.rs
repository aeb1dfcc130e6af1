//! The agent's commits as a git bundle.

use std::{collections::BTreeSet, fs, io::Write};

use bot_bottle_core::work::Baseline;

use crate::{
    InspectError, Places,
    changes::uncommitted,
    ids,
    repository::{Repository, free_branch},
    start::Start,
    working_tree,
};

/// The ref of the commit that holds what the agent had not committed.
const UNCOMMITTED: &str = "refs/uncommitted";

const MESSAGE: &str = "Work that the agent had not committed\n\nMade by bot-bottle of the working tree.\n";

/// Writes every branch and tag that is new or other than before, the branch of `HEAD` if it has new commits,
/// and what is not committed.
pub(crate) fn write(
    places: &Places,
    baseline: &Baseline,
    relative: &str,
    known: &[String],
    output: &mut dyn Write,
    left_out: &mut Vec<String>,
) -> Result<(), InspectError> {
    let repository = Repository::required(places, relative, baseline.started)?;
    let start = Start::find(&repository, baseline, repository.folder == places.workspace)?;
    let tree = working_tree::tree(&repository, &start, baseline.started, left_out)?;

    let refs = refs(&repository, &start, &tree)?;
    let known = ids::commits(&repository.own, known)?;
    let excluded: String = known.iter().flatten().map(|id| format!("^{id}\n")).collect();
    let tips: String = refs.iter().map(|(_, object)| format!("{object}\n")).collect();
    let new = repository.own.read(&["rev-list", "--stdin"], format!("{tips}{excluded}").as_bytes())?;
    let new: BTreeSet<_> = str::from_utf8(&new).unwrap_or_default().lines().collect();
    // An annotated tag is an object of its own, also on a commit that the host has.
    let has_tag = repository
        .refs
        .iter()
        .any(|found| found.object != found.commit && refs.iter().any(|(name, _)| *name == found.name));
    if new.is_empty() && !has_tag {
        return Err(InspectError::Nothing);
    }
    let shallow = fs::read_to_string(repository.scratch.join("own.git/shallow")).unwrap_or_default();
    if shallow.lines().any(|id| new.contains(id)) {
        return Err(InspectError::Shallow(repository.folder));
    }

    repository.name_stored_elsewhere(baseline.started, left_out);

    let updates: String = refs.iter().map(|(name, object)| format!("update {name} {object}\n")).collect();
    repository.own.read(&["update-ref", "--stdin"], updates.as_bytes())?;
    let names: String = refs.iter().map(|(name, _)| format!("{name}\n")).collect();
    let revisions = format!("{names}{excluded}");
    repository.own.stream(&["bundle", "create", "--quiet", "-", "--stdin"], revisions.as_bytes(), output)
}

/// The refs of the bundle with their objects.
fn refs(repository: &Repository, start: &Start, tree: &str) -> Result<Vec<(String, String)>, InspectError> {
    let new = start.new_commits(repository)?;
    let changed = start.changed_refs(repository, &new);
    let mut refs: Vec<_> = changed.iter().map(|found| (found.name.clone(), found.object.clone())).collect();
    if let Some(head) = repository.head.as_ref().filter(|head| new.contains(*head)) {
        let name = repository.branch.clone().unwrap_or_else(|| free_branch(&repository.refs, "detached"));
        if !refs.iter().any(|(other, _)| *other == name) {
            refs.push((name, head.clone()));
        }
    }
    if !uncommitted(repository, start, tree)?.is_empty() {
        let mut arguments = vec!["commit-tree", tree];
        if let Some(head) = &repository.head {
            arguments.extend(["-p", head]);
        }
        refs.push((UNCOMMITTED.to_owned(), repository.own.line(&arguments, MESSAGE.as_bytes())?));
    }
    Ok(refs)
}
