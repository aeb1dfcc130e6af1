//! The operator's repository: what is asked of it, and the only two commands that change it.

use std::{
    ffi::OsString,
    fs::{self, File},
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use bot_bottle_core::identity::Identity;

use super::{
    ImportedRef, ObjectId,
    error::ImportError,
    git::{Git, Input},
};

/// The answer of git to a question for a path, or for one word, in bytes.
const MAX_ANSWER: u64 = 64 << 10;

/// The bytes of the names of all objects that refs point to: a million of them.
const MAX_REFS: u64 = 100 << 20;

/// The operator's repository.
#[derive(Debug)]
pub(super) struct Operator {
    git: Git,
    /// The folder with its objects.
    pub(super) objects: PathBuf,
    /// The file with the commits whose parents a shallow clone lacks; may not exist.
    pub(super) shallow_file: PathBuf,
    /// Whether it is a shallow clone.
    pub(super) shallow: bool,
    object_format: String,
}

impl Operator {
    /// Finds the repository that `folder` is in.
    pub(super) fn open(folder: &Path) -> Result<Self, ImportError> {
        let git = Git::in_folder(folder);
        let ask = |arguments: &[&str]| {
            let (mut answer, ended) = git.output(arguments, Input::Nothing, MAX_ANSWER)?;
            if !ended.status.success() {
                // What git advises where the owner is another: git-config(1).
                let other_owner = ended.messages.iter().any(|line| line.contains("safe.directory"));
                let (folder, message) = (folder.to_owned(), ended.reason());
                return Err(ImportError::NotARepository { folder, message, other_owner });
            }
            // One line break is git's own; others belong to the path.
            if answer.last() == Some(&b'\n') {
                answer.pop();
            }
            Ok(OsString::from_vec(answer))
        };
        let path =
            |name| ask(&["rev-parse", "--path-format=absolute", "--git-path", name]).map(PathBuf::from);
        let format = ask(&["rev-parse", "--show-object-format"])?;
        let git_dir = PathBuf::from(ask(&["rev-parse", "--absolute-git-dir"])?);
        Ok(Self {
            objects: path("objects")?,
            shallow_file: path("shallow")?,
            shallow: ask(&["rev-parse", "--is-shallow-repository"])? == "true",
            object_format: format.to_string_lossy().into_owned(),
            git: Git::operators(git_dir, configured_hooks(&git)?),
        })
    }

    /// Refuses a bundle whose objects cannot be in this repository.
    pub(super) fn expect_format(&self, bundle: &str) -> Result<(), ImportError> {
        if bundle == self.object_format {
            return Ok(());
        }
        let repository = self.object_format.clone();
        Err(ImportError::ObjectFormat { bundle: bundle.to_owned(), repository })
    }

    /// Refuses a branch that exists.
    pub(super) fn expect_no_branch(&self, branch: &str) -> Result<(), ImportError> {
        let name = format!("refs/heads/{branch}");
        let (_, ended) =
            self.git.output(&["show-ref", "--verify", "--quiet", &name], Input::Nothing, MAX_ANSWER)?;
        if ended.status.success() { Err(ImportError::BranchExists(branch.to_owned())) } else { Ok(()) }
    }

    /// What its refs point to, one a line, each after `^`: the form in which rev-list(1) leaves them out.
    pub(super) fn everything_but(&self) -> Result<Vec<u8>, ImportError> {
        let arguments = ["for-each-ref", "--format=^%(objectname)"];
        let (mut known, ended) = self.git.output(&arguments, Input::Nothing, MAX_REFS)?;
        ended.expect_success("for-each-ref")?;
        // A detached HEAD is no ref; an unborn one has no commit.
        let (head, ended) =
            self.git.output(&["rev-parse", "--verify", "--quiet", "HEAD"], Input::Nothing, MAX_ANSWER)?;
        if ended.status.success() {
            known.push(b'^');
            known.extend(head);
        }
        Ok(known)
    }

    /// Those of the objects that are here, and that are commits or tags.
    pub(super) fn commits_among(&self, ids: &[ObjectId]) -> Result<Vec<String>, ImportError> {
        let asked: Vec<u8> = ids.iter().flat_map(|id| format!("{id}\n").into_bytes()).collect();
        let arguments = ["cat-file", "--batch-check=%(objectname) %(objecttype)"];
        let (answer, ended) = self.git.output(&arguments, Input::Text(asked), MAX_REFS)?;
        ended.expect_success("cat-file")?;
        let answer = String::from_utf8_lossy(&answer);
        let found = answer.lines().filter_map(|line| match line.split_once(' ') {
            Some((id, "commit" | "tag")) => Some(id.to_owned()),
            _ => None,
        });
        Ok(found.collect())
    }

    /// Takes over a pack that was verified, and points the refs to its commits in one transaction.
    pub(super) fn publish(
        &self,
        pack: Option<&Path>,
        run: &Identity,
        refs: &[ImportedRef],
        branch: Option<&ImportedRef>,
    ) -> Result<(), ImportError> {
        let _kept = pack.map(|pack| self.add_pack(pack, run)).transpose()?;
        let mut transaction = Vec::new();
        for ImportedRef { name, id, .. } in refs {
            transaction.extend(format!("update {name}\0{id}\0\0").into_bytes());
        }
        if let Some(ImportedRef { name, id, .. }) = branch {
            transaction.extend(format!("create {name}\0{id}\0").into_bytes());
        }
        let reason = format!("bot-bottle: brought from {run}");
        let arguments = ["update-ref", "--no-deref", "-m", &reason, "--stdin", "-z"];
        let (_, ended) = self.git.output(&arguments, Input::Text(transaction), MAX_ANSWER)?;
        ended.expect_success("update-ref")
    }

    /// The mark that is returned keeps the pack until the refs are there: `git gc` may run at any time.
    fn add_pack(&self, pack: &Path, run: &Identity) -> Result<KeepMark, ImportError> {
        let file = File::open(pack)
            .map_err(|error| ImportError::io(format!("opening {}", pack.display()), error))?;
        let keep = format!("--keep=bot-bottle brings the work of {run}");
        let (answer, ended) =
            self.git.output(&["index-pack", "--stdin", &keep], Input::File(file), MAX_ANSWER)?;
        ended.expect_success("index-pack")?;
        // `keep` and the hash, or `pack` where a mark of this name exists already, which is not ours.
        let answer = String::from_utf8_lossy(&answer);
        let hash = answer.trim_end().strip_prefix("keep\t");
        Ok(KeepMark(hash.map(|hash| self.objects.join(format!("pack/pack-{hash}.keep")))))
    }
}

/// The names of the hooks that the configuration has: the middle of keys such as `hook.<name>.command`.
fn configured_hooks(git: &Git) -> Result<Vec<String>, ImportError> {
    let arguments = ["config", "-z", "--name-only", "--get-regexp", r"^hook\..*\.(command|event)$"];
    // Git fails if there is no such key.
    let (keys, _) = git.output(&arguments, Input::Nothing, MAX_ANSWER)?;
    let keys = String::from_utf8_lossy(&keys);
    let name = |key: &str| Some(key.strip_prefix("hook.")?.rsplit_once('.')?.0.to_owned());
    Ok(keys.split('\0').filter_map(name).collect())
}

/// The file beside a pack that keeps `git gc` from it; removed when dropped.
#[derive(Debug)]
struct KeepMark(Option<PathBuf>);

impl Drop for KeepMark {
    fn drop(&mut self) {
        if let Some(file) = &self.0 {
            // If it stays, the pack is kept for longer.
            let _ = fs::remove_file(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn hooks_of_the_configuration_are_turned_off() {
        let folder = tempfile::tempdir().expect("a folder");
        let git = |arguments: &[&str]| {
            let status = Command::new("git").arg("-C").arg(folder.path()).args(arguments).status();
            assert!(status.expect("git runs").success(), "{arguments:?}");
        };
        git(&["init", "--quiet"]);
        git(&["config", "hook.with=odd. name.command", "true"]);
        git(&["config", "hook.with=odd. name.event", "reference-transaction"]);
        git(&["config", "hook.with=odd. name.enabled", "true"]);
        let operator = Operator::open(folder.path()).expect("a repository");
        let enabled = ["config", "--get", "hook.with=odd. name.enabled"];
        let (answer, _) = operator.git.output(&enabled, Input::Nothing, 100).expect("git runs");
        assert_eq!(answer, b"false\n");
    }
}
