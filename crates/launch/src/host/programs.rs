//! Agent programs: where `provider install` puts them, and where else they may lie.

use std::{
    borrow::Cow,
    ffi::OsStr,
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use bot_bottle_core::error::Hint;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::home::BotBottleHome;

/// An agent program on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundProgram {
    /// What has to be mounted: the folder of an installed package, or one file.
    pub source: PathBuf,
    /// The executable in `source`, relative; empty where `source` is the executable itself.
    pub executable: PathBuf,
    /// Executables that have to lie beside it, where `source` is the executable itself.
    pub companions: Vec<PathBuf>,
    /// As the package says; `None` for a program of the host.
    pub version: Option<String>,
}

/// An agent program that is looked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Its name.
    pub name: &'a str,
    /// The installed version; any where it is `None`.
    pub version: Option<&'a str>,
    /// Names of the executables beside it without which it does not work.
    pub companions: &'a [&'a str],
}

/// `manifest.json` beside the unpacked package, in `providers/<name>/<version>/`.
///
/// The install command unpacks into `package/` beside it, and writes this file last: a folder without it is
/// an installation that did not finish, and is not looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramManifest {
    /// Version of the package.
    pub version: String,
    /// Subresource integrity of the archive that was unpacked.
    pub integrity: String,
    /// What is mounted, relative to the folder of this file.
    pub root: PathBuf,
    /// The executable, relative to `root`.
    pub executable: PathBuf,
}

/// Name of the file that says that an installation is whole.
pub const MANIFEST_FILE: &str = "manifest.json";

/// Largest `manifest.json` that is read, in bytes.
const MAX_MANIFEST_BYTES: u64 = 64 << 10;

/// Why a program is not there.
#[derive(Debug, Error)]
pub enum ProgramError {
    /// Neither installed nor on the host.
    #[error("the agent program `{0}` is not installed")]
    NotFound(String),
    /// The program on the host is a script, which needs more files than itself.
    #[error("`{}` is not a program that can be mounted alone: it is a script, not an ELF file", .path.display())]
    NotElf {
        /// The agent program.
        name: String,
        /// What was found.
        path: PathBuf,
    },
    /// The program on the host lacks a companion.
    #[error("`{}` cannot be used: it needs `{companion}` beside it", .path.display())]
    Incomplete {
        /// The agent program.
        name: String,
        /// What was found.
        path: PathBuf,
        /// What is missing.
        companion: String,
    },
    /// The cache is damaged.
    #[error("the installation of `{name}` in {} cannot be used: {why}", .path.display())]
    Damaged {
        /// The agent program.
        name: String,
        /// Its folder.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl Hint for ProgramError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        let (Self::NotFound(name)
        | Self::NotElf { name, .. }
        | Self::Incomplete { name, .. }
        | Self::Damaged { name, .. }) = self;
        Some(format!("run `bot-bottle provider install {name}`").into())
    }
}

/// Finds an agent program: in the cache, else an ELF file of that name in the folders of `search_path` (the
/// operator's `PATH`). Of those the program and its companions are mounted, and never their folder, which may
/// hold other files of the operator.
///
/// # Errors
/// See [`ProgramError`].
pub fn find(
    home: &BotBottleHome,
    Wanted { name, version, companions }: Wanted<'_>,
    search_path: &OsStr,
) -> Result<FoundProgram, ProgramError> {
    if let Some(found) = installed(home, name, version)? {
        return Ok(found);
    }
    let mut script = None;
    for folder in std::env::split_paths(search_path).filter(|folder| folder.is_absolute()) {
        let Ok(path) = fs::canonicalize(folder.join(name)) else { continue };
        if is_elf(&path) {
            let companions = companions_of(name, &path, companions)?;
            return Ok(FoundProgram { source: path, executable: PathBuf::new(), companions, version: None });
        }
        script.get_or_insert(path);
    }
    Err(match script {
        Some(path) => ProgramError::NotElf { name: name.to_owned(), path },
        None => ProgramError::NotFound(name.to_owned()),
    })
}

fn companions_of(name: &str, path: &Path, companions: &[&str]) -> Result<Vec<PathBuf>, ProgramError> {
    let find = |companion: &&str| {
        let found = fs::canonicalize(path.with_file_name(companion)).ok().filter(|found| is_elf(found));
        found.ok_or_else(|| ProgramError::Incomplete {
            name: name.to_owned(),
            path: path.to_owned(),
            companion: (*companion).to_owned(),
        })
    };
    companions.iter().map(find).collect()
}

fn installed(
    home: &BotBottleHome,
    name: &str,
    version: Option<&str>,
) -> Result<Option<FoundProgram>, ProgramError> {
    let folder = home.providers().join(name);
    let mut versions: Vec<PathBuf> = match version {
        Some(version) => vec![folder.join(version)],
        None => fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect(),
    };
    versions.retain(|path| path.join(MANIFEST_FILE).is_file());
    // Sorted, so that the same one is chosen each time.
    versions.sort();
    let Some(path) = versions.pop() else { return Ok(None) };
    read_installation(&path).map(Some).map_err(|why| ProgramError::Damaged {
        name: name.to_owned(),
        path,
        why,
    })
}

fn read_installation(folder: &Path) -> Result<FoundProgram, String> {
    let mut text = String::new();
    File::open(folder.join(MANIFEST_FILE))
        .and_then(|file| file.take(MAX_MANIFEST_BYTES).read_to_string(&mut text))
        .map_err(|error| error.to_string())?;
    let manifest: ProgramManifest = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let base = fs::canonicalize(folder).map_err(|error| error.to_string())?;
    let source = fs::canonicalize(base.join(&manifest.root)).map_err(|error| error.to_string())?;
    let executable =
        fs::canonicalize(source.join(&manifest.executable)).map_err(|error| error.to_string())?;
    if !source.starts_with(&base) || !executable.starts_with(&source) {
        return Err("it points out of its folder".to_owned());
    }
    if !is_elf(&executable) {
        return Err(format!("`{}` is not an ELF file", executable.display()));
    }
    let executable = executable.strip_prefix(&source).map_err(|error| error.to_string())?.to_owned();
    Ok(FoundProgram { source, executable, companions: Vec::new(), version: Some(manifest.version) })
}

fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    path.is_file()
        && File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok()
        && &magic == b"\x7fELF"
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn write(path: &Path, content: &[u8]) {
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, content).expect("a file");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
    }

    fn wanted(version: Option<&str>) -> Wanted<'_> {
        Wanted { name: "agent", version, companions: &[] }
    }

    #[test]
    fn a_program_of_the_host_comes_with_its_companions_or_not_at_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = BotBottleHome::new(folder.path().join("home"));
        let path = folder.path().join("bin");
        write(&path.join("agent"), b"\x7fELF and more");
        write(&path.join("other"), b"\x7fELF and more");
        let wanted = Wanted { companions: &["agent-host"], ..wanted(None) };
        let error = find(&home, wanted, path.as_os_str()).expect_err("alone");
        assert!(error.to_string().ends_with("it needs `agent-host` beside it"), "{error}");
        assert_eq!(error.hint().as_deref(), Some("run `bot-bottle provider install agent`"));
        write(&path.join("agent-host"), b"\x7fELF and more");
        let found = find(&home, wanted, path.as_os_str()).expect("whole");
        assert_eq!(found.companions, [fs::canonicalize(path.join("agent-host")).expect("it is there")]);
    }

    #[test]
    fn an_installation_wins_and_a_script_is_no_program() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = BotBottleHome::new(folder.path().join("home"));
        let path = folder.path().join("bin");
        let missing = find(&home, wanted(None), path.as_os_str()).expect_err("nothing there");
        assert_eq!(missing.to_string(), "the agent program `agent` is not installed");
        assert_eq!(missing.hint().as_deref(), Some("run `bot-bottle provider install agent`"));

        write(&path.join("agent"), b"#!/bin/sh\n");
        let script = find(&home, wanted(None), path.as_os_str()).expect_err("a script");
        assert!(matches!(script, ProgramError::NotElf { .. }), "{script}");

        write(&path.join("agent"), b"\x7fELF and more");
        let host = find(&home, wanted(None), path.as_os_str()).expect("the host's");
        assert_eq!(host.executable, PathBuf::new());

        let version = home.providers().join("agent/1.2.3");
        write(&version.join("package/bin/agent"), b"\x7fELF and more");
        assert_eq!(find(&home, wanted(None), path.as_os_str()).expect("still the host's"), host);
        write(
            &version.join(MANIFEST_FILE),
            br#"{"version":"1.2.3","integrity":"sha512-x","root":"package","executable":"bin/agent"}"#,
        );
        let installed = find(&home, wanted(Some("1.2.3")), path.as_os_str()).expect("the installed one");
        assert_eq!(installed.executable, PathBuf::from("bin/agent"));
        assert_eq!(installed.version.as_deref(), Some("1.2.3"));
    }

    #[test]
    fn an_installation_that_points_out_of_itself_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = BotBottleHome::new(folder.path());
        let version = home.providers().join("agent/1");
        write(&folder.path().join("elsewhere/agent"), b"\x7fELF");
        write(
            &version.join(MANIFEST_FILE),
            br#"{"version":"1","integrity":"","root":"../../../elsewhere","executable":"agent"}"#,
        );
        let error = find(&home, wanted(None), OsStr::new("")).expect_err("outside");
        assert!(error.to_string().ends_with("it points out of its folder"), "{error}");
    }
}
