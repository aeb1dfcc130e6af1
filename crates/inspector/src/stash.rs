//! What the agent put aside with `git stash`.

use bot_bottle_core::work::FileTime;

use crate::{
    InspectError,
    git::Git,
    ids,
    repository::{Ref, free_branch},
};

/// The stashes made since the agent started, as branches `stash`, `stash-2` and so on, the newest first. A bundle
/// has branches and tags alone, and what is stashed is in none of them.
pub(crate) fn made_since(
    started: FileTime,
    theirs: &Git,
    own: &Git,
    refs: &[Ref],
) -> Result<Vec<Ref>, InspectError> {
    let mut log = Vec::new();
    // Each stash is an entry of the reflog, git-stash(1). Git fails if there is none.
    let arguments =
        ["log", "-g", "--no-show-signature", "--date=unix", "--format=%H %gD", "refs/stash", "--"];
    if theirs.run(&arguments, b"", &mut log)?.code != Some(0) {
        return Ok(Vec::new());
    }
    let log = String::from_utf8_lossy(&log);
    // `ID refs/stash@{1700000000}`. What the operator had stashed before is the operator's.
    let made = |line: &str| {
        let (id, entry) = line.split_once(' ')?;
        let time = entry.strip_suffix('}')?.rsplit_once("@{")?.1.parse::<i64>().ok()?;
        (time >= started.0).then(|| id.to_owned())
    };
    let objects: Vec<_> = log.lines().filter_map(made).collect();
    let commits = ids::commits(own, &objects)?;
    let mut taken = refs.to_vec();
    for commit in commits.into_iter().flatten() {
        let name = free_branch(&taken, "stash");
        taken.push(Ref { name, object: commit.clone(), commit });
    }
    Ok(taken.split_off(refs.len()))
}
