//! With what an agent's work in a repository is compared.

use std::{collections::BTreeSet, fs};

use bot_bottle_core::work::Baseline;

use crate::{
    InspectError, ids,
    repository::{Ref, Repository},
    touched,
};

/// The state of a repository when the agent started, or when the agent cloned it.
#[derive(Debug)]
pub(crate) struct Start {
    /// The tracked files.
    pub(crate) tree: String,
    /// The tree of the commit that `HEAD` was.
    pub(crate) head_tree: String,
    /// Whether `tree` has what the operator had not committed.
    pub(crate) has_uncommitted: bool,
    /// The commits that are not the agent's, with their history.
    pub(crate) commits: BTreeSet<String>,
    /// What the branches and tags were; empty if that is not known.
    refs: BTreeSet<(String, String)>,
}

impl Start {
    /// Finds it. `is_root` says that the repository is the workspace's, which the baseline is about.
    pub(crate) fn find(
        repository: &Repository,
        baseline: &Baseline,
        is_root: bool,
    ) -> Result<Self, InspectError> {
        let is_recorded = is_root && (baseline.head.is_some() || !baseline.refs.is_empty());
        let found = if is_recorded {
            Self::recorded(repository, baseline)?
        } else if existed_before(repository, baseline) {
            Self::from_reflogs(repository, baseline.started.0)?
        } else {
            None
        };
        found.map_or_else(|| Self::from_remotes(repository), Ok)
    }

    /// What the launcher recorded; `None` if the repository is another one now.
    fn recorded(repository: &Repository, baseline: &Baseline) -> Result<Option<Self>, InspectError> {
        // The snapshot is in no ref: a `git gc` of the agent's may have removed it.
        let recorded = [baseline.snapshot.as_deref(), baseline.head.as_deref()];
        let recorded = recorded.map(Option::unwrap_or_default);
        let found = ids::commits(&repository.own, &recorded)?;
        let [snapshot, head] = found.as_slice() else { return Ok(None) };
        if baseline.head.is_some() && head.is_none() {
            return Ok(None);
        }
        let objects: Vec<_> = baseline.refs.values().collect();
        let commits =
            ids::commits(&repository.own, &objects)?.into_iter().flatten().chain(head.clone()).collect();
        let head_tree = match head {
            Some(head) => repository.tree_of(head)?,
            None => repository.empty_tree()?,
        };
        Ok(Some(Self {
            tree: match snapshot {
                Some(snapshot) => repository.tree_of(snapshot)?,
                None => head_tree.clone(),
            },
            head_tree,
            has_uncommitted: snapshot.is_some(),
            commits,
            refs: baseline.refs.iter().map(|(name, object)| (name.clone(), object.clone())).collect(),
        }))
    }

    /// A repository that the launcher did not record, but that the operator had: what its reflogs say of the
    /// time. `None` if they do not reach back.
    fn from_reflogs(repository: &Repository, started: i64) -> Result<Option<Self>, InspectError> {
        let mut log = Vec::new();
        let arguments = ["log", "-g", "--all", "--no-show-signature", "--date=unix", "--format=%H %gD"];
        if repository.theirs.run(&arguments, b"", &mut log)?.code != Some(0) {
            return Ok(None);
        }
        let log = String::from_utf8_lossy(&log);
        let mut seen = BTreeSet::new();
        let (mut head, mut commits) = (None, BTreeSet::from_iter(repository.remotes.iter().cloned()));
        for line in log.lines() {
            // `ID refs/heads/main@{1700000000}`, the newest first.
            let Some((id, entry)) = line.split_once(' ') else { continue };
            let Some((name, time)) = entry.strip_suffix('}').and_then(|entry| entry.rsplit_once("@{")) else {
                continue;
            };
            if time.parse::<i64>().is_ok_and(|time| time < started) && seen.insert(name.to_owned()) {
                if name == "HEAD" {
                    head = Some(id.to_owned());
                }
                commits.insert(id.to_owned());
            }
        }
        let Some(head) = head else { return Ok(None) };
        let head_tree = repository.tree_of(&head)?;
        Ok(Some(Self {
            tree: head_tree.clone(),
            head_tree,
            has_uncommitted: false,
            commits,
            refs: BTreeSet::new(),
        }))
    }

    /// A repository that the agent cloned or made: what came from a remote is not its work.
    fn from_remotes(repository: &Repository) -> Result<Self, InspectError> {
        /// As many ids as surely fit on a command line.
        const MOST: usize = 10_000;
        let mut nearest = None;
        if let Some(head) = repository.head.as_deref().filter(|_| !repository.remotes.is_empty()) {
            let mut arguments = vec!["merge-base", head];
            arguments.extend(repository.remotes.iter().map(String::as_str).take(MOST));
            nearest = repository.own.try_line(&arguments)?;
        }
        let head_tree = match nearest {
            Some(commit) => repository.tree_of(&commit)?,
            None => repository.empty_tree()?,
        };
        Ok(Self {
            tree: head_tree.clone(),
            head_tree,
            has_uncommitted: false,
            commits: repository.remotes.iter().cloned().collect(),
            refs: BTreeSet::new(),
        })
    }

    /// The commits that the agent made or fetched, of `HEAD` and of every branch and tag that is not as before.
    pub(crate) fn new_commits(&self, repository: &Repository) -> Result<BTreeSet<String>, InspectError> {
        let changed = repository.refs.iter().filter(|found| !self.has(found)).map(|found| &found.commit);
        let mut revisions: String = changed.chain(&repository.head).map(|id| format!("{id}\n")).collect();
        revisions.extend(self.commits.iter().map(|id| format!("^{id}\n")));
        let listed = repository.own.read(&["rev-list", "--stdin"], revisions.as_bytes())?;
        Ok(String::from_utf8_lossy(&listed).lines().map(str::to_owned).collect())
    }

    /// The branches and tags that are new or other than before. Where that is not known, as in a clone, those
    /// with a commit that is new.
    pub(crate) fn changed_refs<'a>(
        &self,
        repository: &'a Repository,
        new: &BTreeSet<String>,
    ) -> Vec<&'a Ref> {
        let changed =
            |found: &&Ref| !self.has(found) && (!self.refs.is_empty() || new.contains(&found.commit));
        repository.refs.iter().filter(changed).collect()
    }

    /// How many new commits are on branches and tags, and not in the history of `HEAD`.
    pub(crate) fn commits_beside_head(&self, repository: &Repository) -> Result<usize, InspectError> {
        let new = self.new_commits(repository)?;
        let changed = self.changed_refs(repository, &new);
        let mut revisions: String = changed.iter().map(|found| format!("{}\n", found.commit)).collect();
        revisions.extend(self.commits.iter().chain(&repository.head).map(|id| format!("^{id}\n")));
        let listed = repository.own.read(&["rev-list", "--stdin"], revisions.as_bytes())?;
        Ok(String::from_utf8_lossy(&listed).lines().count())
    }

    fn has(&self, found: &Ref) -> bool {
        self.refs.contains(&(found.name.clone(), found.object.clone()))
    }
}

/// Whether the repository was there before the agent. Where the file system does not tell when something was
/// made, it is taken for the agent's.
fn existed_before(repository: &Repository, baseline: &Baseline) -> bool {
    fs::symlink_metadata(&repository.git_dir)
        .is_ok_and(|found| touched::birth(&found).is_some_and(|birth| birth < baseline.started))
}
