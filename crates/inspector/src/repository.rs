//! An agent's repository, opened without writing to it.

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
};

use bot_bottle_core::{error::IoContext as _, printable::git_quoted, work::FileTime};

use crate::{
    InspectError, Places,
    git::{Git, settings},
    ids, stash, touched,
};

/// A repository with a working tree.
#[derive(Debug)]
pub(crate) struct Repository {
    /// The working tree.
    pub(crate) folder: PathBuf,
    /// Its `.git`, or what the file `.git` names: a submodule's or a linked working tree's.
    pub(crate) git_dir: PathBuf,
    /// Where its own index is copied to, and its new objects are written.
    pub(crate) scratch: PathBuf,
    /// Git in the agent's repository, with its configuration.
    pub(crate) theirs: Git,
    /// Git in a bare repository of ours with the same objects.
    pub(crate) own: Git,
    /// The commit of `HEAD`; `None` before the first one.
    pub(crate) head: Option<String>,
    /// The branch of `HEAD`, such as `refs/heads/main`, also before its first commit; `None` if detached.
    pub(crate) branch: Option<String>,
    /// Branches and tags whose commit is there, and the agent's stashes as branches.
    pub(crate) refs: Vec<Ref>,
    /// The commits of the remote-tracking branches.
    pub(crate) remotes: Vec<String>,
}

/// A branch or tag. A name that is not UTF-8 has U+FFFD in place of those bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ref {
    /// `refs/heads/main`.
    pub(crate) name: String,
    /// The object: a commit, or an annotated tag.
    pub(crate) object: String,
    /// The commit.
    pub(crate) commit: String,
}

impl Repository {
    /// Opens the repository of a folder, and makes ours in `scratch`, which is made too. `None` if the folder
    /// has no repository, or none that git can read.
    pub(crate) fn open(
        places: &Places,
        folder: &Path,
        scratch: &Path,
        started: FileTime,
    ) -> Result<Option<Self>, InspectError> {
        let Some(git_dir) = git_dir(places, folder) else { return Ok(None) };
        // Git takes nothing for a repository whose GIT_OBJECT_DIRECTORY is not there.
        let objects = scratch.join("own.git/objects");
        fs::create_dir_all(&objects).io_context(|| format!("making {}", objects.display()))?;
        let theirs = Git::new(
            folder,
            scratch,
            their_environment(places, folder, &git_dir, scratch),
            their_options(scratch),
        );
        let mut common = match theirs.read(&["rev-parse", "--git-common-dir"], b"") {
            Ok(path) => path,
            Err(InspectError::Git { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        common.pop();
        let common = folder.join(OsString::from_vec(common));
        let format = theirs.line(&["rev-parse", "--show-object-format"], b"")?;
        let own = make_own(&common, scratch, &format)?;

        let head = theirs.try_line(&["rev-parse", "--verify", "--quiet", "HEAD^{commit}"])?;
        let branch = theirs.try_line(&["symbolic-ref", "--quiet", "HEAD"])?;
        let listed = theirs.read(
            &["for-each-ref", "--format=%(objectname) %(refname)", "refs/heads", "refs/tags", "refs/remotes"],
            b"",
        )?;
        let listed = String::from_utf8_lossy(&listed);
        let listed: Vec<_> = listed.lines().filter_map(|line| line.split_once(' ')).collect();
        let objects: Vec<_> = listed.iter().map(|(object, _)| object).collect();
        let commits = ids::commits(&own, &objects)?;
        let (mut refs, mut remotes) = (Vec::new(), Vec::new());
        for ((object, name), commit) in listed.into_iter().zip(commits) {
            let Some(commit) = commit else { continue };
            if name.starts_with("refs/remotes/") {
                remotes.push(commit);
            } else {
                refs.push(Ref { name: name.to_owned(), object: object.to_owned(), commit });
            }
        }
        refs.extend(stash::made_since(started, &theirs, &own, &refs)?);
        Ok(Some(Self {
            folder: folder.to_owned(),
            git_dir,
            scratch: scratch.to_owned(),
            theirs,
            own,
            head,
            branch: branch.filter(|name| name.starts_with("refs/heads/")),
            refs,
            remotes,
        }))
    }

    /// The repository of a request, which has to be there.
    pub(crate) fn required(places: &Places, relative: &str, started: FileTime) -> Result<Self, InspectError> {
        let folder = folder_of(places, relative)?;
        Self::open(places, &folder, &places.scratch.join("repository"), started)?
            .ok_or(InspectError::NoRepository(folder))
    }

    /// Names what neither a commit nor a patch has: of a file that git LFS or git-annex stores they have a pointer.
    pub(crate) fn name_stored_elsewhere(&self, started: FileTime, left_out: &mut Vec<String>) {
        let stores = ["lfs/objects", "annex/objects"].map(|store| self.git_dir.join(store));
        // The second is of files that are not committed.
        if stores
            .iter()
            .chain([&self.scratch.join("lfs/objects")])
            .any(|store| touched::is_any(store, started))
        {
            left_out
                .push("the content of files that git LFS or git-annex stores, which `cp` brings".to_owned());
        }
    }

    /// The tree of `HEAD`, or the empty tree before the first commit.
    pub(crate) fn head_tree(&self) -> Result<String, InspectError> {
        match &self.head {
            Some(head) => self.tree_of(head),
            None => self.empty_tree(),
        }
    }

    /// The tree of a commit.
    pub(crate) fn tree_of(&self, commit: &str) -> Result<String, InspectError> {
        self.own.line(&["rev-parse", "--verify", &format!("{commit}^{{tree}}")], b"")
    }

    /// The tree without an entry, which is written.
    pub(crate) fn empty_tree(&self) -> Result<String, InspectError> {
        self.own.line(&["hash-object", "-t", "tree", "-w", "--stdin"], b"")
    }
}

/// A name for commits that are on no branch: none of these refs has it, or a name below it.
pub(crate) fn free_branch(refs: &[Ref], wanted: &str) -> String {
    let is_free = |name: &String| {
        let below = format!("{name}/");
        !refs.iter().any(|found| found.name == *name || found.name.starts_with(&below))
    };
    let numbered = (2..).map(|number| format!("refs/heads/{wanted}-{number}"));
    std::iter::once(format!("refs/heads/{wanted}")).chain(numbered).find(is_free).unwrap_or_default()
}

/// The folder of a request's `repository`.
pub(crate) fn folder_of(places: &Places, relative: &str) -> Result<PathBuf, InspectError> {
    let folder = places.resolve(relative)?;
    if folder.starts_with(&places.workspace) { Ok(folder) } else { Err(InspectError::NoRepository(folder)) }
}

/// Where the repository of a working tree is. `.git` is a folder, or a file with one line,
/// gitrepository-layout(5).
fn git_dir(places: &Places, folder: &Path) -> Option<PathBuf> {
    /// Longer than any path of the kernel's.
    const MAX_LINE: u64 = 8192;
    let dot_git = folder.join(".git");
    let found = fs::metadata(&dot_git).ok()?;
    if found.is_dir() {
        return Some(dot_git);
    }
    if !found.is_file() || found.len() > MAX_LINE {
        return None;
    }
    let text = fs::read(&dot_git).ok()?;
    let named = text.strip_prefix(b"gitdir: ")?.trim_ascii_end();
    let named = Path::new(OsStr::from_bytes(named));
    // `git worktree add` writes absolute paths, as the agent names them.
    let git_dir = match named.strip_prefix(&places.guest_workspace) {
        Ok(rest) => places.workspace.join(rest),
        Err(_) => folder.join(named),
    };
    git_dir.is_dir().then_some(git_dir)
}

fn their_environment(
    places: &Places,
    folder: &Path,
    git_dir: &Path,
    scratch: &Path,
) -> Vec<(&'static str, OsString)> {
    vec![
        // Named, so that no folder above is searched, and `safe.directory` and `core.bare` do not matter.
        ("GIT_DIR", git_dir.into()),
        ("GIT_WORK_TREE", folder.into()),
        ("GIT_INDEX_FILE", scratch.join("index").into()),
        ("GIT_OBJECT_DIRECTORY", scratch.join("own.git/objects").into()),
        // For its `~/.gitconfig` and whatever that names.
        ("HOME", places.home.clone().into()),
    ]
}

fn their_options(scratch: &Path) -> Vec<OsString> {
    let mut options = settings([
        // The files were copied into the bottle, which changed what the index knows of them but size and mtime.
        ("core.checkStat", "minimal"),
        ("core.trustctime", "false"),
        ("core.fsmonitor", "false"),
        ("core.hooksPath", "/dev/null"),
        ("core.safecrlf", "false"),
        // A file outside of the agent's sparse checkout is work like any other.
        ("core.sparseCheckout", "false"),
        ("index.sparse", "false"),
        // Both would be written beside the agent's index.
        ("core.splitIndex", "false"),
        ("core.untrackedCache", "false"),
        ("protocol.allow", "never"),
        ("submodule.recurse", "false"),
    ]);
    // `git lfs clean` writes what it hashes, by default into the repository.
    options.extend(settings([("lfs.storage", scratch.join("lfs"))]));
    options
}

/// Makes a bare repository that borrows the agent's objects. None of the agent's configuration is valid there.
fn make_own(common: &Path, scratch: &Path, format: &str) -> Result<Git, InspectError> {
    let git_dir = scratch.join("own.git");
    let own = Git::new(
        scratch,
        scratch,
        vec![
            ("GIT_DIR", git_dir.clone().into()),
            ("GIT_CONFIG_GLOBAL", "/dev/null".into()),
            ("GIT_CONFIG_NOSYSTEM", "1".into()),
            ("GIT_ATTR_NOSYSTEM", "1".into()),
            ("HOME", scratch.into()),
        ],
        settings([
            ("core.hooksPath", "/dev/null"),
            // Names of other scripts are shown as they are; control characters and quotes never are.
            ("core.quotePath", "false"),
            ("gc.auto", "0"),
            ("maintenance.auto", "false"),
            ("user.name", "bot-bottle"),
            ("user.email", "bot-bottle@localhost"),
        ]),
    );
    own.read(
        &[
            "init",
            "--quiet",
            "--bare",
            "--template=",
            "--initial-branch=none",
            &format!("--object-format={format}"),
        ],
        b"",
    )?;
    let info = git_dir.join("objects/info");
    fs::create_dir_all(&info).io_context(|| format!("making {}", info.display()))?;
    let alternates = info.join("alternates");
    fs::write(&alternates, format!("{}\n", git_quoted(common.join("objects").as_os_str().as_bytes())))
        .io_context(|| format!("writing {}", alternates.display()))?;
    // The commits whose parents a shallow clone lacks, gitformat-pack(5): without it their parents are errors.
    match fs::copy(common.join("shallow"), git_dir.join("shallow")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).io_context(|| format!("copying {}", common.join("shallow").display()))?;
        }
        _ => {}
    }
    Ok(own)
}
