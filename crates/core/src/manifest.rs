//! The operator's files: bottles, agents and settings, parsed, checked, merged.
//!
//! [`Manifest::parse`] takes the text of every file and never fails: the problems of a file are returned by
//! each query that needs the file. A file goes through these steps, one module each: `source` splits it,
//! `yaml` makes a tree that keeps scalars as they were written, the `*_file` modules read the tree with the
//! small readers of `reader`, `layer` merges bottles, and `fold` does so along `extends`. See
//! `docs/manifest.md` for the format.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use serde::Serialize;

use crate::{
    bottle::{Agent, Bottle, EffectiveBottle, Settings},
    identity::is_name,
    suggest::closest,
};

mod agent_file;
mod auth_file;
mod bottle_file;
mod diagnostic;
mod egress_file;
mod fold;
mod git_file;
mod layer;
mod match_file;
mod names;
mod paths;
mod reader;
mod settings_egress;
mod settings_file;
mod source;
mod yaml;

pub use diagnostic::{Diagnostic, MAX_PROBLEMS, ManifestError, Position, Related};
pub use paths::resolve_path;
pub use source::MAX_FILE_BYTES;
pub use yaml::{MAX_DEPTH, MAX_NODES};

use agent_file::AgentFile;
use bottle_file::BottleFile;
use reader::Reader;
use source::{SourceText, quoted, shown_path};

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
    /// Files under the cwd that could carry a boundary (`bottles/`, `settings.yml`): warned about, never
    /// read.
    pub ignored: Vec<PathBuf>,
}

/// Every agent and bottle by name, parsed. One broken file does not hide the others.
#[derive(Debug)]
pub struct Manifest {
    bottles: BTreeMap<String, Parsed<BottleFile>>,
    agents: BTreeMap<String, (AgentOrigin, Parsed<AgentFile>)>,
    settings: Parsed<Settings>,
    warnings: Vec<String>,
}

/// The folder of an agent's file, from which follows who may have written it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentOrigin {
    /// `~/.bot-bottle/agents/`: the operator.
    Home,
    /// `<cwd>/.bot-bottle/agents/`: the authors of a cloned repository.
    Cwd,
}

/// An agent, for lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AgentSummary {
    /// The file's stem.
    pub name: String,
    /// Whose file it is.
    pub origin: AgentOrigin,
    /// The file.
    pub path: PathBuf,
    /// The bottles that it names; empty: chosen at launch.
    pub bottles: Vec<String>,
    /// Why it cannot be started: problems of its own file and of the bottles that it names.
    pub error: Option<ManifestError>,
}

/// A bottle, for lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BottleSummary {
    /// The file's stem.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Its direct parents.
    pub extends: Vec<String>,
    /// Why it cannot be used alone: problems of its own file and of its parents.
    pub error: Option<ManifestError>,
}

/// A parsed file with its problems.
#[derive(Debug)]
struct Parsed<T> {
    path: PathBuf,
    value: T,
    diagnostics: Vec<Diagnostic>,
}

impl Manifest {
    /// Parses every file. Files that are broken are reported when something needs them.
    #[must_use]
    pub fn parse(sources: &Sources) -> Self {
        let mut warnings: Vec<String> = sources.ignored.iter().map(|path| ignored_warning(path)).collect();
        let home = sources.home.as_path();
        let mut bottles = BTreeMap::new();
        for (name, file) in named(&sources.bottles, &mut warnings) {
            bottles.entry(name).or_insert_with(|| parse_bottle(file, home));
        }
        let mut agents: BTreeMap<String, (AgentOrigin, Parsed<AgentFile>)> = BTreeMap::new();
        for (name, file) in named(&sources.home_agents, &mut warnings) {
            let parsed = parse_agent(&name, file, home);
            agents.entry(name).or_insert((AgentOrigin::Home, parsed));
        }
        for (name, file) in named(&sources.cwd_agents, &mut warnings) {
            if let Some((AgentOrigin::Home, of_home)) = agents.get(&name) {
                warnings.push(format!(
                    "the agent `{name}` is {}; {} has the same name and is not used",
                    shown_path(&of_home.path),
                    shown_path(&file.path)
                ));
                continue;
            }
            let parsed = parse_agent(&name, file, home);
            agents.entry(name).or_insert((AgentOrigin::Cwd, parsed));
        }
        let settings = sources.settings.as_ref().map(|file| parse_settings(file, home));
        let absent = || Parsed { path: PathBuf::new(), value: Settings::default(), diagnostics: Vec::new() };
        Self { bottles, agents, settings: settings.unwrap_or_else(absent), warnings }
    }

    /// The agent and the one bottle that it runs in, folded from `bottles` if any are given, else from those
    /// that the agent names.
    ///
    /// # Errors
    /// When the agent, a bottle or a parent is missing or broken; every problem of every file involved
    /// together.
    pub fn bottle_for(&self, agent: &str, bottles: &[String]) -> Result<EffectiveBottle, ManifestError> {
        let (_, file) = self.agent_file(agent)?;
        let mut diagnostics = file.diagnostics.clone();
        let wanted: Vec<fold::Wanted<'_>> = if bottles.is_empty() {
            file.value.bottles.iter().map(|(name, at)| fold::Wanted { name, at: Some(at) }).collect()
        } else {
            bottles.iter().map(|name| fold::Wanted { name, at: None }).collect()
        };
        if wanted.is_empty() && diagnostics.is_empty() {
            let message = format!("the agent `{agent}` names no bottle, and none was chosen");
            let hint =
                format!("choose one with `--bottle`{}, or write `bottle: …` in its file", self.there_are());
            diagnostics.push(Diagnostic::without_position(Some(file.path.clone()), message).hint(hint));
        }
        let (bottle, problems) = self.fold(&wanted);
        diagnostics.extend(problems);
        if !diagnostics.is_empty() {
            return Err(ManifestError { diagnostics });
        }
        let agent = file.value.agent.clone();
        // Nothing else of an agent's file changes the bottle: it may come from a cloned repository.
        let user = bottle.git.user.clone().overlaid(agent.git_user.clone());
        let git = crate::bottle::GitSettings { user, ..bottle.git };
        let bottle_names = fold::names_once(&wanted);
        Ok(EffectiveBottle { agent, bottle_names, bottle: Bottle { git, ..bottle } })
    }

    /// One bottle from several, folded left to right, without an agent.
    ///
    /// # Errors
    /// When a bottle or a parent is missing or broken; every problem of every file involved together.
    pub fn fold_bottles(&self, bottles: &[String]) -> Result<Bottle, ManifestError> {
        let wanted: Vec<_> = bottles.iter().map(|name| fold::Wanted { name, at: None }).collect();
        let (bottle, diagnostics) = self.fold(&wanted);
        if diagnostics.is_empty() { Ok(bottle) } else { Err(ManifestError { diagnostics }) }
    }

    /// The agent's own file, without a bottle.
    ///
    /// # Errors
    /// When there is no such agent or its file is broken.
    pub fn agent(&self, name: &str) -> Result<&Agent, ManifestError> {
        let (_, file) = self.agent_file(name)?;
        file.usable().map(|file| &file.agent)
    }

    /// Every agent by name, the broken ones too.
    #[must_use]
    pub fn agents(&self) -> Vec<AgentSummary> {
        let summary = |(name, (origin, file)): (&String, &(AgentOrigin, Parsed<AgentFile>))| {
            let bottles = file.value.agent.bottles.clone();
            let error =
                if bottles.is_empty() { file.usable().err() } else { self.bottle_for(name, &[]).err() };
            AgentSummary { name: name.clone(), origin: *origin, path: file.path.clone(), bottles, error }
        };
        self.agents.iter().map(summary).collect()
    }

    /// Every bottle by name, the broken ones too.
    #[must_use]
    pub fn bottles(&self) -> Vec<BottleSummary> {
        let summary = |(name, file): (&String, &Parsed<BottleFile>)| BottleSummary {
            name: name.clone(),
            path: file.path.clone(),
            extends: file.value.extends.iter().map(|(name, _)| name.clone()).collect(),
            error: self.fold_bottles(std::slice::from_ref(name)).err(),
        };
        self.bottles.iter().map(summary).collect()
    }

    /// The operator's settings.
    ///
    /// # Errors
    /// When the file is broken.
    pub fn settings(&self) -> Result<&Settings, ManifestError> {
        self.settings.usable()
    }

    /// Warnings that do not stop anything: ignored files, an agent of the home that wins over one of the cwd.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn agent_file(&self, name: &str) -> Result<&(AgentOrigin, Parsed<AgentFile>), ManifestError> {
        self.agents.get(name).ok_or_else(|| {
            let names = || self.agents.keys().map(String::as_str);
            let hint = match closest(name, names()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None if self.agents.is_empty() => {
                    "there is none yet: `bot-bottle init` writes a first one".to_owned()
                }
                None => format!("there are {}", listed(names())),
            };
            let message = format!("there is no agent {}", quoted(name));
            Diagnostic::without_position(None, message).hint(hint).into()
        })
    }

    /// `; there are `a` and `b``, or nothing.
    fn there_are(&self) -> String {
        if self.bottles.is_empty() {
            return String::new();
        }
        format!(" (there are {})", listed(self.bottles.keys().map(String::as_str)))
    }
}

impl<T> Parsed<T> {
    fn usable(&self) -> Result<&T, ManifestError> {
        if self.diagnostics.is_empty() {
            return Ok(&self.value);
        }
        Err(ManifestError { diagnostics: self.diagnostics.clone() })
    }
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn ignored_warning(path: &Path) -> String {
    format!(
        "{} is not read: bottles and settings come from the home alone, so that a cloned repository cannot set \
         its own boundary",
        shown_path(path)
    )
}

/// The files whose stem is a name.
fn named<'f>(files: &'f [SourceFile], warnings: &mut Vec<String>) -> Vec<(String, &'f SourceFile)> {
    let mut found = Vec::new();
    for file in files {
        match file.path.file_stem().and_then(|stem| stem.to_str()).filter(|stem| is_name(stem)) {
            Some(stem) => found.push((stem.to_owned(), file)),
            None => warnings.push(format!(
                "{} is not read: names are lower-case letters, digits and `-`, begin with a letter, and have at \
                 most 64 characters",
                shown_path(&file.path)
            )),
        }
    }
    found
}

fn parse_bottle(file: &SourceFile, home: &Path) -> Parsed<BottleFile> {
    parse_file(file, home, |reader, text| {
        let (root, _) = frontmatter(reader, text)?;
        Some(bottle_file::read(reader, &root))
    })
}

fn parse_agent(name: &str, file: &SourceFile, home: &Path) -> Parsed<AgentFile> {
    let parsed = parse_file(file, home, |reader, text| {
        let (root, body) = frontmatter(reader, text)?;
        Some(Some(agent_file::read(reader, &root, name, body)))
    });
    let unread =
        || AgentFile { agent: Agent { name: name.to_owned(), ..Agent::default() }, bottles: Vec::new() };
    Parsed { path: parsed.path, value: parsed.value.unwrap_or_else(unread), diagnostics: parsed.diagnostics }
}

fn parse_settings(file: &SourceFile, home: &Path) -> Parsed<Settings> {
    parse_file(file, home, |reader, text| {
        let bom = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        let document = yaml::parse(&text[bom..], bom);
        reader.problems.extend(document.problems);
        Some(settings_file::read(reader, &document.root?))
    })
}

fn frontmatter<'t>(reader: &mut Reader, text: &'t str) -> Option<(yaml::Node, &'t str)> {
    let split = match source::split(text) {
        Ok(split) => split,
        Err(problem) => {
            reader.report(problem);
            return None;
        }
    };
    let document = yaml::parse(split.yaml, split.offset);
    reader.problems.extend(document.problems);
    Some((document.root?, split.body))
}

fn parse_file<T: Default>(
    file: &SourceFile,
    home: &Path,
    read: impl FnOnce(&mut Reader, &str) -> Option<T>,
) -> Parsed<T> {
    let unusable = |message: String, hint: &str| Parsed {
        path: file.path.clone(),
        value: T::default(),
        diagnostics: vec![Diagnostic::without_position(Some(file.path.clone()), message).hint(hint)],
    };
    let text = match &file.text {
        Err(why) => {
            let why: String = why.chars().map(source::printable).collect();
            return unusable(
                format!("the file cannot be read: {why}"),
                "check that it is text and yours to read",
            );
        }
        Ok(text) if text.len() > MAX_FILE_BYTES => {
            let message = format!("the file has {} bytes, and at most {MAX_FILE_BYTES} are read", text.len());
            return unusable(message, "keep long texts in a skill or in the workspace");
        }
        Ok(text) => text,
    };
    let source = Arc::new(SourceText {
        path: file.path.clone(),
        home: home.to_owned(),
        text: text.clone(),
        shown: OnceLock::new(),
    });
    let mut reader = Reader { source: Arc::clone(&source), problems: Vec::new() };
    let value = read(&mut reader, text).unwrap_or_default();
    let mut problems = reader.problems;
    let concealed: Vec<_> = problems.iter().filter_map(diagnostic::Problem::concealed_span).collect();
    source.conceal(&concealed);
    problems.sort_by_key(diagnostic::Problem::start);
    let untold = problems.len().saturating_sub(MAX_PROBLEMS);
    let mut diagnostics: Vec<Diagnostic> =
        problems.into_iter().take(MAX_PROBLEMS).map(|problem| problem.into_diagnostic(&source)).collect();
    if untold > 0 {
        let message = format!("there are {untold} more problems in this file");
        diagnostics.push(Diagnostic::without_position(Some(file.path.clone()), message));
    }
    Parsed { path: file.path.clone(), value, diagnostics }
}
