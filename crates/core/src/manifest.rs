//! The operator's files: bottles, agents and settings, parsed, checked, merged.

use std::path::{Path, PathBuf};

use crate::bottle::{EffectiveBottle, Settings};

/// One file as it was read. The caller reads; this crate does no I/O.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Where it lies, for messages and for relative paths in it.
    pub path: PathBuf,
    /// Its text, or why it could not be read.
    pub text: Result<String, String>,
}

/// The files of the operator's home and of the working directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// `~`, for paths that start with it.
    pub home: PathBuf,
    /// `~/.bot-bottle/bottles/*.md`.
    pub bottles: Vec<SourceFile>,
    /// `~/.bot-bottle/agents/*.md`.
    pub home_agents: Vec<SourceFile>,
    /// `<cwd>/.bot-bottle/agents/*.md`.
    pub cwd_agents: Vec<SourceFile>,
    /// `~/.bot-bottle/settings.yml`.
    pub settings: Option<SourceFile>,
    /// Files under the cwd that could carry a boundary (`bottles/`, `settings.yml`): warned about, never read.
    pub ignored: Vec<PathBuf>,
}

/// Every agent and bottle by name, parsed. One broken file does not hide the others.
#[derive(Debug)]
pub struct Manifest {}

/// Everything wrong with what was asked for, each with its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("(being written)")]
pub struct ManifestError {}

impl Manifest {
    /// Parses every file. Files that are broken are reported when something needs them.
    #[must_use]
    pub fn parse(_sources: &Sources) -> Self {
        unimplemented!()
    }

    /// The agent and the one bottle that it runs in: `bottles` if given, else what the agent names.
    ///
    /// # Errors
    /// When the agent, a bottle or a parent is missing or broken; every problem of every file involved together.
    pub fn bottle_for(&self, _agent: &str, _bottles: &[String]) -> Result<EffectiveBottle, ManifestError> {
        unimplemented!()
    }

    /// The operator's settings.
    ///
    /// # Errors
    /// When the file is broken.
    pub fn settings(&self) -> Result<&Settings, ManifestError> {
        unimplemented!()
    }

    /// Warnings that do not stop anything: ignored files, an agent of the home that wins over one of the cwd.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        unimplemented!()
    }
}

/// Where a path that the operator wrote leads: `~` and relative to the file's folder.
#[must_use]
pub fn resolve_path(_written: &str, _file: &Path, _home: &Path) -> PathBuf {
    unimplemented!()
}
