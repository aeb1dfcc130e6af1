//! Keeps credentials that git has beside the work out of the copy of a workspace: in the configuration of every
//! repository in it, in what those include, in logs of what was fetched, and in files of credentials.
//!
//! What git has committed is not looked at: it is the work itself, and its objects are named by their content.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs,
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
};

use super::git_config::{self, Entry};

mod keys;

use keys::{Removal, removal, strip_user_info};

/// Largest configuration, in bytes. Git's own are below a few KiB.
const MAX_CONFIG: u64 = 1 << 20;

/// Largest other file of a repository that is searched, in bytes. Reflogs are the longest.
const MAX_TEXT: u64 = 64 << 20;

/// Files of credentials by name, wherever they lie: a home that was copied into the workspace has them too.
/// Sources: git-credential-store(1), "FILES"; curl(1), `--netrc`; git's contrib/credential/netrc.
const CREDENTIAL_FILES: &[&str] =
    &[".git-credentials", ".config/git/credentials", ".netrc", "_netrc", ".authinfo"];

/// What is done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Treatment {
    LeaveOut,
    Config,
    /// Only user info in URLs is removed.
    Text,
}

/// The repositories of a folder, and what was removed from its files so far.
#[derive(Debug, Default)]
pub(crate) struct GitCredentials {
    /// Folders that git takes for repositories, whatever their name.
    repositories: BTreeSet<PathBuf>,
    /// Files that a configuration or a link names.
    named: BTreeMap<PathBuf, Treatment>,
    /// By file, what was removed, never with its value.
    removed: BTreeMap<PathBuf, Vec<String>>,
    /// Where the folder's files are in the workspace.
    place: PathBuf,
    /// Whether metadata gets another place, and its configuration must not name the old one.
    is_moved: bool,
}

impl GitCredentials {
    /// Looks through a folder, and at what its files hold. What cannot be read is passed over here: copying it
    /// fails and says so.
    pub(crate) fn find(folder: &Path) -> Self {
        let mut found = Self::default();
        let Ok(root) = fs::canonicalize(folder) else { return found };
        let files = found.walk(&root);
        let mut configs = Vec::new();
        for path in files {
            let Some(treatment) = found.treatment(&path) else { continue };
            // A link stays a link; what it leads to in the workspace is what has to be looked at.
            let Some(real) = below(&root, &root.join(&path)) else { continue };
            if real != path {
                found.named.insert(real.clone(), treatment);
            }
            match treatment {
                Treatment::Config => configs.push((path, real)),
                Treatment::LeaveOut | Treatment::Text => found.look(&root, &real),
            }
        }
        let mut seen = BTreeSet::new();
        while let Some((path, real)) = configs.pop() {
            if !seen.insert((path.clone(), real.clone())) {
                continue;
            }
            found.look(&root, &real);
            let Some(config) =
                read(&root.join(&real), MAX_CONFIG).and_then(|text| git_config::parse(&text).ok())
            else {
                continue;
            };
            for (named, treatment) in config.entries.iter().filter_map(keys::named_file) {
                for candidate in places(&root, &path, &real, &named) {
                    let Some(file) = below(&root, &candidate).filter(|file| root.join(file).is_file()) else {
                        continue;
                    };
                    found.named.insert(file.clone(), treatment);
                    match treatment {
                        Treatment::Config => {
                            // Without `..`, so that files that include each other are looked at once.
                            let folder = candidate.parent().and_then(|folder| below(&root, folder));
                            let name = candidate.file_name().unwrap_or_default();
                            configs.push((folder.unwrap_or_default().join(name), file));
                        }
                        Treatment::LeaveOut | Treatment::Text => found.look(&root, &file),
                    }
                }
            }
        }
        found
    }

    /// The same for metadata of git that lies elsewhere and becomes a folder of the workspace.
    pub(crate) fn find_moved(metadata: &Path, place: &Path) -> Self {
        Self { place: place.to_owned(), is_moved: true, ..Self::find(metadata) }
    }

    /// Collects repositories, and every file and link that may have to be treated.
    fn walk(&mut self, root: &Path) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = fs::read_dir(root.join(&folder)) else { continue };
            let entries: Vec<fs::DirEntry> = entries.flatten().collect();
            let has = |name: &str| entries.iter().any(|entry| entry.file_name() == name);
            // gitrepository-layout(5): these make a folder a repository.
            let repository = has("HEAD") && (has("objects") || has("commondir"));
            if repository {
                self.repositories.insert(folder.clone());
            }
            for entry in entries {
                let name = entry.file_name();
                let path = folder.join(&name);
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() && repository && name == "objects" => {}
                    Ok(kind) if kind.is_dir() => folders.push(path),
                    Ok(kind) if (kind.is_file() || kind.is_symlink()) && self.treatment(&path).is_some() => {
                        files.push(path);
                    }
                    _ => {}
                }
            }
        }
        files
    }

    /// What is done with a file of this name; `None` if it is copied as it is.
    pub(super) fn treatment(&self, path: &Path) -> Option<Treatment> {
        if CREDENTIAL_FILES.iter().any(|name| path.ends_with(name)) {
            return Some(Treatment::LeaveOut);
        }
        if let Some(treatment) = self.named.get(path) {
            return Some(*treatment);
        }
        let repository = path.ancestors().skip(1).find(|folder| {
            folder.file_name() == Some(OsStr::new(".git")) || self.repositories.contains(*folder)
        })?;
        let inner = path.strip_prefix(repository).ok()?;
        let first = inner.components().next()?;
        let is = |name: &str| first == Component::Normal(OsStr::new(name));
        // Copies that editors leave (`config~`, `config.orig`) and `config.worktree` too.
        let config = path.file_name()?.as_bytes().starts_with(b"config");
        // A submodule's folder without HEAD is none for git, and is readable all the same.
        if config && (inner.components().count() == 1 || is("modules") || is("worktrees")) {
            return Some(Treatment::Config);
        }
        let data = is("objects") || is("lfs") || inner == Path::new("index");
        (!data).then_some(Treatment::Text)
    }

    /// What stays of a file that [`Self::treatment`] names; `None` if nothing does.
    pub(super) fn clean(
        &mut self,
        path: &Path,
        treatment: Treatment,
        file: impl Read,
    ) -> io::Result<Option<Vec<u8>>> {
        let limit = match treatment {
            Treatment::LeaveOut => return Ok(self.leave_out(path, "the file".to_owned())),
            Treatment::Config => MAX_CONFIG,
            Treatment::Text => MAX_TEXT,
        };
        let mut text = Vec::new();
        file.take(limit + 1).read_to_end(&mut text)?;
        if text.len() as u64 > limit {
            return Ok(self.leave_out(path, format!("the file: it has more than {limit} bytes")));
        }
        if treatment == Treatment::Text {
            let Some(stripped) = strip_user_info(&text, |byte| byte.is_ascii_whitespace()) else {
                return Ok(Some(text));
            };
            self.removed.insert(path.to_owned(), vec!["user info of URLs".to_owned()]);
            return Ok(Some(stripped));
        }
        let config = match git_config::parse(&text) {
            Ok(config) => config,
            Err(error) => {
                let why = format!("the file: it cannot be read as git's configuration, {error}");
                return Ok(self.leave_out(path, why));
            }
        };
        let count = config.entries.len();
        let mut entries = config.entries;
        entries.retain(|entry| !(self.is_moved && keys::is_place(entry)));
        let is_replaced = entries.len() < count;
        let (kept, mut removed) = clean_entries(entries);
        // A comment may hold what was once in force.
        if config.comments {
            removed.push("comments".to_owned());
        }
        if removed.is_empty() && !is_replaced {
            return Ok(Some(text));
        }
        if !removed.is_empty() {
            self.removed.insert(path.to_owned(), removed);
        }
        Ok(Some(git_config::write(&kept)))
    }

    fn leave_out(&mut self, path: &Path, why: String) -> Option<Vec<u8>> {
        self.removed.insert(path.to_owned(), vec![why]);
        None
    }

    fn look(&mut self, root: &Path, path: &Path) {
        if let Some(treatment) = self.treatment(path)
            && let Ok(metadata) = fs::metadata(root.join(path))
            && metadata.is_file()
            && let Ok(file) = fs::File::open(root.join(path))
        {
            let _ = self.clean(path, treatment, file);
        }
    }

    /// Forgets what was removed so far, so that a copy has its own account.
    pub(super) fn start_again(&mut self) {
        self.removed.clear();
    }

    /// A line for each file from which something was removed.
    pub(crate) fn removed(&self) -> Vec<String> {
        self.removed
            .iter()
            .map(|(path, what)| {
                let path = self.place.join(path);
                format!("not in the copy of the workspace: {} ({})", path.display(), what.join(", "))
            })
            .collect()
    }
}

/// The entries that stay, and the names of what does not.
fn clean_entries(entries: Vec<Entry>) -> (Vec<Entry>, Vec<String>) {
    let mut removed = Vec::new();
    let mut kept = Vec::new();
    for mut entry in entries {
        let subsection = entry.section.subsection.as_deref();
        let renamed = subsection.and_then(|name| strip_user_info(name, |_| false));
        let in_name = renamed.is_some();
        if in_name {
            entry.section.subsection = renamed;
        }
        let name = keys::name(&entry);
        match removal(&entry) {
            Removal::Entry => removed.push(name),
            Removal::UserInfo(value) => {
                removed.push(format!("user info of {name}"));
                entry.value = Some(value);
                kept.push(entry);
            }
            Removal::Nothing => {
                if in_name {
                    removed.push(format!("user info in the section of {name}"));
                }
                kept.push(entry);
            }
        }
    }
    (kept, removed)
}

fn read(path: &Path, limit: u64) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    fs::File::open(path).ok()?.take(limit).read_to_end(&mut text).ok()?;
    Some(text)
}

/// Where a path leads, if that is in the folder.
fn below(root: &Path, path: &Path) -> Option<PathBuf> {
    Some(fs::canonicalize(path).ok()?.strip_prefix(root).ok()?.to_owned())
}

/// Where a file can lie that a configuration names: beside it or what it is a link to, or in the working tree.
/// `~` is a home, and a home that matters here is a folder above the workspace.
fn places(root: &Path, path: &Path, real: &Path, named: &[u8]) -> Vec<PathBuf> {
    let named_path = Path::new(OsStr::from_bytes(named));
    if named.first() == Some(&b'~') {
        let rest: PathBuf = named_path.components().skip(1).collect();
        return root.ancestors().map(|home| home.join(&rest)).collect();
    }
    let mut bases: Vec<&Path> =
        [path, real].into_iter().flat_map(|path| path.ancestors().skip(1).take(2)).collect();
    bases.push(Path::new(""));
    bases.dedup();
    bases.into_iter().map(|base| root.join(base).join(named_path)).collect()
}

#[cfg(test)]
mod tests;
