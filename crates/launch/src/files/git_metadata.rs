//! Where git keeps the metadata of a workspace, if not all of it lies in there: linked worktrees and submodules,
//! whose `.git` is a file that names a folder elsewhere (gitrepository-layout(5), git-worktree(1)).
//!
//! Nothing runs git here, and a `.git` file is not believed alone: it may come with an archive from a stranger and
//! name any repository of the operator's. The folder that it names has to name the workspace as its own.

use std::{
    borrow::Cow,
    ffi::OsStr,
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use bot_bottle_core::error::Hint;
use thiserror::Error;

use super::git_config;

/// Longest file that names a folder, in bytes: a path has at most 4096.
const MAX_POINTER: usize = 8 << 10;

/// Where the metadata of a workspace lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GitMetadata {
    /// In the workspace, or there is none.
    Within,
    /// Elsewhere.
    Elsewhere {
        /// What belongs to this working tree alone: its `HEAD` and its index.
        own: PathBuf,
        /// What all working trees of the repository share; the same for a submodule.
        common: PathBuf,
    },
}

/// Why a copy would be no repository.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum GitMetadataError {
    /// Part of a repository.
    #[error("{} lies in the git repository {}, which a copy of it would not have", .folder.display(), .top.display())]
    Subfolder {
        /// The workspace.
        folder: PathBuf,
        /// The repository's top folder.
        top: PathBuf,
    },
    /// A `.git` file that names nothing.
    #[error("{} names {}, where there is no git repository", .file.display(), .named.display())]
    Nowhere {
        /// The `.git` file.
        file: PathBuf,
        /// What it names.
        named: PathBuf,
    },
    /// A `.git` file that names a repository which does not know the workspace.
    #[error("{} names {}, which does not say that it belongs to this folder", .file.display(), .named.display())]
    NotItsOwn {
        /// The `.git` file, or link.
        file: PathBuf,
        /// What it names.
        named: PathBuf,
    },
    /// A repository that borrows objects of another one, which a copy would not have.
    #[error("the git repository borrows objects of another one: {}", .0.display())]
    Alternates(PathBuf),
}

impl Hint for GitMetadataError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        let without = "`--without-git` copies the folder without its repository";
        Some(match self {
            Self::Subfolder { top, .. } => format!("start in {}; {without}", top.display()).into(),
            Self::Nowhere { .. } => format!("`git worktree repair` may mend it; {without}").into(),
            Self::NotItsOwn { .. } => format!(
                "if it does, say so there: `git worktree repair` for a linked worktree, `git config core.worktree` for \
                 another one; {without}"
            )
            .into(),
            Self::Alternates(file) => {
                format!("`git repack -a -d && rm {}` makes it whole; {without}", file.display()).into()
            }
        })
    }
}

/// Finds the metadata of a workspace. A repository around it that is one of the operator's whole home, as some
/// keep their settings, is none of the workspace's.
///
/// # Errors
/// When a copy of the folder would be no repository, though the folder is one, or is in one.
pub(crate) fn find(folder: &Path, home: &Path) -> Result<GitMetadata, GitMetadataError> {
    let resolved = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let (folder, home) = (resolved(folder), resolved(home));
    let file = folder.join(".git");
    let Ok(kind) = fs::symlink_metadata(&file) else {
        let above = folder.ancestors().skip(1).take_while(|top| !home.starts_with(top));
        return match above.into_iter().find(|top| is_repository(&top.join(".git"))) {
            Some(top) => Err(GitMetadataError::Subfolder { folder: folder.clone(), top: top.to_owned() }),
            None => Ok(GitMetadata::Within),
        };
    };
    if kind.is_dir() {
        return whole(&file).map(|()| GitMetadata::Within);
    }
    let named = if kind.is_symlink() {
        fs::read_link(&file).ok()
    } else {
        pointer(&file).and_then(|text| Some(path_of(text.strip_prefix(b"gitdir:")?)))
    };
    // Neither does git take it for a repository.
    let Some(named) = named else { return Ok(GitMetadata::Within) };
    let Ok(own) = fs::canonicalize(folder.join(&named)) else {
        return Err(GitMetadataError::Nowhere { file, named });
    };
    if own.starts_with(&folder) {
        return whole(&own).map(|()| GitMetadata::Within);
    }
    if !own.join("HEAD").is_file() {
        return Err(GitMetadataError::Nowhere { file, named: own });
    }
    let not_its_own = || GitMetadataError::NotItsOwn { file: file.clone(), named: own.clone() };
    let common = match pointer(&own.join("commondir")) {
        // A linked worktree: `<common>/worktrees/<name>`, whose `gitdir` names the `.git` file.
        Some(text) => {
            let common = fs::canonicalize(own.join(path_of(&text))).map_err(|_| not_its_own())?;
            let is_below = own.parent() == Some(common.join("worktrees").as_path());
            let back = pointer(&own.join("gitdir")).map(|text| resolved(&own.join(path_of(&text))));
            if !is_below || back.as_ref() != Some(&file) {
                return Err(not_its_own());
            }
            common
        }
        // A submodule, or a repository that was made with `--separate-git-dir` and told where its files are.
        None => {
            let back = worktree_setting(&own).map(|path| resolved(&own.join(path)));
            if back.as_ref() != Some(&folder) {
                return Err(not_its_own());
            }
            own.clone()
        }
    };
    whole(&common)?;
    Ok(GitMetadata::Elsewhere { own, common })
}

/// Whether git would take this for the metadata of the folder above it.
fn is_repository(git: &Path) -> bool {
    git.join("HEAD").symlink_metadata().is_ok()
        || pointer(git).is_some_and(|text| text.starts_with(b"gitdir:"))
}

/// Refuses a repository whose objects lie elsewhere.
fn whole(git: &Path) -> Result<(), GitMetadataError> {
    let alternates = git.join("objects/info/alternates");
    let borrows = fs::read(&alternates).is_ok_and(|text| {
        text.split(|byte| *byte == b'\n').any(|line| !line.trim_ascii().is_empty() && !line.starts_with(b"#"))
    });
    if borrows { Err(GitMetadataError::Alternates(alternates)) } else { Ok(()) }
}

/// The text of a short file, without the line break at its end.
fn pointer(file: &Path) -> Option<Vec<u8>> {
    let metadata = fs::metadata(file).ok()?;
    if !metadata.is_file() || metadata.len() > MAX_POINTER as u64 {
        return None;
    }
    let text: io::Result<Vec<u8>> = fs::read(file);
    Some(text.ok()?.trim_ascii_end().to_owned())
}

fn path_of(text: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(text.trim_ascii_start()))
}

/// `core.worktree` of a repository.
fn worktree_setting(git: &Path) -> Option<PathBuf> {
    let text = fs::read(git.join("config")).ok().filter(|text| text.len() < 1 << 20)?;
    let entries = git_config::parse(&text).ok()?.entries;
    let is_it = |entry: &&git_config::Entry| entry.section.name == b"core" && entry.key == b"worktree";
    entries.iter().rev().find(is_it)?.value.as_deref().map(path_of)
}

/// What of the shared metadata comes along, by its first name: everything but what belongs to the main working
/// tree and to the others (git-worktree(1), "Refs"; gitrepository-layout(5)).
pub(super) fn is_shared(path: &Path) -> bool {
    const SHARED: [&str; 13] = [
        "config",
        "description",
        "hooks",
        "info",
        "lfs",
        "logs",
        "modules",
        "objects",
        "packed-refs",
        "refs",
        "reftable",
        "rr-cache",
        "shallow",
    ];
    let mut components = path.components();
    let first = components.next().map(|first| first.as_os_str());
    first.is_some_and(|first| SHARED.iter().any(|shared| first == *shared)) && path != Path::new("logs/HEAD")
}

/// What of a working tree's own metadata comes along: everything but how the two find each other.
pub(super) fn is_own(path: &Path) -> bool {
    let first = path.components().next().map(|first| first.as_os_str());
    !["commondir", "gitdir", "locked", "worktrees"].iter().any(|name| first == Some(OsStr::new(name)))
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, process::Command};

    use super::*;

    /// A folder with what this script of git makes.
    fn made(script: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let top = fs::canonicalize(folder.path()).expect("resolved");
        let script = format!(
            "set -e; export HOME=$PWD/home GIT_CONFIG_NOSYSTEM=1; mkdir home; git config --global user.name a; \
             git config --global user.email a@localhost; git config --global protocol.file.allow always; \
             git config --global init.defaultBranch main; {script}"
        );
        let made = Command::new("sh").args(["-ec", &script]).current_dir(&top).output().expect("a shell");
        assert!(made.status.success(), "{made:?}");
        (folder, top)
    }

    const MAIN: &str = "git init -q m; git -C m commit -q --allow-empty -m x; mkdir m/sub plain home/p;";

    #[test]
    fn metadata_is_found_where_git_keeps_it() {
        let script = format!(
            "{MAIN} git -C m worktree add -q ../t; git -C m submodule --quiet add ../t s; git -C home init -q; \
             git init -q --separate-git-dir sep-git sep; git -C m worktree add -q --detach ../r; \
             (cd r && git config extensions.relativeWorktrees true; true)"
        );
        let (_folder, top) = made(&script);
        let find = |name: &str| super::find(&top.join(name), &top.join("home"));
        for within in ["m", "plain", "home/p"] {
            assert_eq!(find(within), Ok(GitMetadata::Within), "{within}");
        }
        let common = top.join("m/.git");
        for (name, own) in [("t", common.join("worktrees/t")), ("r", common.join("worktrees/r"))] {
            assert_eq!(find(name), Ok(GitMetadata::Elsewhere { own, common: common.clone() }));
        }
        let own = common.join("modules/s");
        assert_eq!(find("m/s"), Ok(GitMetadata::Elsewhere { own: own.clone(), common: own }));
        let subfolder = GitMetadataError::Subfolder { folder: top.join("m/sub"), top: top.join("m") };
        assert_eq!(find("m/sub"), Err(subfolder));
        assert!(matches!(find("sep"), Err(GitMetadataError::NotItsOwn { .. })));
        let mut told = Command::new("git");
        told.args(["--git-dir=sep-git", "config", "core.worktree", "../sep"]).current_dir(&top);
        assert!(told.status().expect("git").success());
        assert!(matches!(find("sep"), Ok(GitMetadata::Elsewhere { .. })));
    }

    #[test]
    fn a_strangers_pointer_opens_no_other_repository() {
        let script = format!(
            "{MAIN} git -C m worktree add -q ../t; mkdir evil evil2 evil3 meta; echo 'ref: x' > meta/HEAD"
        );
        let (_folder, top) = made(&script);
        let find = |name: &str| super::find(&top.join(name), &top.join("home"));
        let write = |path: &str, text: &str| fs::write(top.join(path), text).expect("written");
        // Another repository, another one's worktree, and a link.
        for target in ["../m/.git", "../m/.git/worktrees/t"] {
            write("evil/.git", &format!("gitdir: {target}\n"));
            assert!(matches!(find("evil"), Err(GitMetadataError::NotItsOwn { .. })), "{target}");
        }
        symlink("../m/.git", top.join("evil2/.git")).expect("a link");
        assert!(matches!(find("evil2"), Err(GitMetadataError::NotItsOwn { .. })));
        // A folder of the stranger's between them, which says what it should.
        write("evil3/.git", "gitdir: ../meta\n");
        write("meta/commondir", "../m/.git\n");
        write("meta/gitdir", &format!("{}\n", top.join("evil3/.git").display()));
        assert!(matches!(find("evil3"), Err(GitMetadataError::NotItsOwn { .. })));
        write("evil/.git", "gitdir: ../nowhere\n");
        assert!(matches!(find("evil"), Err(GitMetadataError::Nowhere { .. })));
        write("evil/.git", "nonsense");
        assert_eq!(find("evil"), Ok(GitMetadata::Within));
    }

    #[test]
    fn borrowed_objects_are_refused_with_the_way_to_own_them() {
        let (_folder, top) = made(&format!("{MAIN} git clone -q --shared m borrowing"));
        let error = find(&top.join("borrowing"), &top.join("home")).expect_err("refused");
        assert!(error.hint().is_some_and(|hint| hint.contains("git repack -a -d")), "{error}");
    }
}
