//! What is kept of runs: whose work it is, how old, and whether somebody has fetched it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use bot_bottle_core::{
    baseline::Baseline, error::IoContext, identity::Identity, limits::ByteSize, plan::BottlePlan,
};
use serde::{Deserialize, Serialize};

use crate::{
    agent_folder::AgentFolder,
    home::BotBottleHome,
    inspect::InspectError,
    resource::replace,
    state::{self, Format, StartRecord},
};

/// Its name in the folder of a run.
pub(crate) const FETCHED_FILE: &str = "fetched.json";

/// A run with something that its agent made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KeptRun {
    /// Whose.
    pub identity: Identity,
    /// Whether its bottle runs.
    pub is_running: bool,
    /// Its bottles; empty for one without a manifest.
    pub bottles: Vec<String>,
    /// The operator's folder of which its workspace was a copy.
    pub folder: Option<PathBuf>,
    /// When its agent started.
    pub started: Option<SystemTime>,
    /// Bytes of its workspace and home on the disk; `None` where they cannot be measured.
    pub size: Option<ByteSize>,
    /// Whether its work was fetched.
    pub fetched: FetchState,
}

/// Whether the work of a run was brought out of it, whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FetchState {
    /// It is nowhere else.
    Never,
    /// While the bottle ran, so that what the agent did afterwards is nowhere else.
    WhileRunning,
    /// After its end.
    Fetched,
}

#[derive(Debug, Serialize, Deserialize)]
struct Fetched {
    /// Whether the bottle was running when it was fetched.
    while_running: bool,
}

impl FetchState {
    pub(crate) fn of(run: &Path) -> Self {
        // What cannot be read was not written whole, or not by this version.
        let read = fs::read(run.join(FETCHED_FILE)).ok();
        match read.and_then(|text| serde_json::from_slice::<Fetched>(&text).ok()) {
            None => Self::Never,
            Some(Fetched { while_running: true }) => Self::WhileRunning,
            Some(Fetched { while_running: false }) => Self::Fetched,
        }
    }
}

/// The runs with something that their agents made, or may still make, by name. Those of newer versions are
/// left out.
///
/// # Errors
/// When the state directory cannot be read.
pub fn list(home: &BotBottleHome) -> io::Result<Vec<KeptRun>> {
    let mut runs = Vec::new();
    for run in state::folders(home)? {
        let Some(identity) = state::identity_of(&run) else { continue };
        let is_running = state::is_alive(&run)?;
        if Format::of(&run)? != Format::Current
            || !is_running && !state::has_work(&run, state::Outcome::Worked)
        {
            continue;
        }
        // A bottle that starts has no plan yet.
        let plan = read_plan(&run).ok();
        let size = AgentFolder::of(&run).size().ok().flatten().map(ByteSize);
        runs.push(KeptRun {
            identity,
            is_running,
            bottles: plan.as_ref().map(|plan| plan.bottle_names.clone()).unwrap_or_default(),
            folder: plan.and_then(|plan| plan.workspace),
            started: fs::metadata(run.join(state::START_FILE)).and_then(|file| file.modified()).ok(),
            size,
            fetched: FetchState::of(&run),
        });
    }
    Ok(runs)
}

/// The plan that a run was started with.
pub(crate) fn read_plan(run: &Path) -> io::Result<BottlePlan> {
    Ok(serde_json::from_slice(&fs::read(run.join(state::PLAN_FILE))?)?)
}

/// What the workspace of a run was when its agent started.
///
/// # Errors
/// When nothing is kept of it.
pub fn baseline(home: &BotBottleHome, run: &Identity) -> Result<Baseline, InspectError> {
    let path = home.run(run);
    if !path.is_dir() {
        return Err(InspectError::NoSuchRun(run.clone()));
    }
    let record = StartRecord::read(&path).io_context(|| format!("reading what is known of {run}"))?;
    record.map(|record| record.baseline).ok_or_else(|| InspectError::NothingKept(run.clone()))
}

/// Records that all work of a run was brought out, so that `cleanup` may remove it.
///
/// # Errors
/// When that cannot be written; the work then counts as never fetched.
pub fn mark_fetched(home: &BotBottleHome, run: &Identity) -> io::Result<()> {
    let path = home.run(run);
    let fetched = Fetched { while_running: state::is_alive(&path)? };
    replace(&path.join(FETCHED_FILE), &serde_json::to_vec(&fetched)?)
}
