//! A git bundle of a bottle becomes refs of the operator's repository, and nothing else.
//!
//! Git runs in two places: in a bare repository of ours, where the bundle's objects are checked beside those of
//! the operator, and in the operator's, by plumbing commands alone. `git fetch` is not used: it reads many keys
//! of the configuration, and runs hooks and maintenance.

mod error;
mod git;
mod header;
mod object_id;
mod objects;
mod operator;
mod ref_name;
mod trees;

use std::{
    fs::{File, Permissions},
    io::{self, BufReader, Read, Seek, SeekFrom},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use bot_bottle_core::{identity::Identity, printable::printable};
use serde::Serialize;

pub use self::{error::ImportError, object_id::ObjectId};
use self::{header::Header, objects::Objects, operator::Operator};

/// The ref of a bundle with the commit of what the agent had not committed.
const UNCOMMITTED: &str = "refs/uncommitted";

/// What is imported, and where to.
#[derive(Debug, Clone)]
pub struct Import {
    /// The operator's repository: any folder in it.
    pub repository: PathBuf,
    /// The run that the bundle is of. Its refs become `refs/bottle/<run>/…`.
    pub run: Identity,
    /// The branch that the agent was on, without `refs/heads/`.
    pub head: Option<String>,
    /// A branch to make: at what the agent had not committed if there is anything, else at `head`.
    pub branch: Option<String>,
    /// An existing private folder of ours, on a disk with room for the bundle twice. A folder is made in it,
    /// and removed again whatever happens.
    pub quarantine: PathBuf,
    /// What the bundle may contain.
    pub bounds: ImportBounds,
}

/// What a bundle may contain at most.
#[derive(Debug, Clone)]
pub struct ImportBounds {
    /// Bytes of the bundle.
    pub bundle_bytes: u64,
    /// Branches and tags.
    pub refs: usize,
    /// Objects in its pack.
    pub objects: u64,
    /// Bytes of all objects of its pack together, when inflated.
    pub inflated_bytes: u64,
    /// Files and folders of one commit when it is checked out.
    pub checkout_entries: u64,
    /// Bytes of one commit when it is checked out.
    pub checkout_bytes: u64,
    /// How deep folders of one commit are nested.
    pub checkout_depth: u32,
    /// Bytes of memory for git.
    pub memory: u64,
    /// Seconds of processor time for one git command.
    pub processor_seconds: u64,
}

impl Default for ImportBounds {
    fn default() -> Self {
        Self {
            bundle_bytes: 4 << 30,
            refs: 1000,
            objects: 4_000_000,
            inflated_bytes: 64 << 30,
            checkout_entries: 2_000_000,
            checkout_bytes: 64 << 30,
            // Git's own core.maxTreeDepth is 2048; no path of a file is so long on Linux.
            checkout_depth: 1000,
            memory: 4 << 30,
            processor_seconds: 3600,
        }
    }
}

/// What the operator's repository has now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// The refs that were written, below `refs/bottle/<run>/`.
    pub refs: Vec<ImportedRef>,
    /// The branch that was made.
    pub branch: Option<ImportedRef>,
}

/// One ref that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImportedRef {
    /// The full name in the operator's repository.
    pub name: String,
    /// What it points to: a commit, or for an annotated tag the tag.
    pub id: ObjectId,
    /// Commits that no ref of the operator's repository had before.
    pub new_commits: u64,
}

/// Those of the commits and tags, by id, that the repository around a folder of the operator's has: a bundle
/// can leave them out with all of their history. What is no id is not among them.
///
/// # Errors
/// When the folder is in no repository, or git cannot be run.
pub fn known_commits(repository: &Path, ids: &[String]) -> Result<Vec<String>, ImportError> {
    let ids: Vec<ObjectId> = ids.iter().filter_map(|id| id.parse().ok()).collect();
    Operator::open(repository)?.commits_among(&ids)
}

/// Verifies a bundle and brings its refs into the operator's repository.
///
/// # Errors
/// When the branch cannot be made, the repository lacks what the work builds on, a bound is exceeded, or the
/// bundle holds what git, or a checkout, must not get. Nothing in the repository refers to the work then.
pub fn import(bundle: &mut dyn Read, import: &Import) -> Result<Imported, ImportError> {
    let bounds = &import.bounds;
    let operator = Operator::open(&import.repository)?;
    if let Some(branch) = &import.branch {
        if let Some(why) = ref_name::refusal_of_branch(branch) {
            return Err(ImportError::BranchName { name: printable(branch), why });
        }
        operator.expect_no_branch(branch)?;
    }
    let folder = tempfile::Builder::new()
        .prefix("import-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(&import.quarantine)
        .map_err(|error| {
            ImportError::io(format!("making a folder in {}", import.quarantine.display()), error)
        })?;

    let (header, pack) = receive(bundle, &folder.path().join("bundle"), bounds)?;
    let tip = tip(&header, import)?;
    operator.expect_format(header.object_format)?;
    // The order is from cheap to dear, and each check holds for what the next one reads:
    // 1. the objects are well formed and of a bounded size, 2. no checkout of a tree explodes, so that git may
    // walk the trees, 3. everything that the refs reach is there.
    let objects = Objects::receive(&folder.path().join("git"), &operator, &header, pack, bounds)?;
    trees::check(&objects, bounds)?;
    objects.expect_types(&header)?;
    objects.expect_connected(&header)?;
    let mut refs = Vec::new();
    for (name, id) in &header.refs {
        let rest = name.strip_prefix("refs/").unwrap_or(name);
        let name = format!("refs/bottle/{}/{rest}", import.run);
        refs.push(ImportedRef { name, id: *id, new_commits: objects.count_new_commits(*id)? });
    }
    let branch = import.branch.as_ref().zip(tip).and_then(|(branch, tip)| {
        let tip = &refs[header.refs.iter().position(|(name, _)| *name == tip)?];
        Some(ImportedRef { name: format!("refs/heads/{branch}"), ..tip.clone() })
    });
    operator.publish(objects.pack(), &import.run, &refs, branch.as_ref())?;
    Ok(Imported { refs, branch })
}

/// Writes the bundle to a file, and reads its header. The file is at the offset of the pack.
fn receive(bundle: &mut dyn Read, path: &Path, bounds: &ImportBounds) -> Result<(Header, File), ImportError> {
    let failed = |error| ImportError::io(format!("writing {}", path.display()), error);
    let mut file = File::options().read(true).write(true).create_new(true).open(path).map_err(failed)?;
    let written =
        io::copy(&mut bundle.take(bounds.bundle_bytes.saturating_add(1)), &mut file).map_err(failed)?;
    if written > bounds.bundle_bytes {
        return Err(ImportError::too_large("bytes", bounds.bundle_bytes));
    }
    file.rewind().map_err(failed)?;
    let header = header::read(&mut BufReader::new(&file), bounds.refs)?;
    if header.objects > bounds.objects {
        return Err(ImportError::too_large("objects", bounds.objects));
    }
    file.seek(SeekFrom::Start(header.pack_at)).map_err(failed)?;
    Ok((header, file))
}

/// The ref of the bundle that the new branch is made at.
fn tip(header: &Header, import: &Import) -> Result<Option<String>, ImportError> {
    if import.branch.is_none() {
        return Ok(None);
    }
    let head = import.head.as_ref().map(|head| format!("refs/heads/{head}"));
    let has = |wanted: &String| header.refs.iter().any(|(name, _)| name == wanted);
    match [Some(UNCOMMITTED.to_owned()), head].into_iter().flatten().find(has) {
        Some(tip) => Ok(Some(tip)),
        None => Err(ImportError::NoTip { head: import.head.as_deref().map(printable) }),
    }
}
