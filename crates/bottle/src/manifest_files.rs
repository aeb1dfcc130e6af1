//! Reads the operator's files for `core`, which does no I/O.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use bot_bottle_core::manifest::{Manifest, SourceFile, Sources};

use crate::{exit::CommandError, system};

/// Reads every bottle, agent and setting that applies in the working directory.
pub(crate) fn load() -> Result<Manifest, CommandError> {
    let home = system::bot_bottle_home()?;
    let local = system::working_directory()?.join(".bot-bottle");
    // In the home directory itself, `<cwd>/.bot-bottle` is the operator's own folder and must not be read as
    // local.
    let local = if same_folder(&home, &local) { None } else { Some(local) };
    let sources = Sources {
        home: system::home()?,
        bottles: markdown_files(&home.join("bottles")),
        home_agents: markdown_files(&home.join("agents")),
        cwd_agents: local.as_deref().map(|local| markdown_files(&local.join("agents"))).unwrap_or_default(),
        settings: Some(home.join("settings.yml")).filter(|path| exists(path)).map(read),
        ignored: local
            .iter()
            .flat_map(|local| [local.join("bottles"), local.join("settings.yml")])
            .filter(|path| exists(path))
            .collect(),
    };
    Ok(Manifest::parse(&sources))
}

fn same_folder(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Every `*.md` of a folder, by name. A missing folder has none. An unreadable folder is returned as one
/// unreadable file, so that a query that needs it reports the problem.
fn markdown_files(folder: &Path) -> Vec<SourceFile> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => return vec![SourceFile { path: folder.to_owned(), text: Err(error.to_string()) }],
    };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    paths.sort();
    paths.into_iter().map(read).collect()
}

fn read(path: PathBuf) -> SourceFile {
    let text = fs::metadata(&path)
        .and_then(|metadata| {
            if metadata.is_file() {
                fs::read_to_string(&path)
            } else {
                Err(io::Error::other("not a regular file"))
            }
        })
        .map_err(|error| error.to_string());
    SourceFile { path, text }
}
