//! What is kept of runs: whose work it is, how old, and whether somebody has fetched it.

use std::{
    borrow::Cow,
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use bot_bottle_core::{
    bottle::BackendName,
    error::{Hint, IoContext, IoError},
    identity::Identity,
    limits::ByteSize,
    plan::BottlePlan,
    work::{Baseline, FileTime},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    agent_folder::AgentFolder,
    error::StillRunning,
    files::changes::change_time,
    home::BotBottleHome,
    request::{Kept, ResumableAgent},
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
    /// Whether its agent made anything in its workspace.
    pub has_work: bool,
    /// Whether that was fetched.
    pub fetched: FetchState,
    /// Whether its conversation can go on.
    pub has_conversation: bool,
}

/// Whether the work of a run was brought out of it, whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FetchState {
    /// It is nowhere else.
    Never,
    /// While the bottle ran, so that what the agent did afterwards is nowhere else.
    WhileRunning,
    /// After its end, but something of it was left out.
    InPart,
    /// After its end.
    Fetched,
}

#[derive(Debug, Serialize, Deserialize)]
struct Fetched {
    /// Whether the bottle was running when it was fetched.
    while_running: bool,
    /// Whether something was left out.
    #[serde(default)]
    in_part: bool,
}

impl FetchState {
    pub(crate) fn of(run: &Path) -> Self {
        // What cannot be read was not written whole, or not by this version.
        let read = fs::read(run.join(FETCHED_FILE)).ok();
        match read.and_then(|text| serde_json::from_slice::<Fetched>(&text).ok()) {
            None => Self::Never,
            Some(Fetched { while_running: true, .. }) => Self::WhileRunning,
            Some(Fetched { in_part: true, .. }) => Self::InPart,
            Some(Fetched { .. }) => Self::Fetched,
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
        if Format::of(&run)? != Format::Current {
            continue;
        }
        let kept = state::kept(&run, state::Outcome::Worked);
        if !is_running && kept == Kept::default() {
            continue;
        }
        // A bottle that starts has no plan yet.
        let plan = read_plan(&run).ok();
        let size = AgentFolder::size_of_run(&run);
        runs.push(KeptRun {
            identity,
            is_running,
            bottles: plan.as_ref().map(|plan| plan.bottle_names.clone()).unwrap_or_default(),
            folder: plan.and_then(|plan| plan.workspace),
            started: fs::metadata(run.join(state::START_FILE)).and_then(|file| file.modified()).ok(),
            size,
            has_work: kept.work,
            fetched: FetchState::of(&run),
            has_conversation: kept.conversation,
        });
    }
    Ok(runs)
}

/// What a run needs to go on.
#[derive(Debug)]
pub struct Resumable {
    /// As it was started.
    pub plan: BottlePlan,
    /// Who runs.
    pub agent: ResumableAgent,
}

/// Why there is nothing of a run that could be looked at, or go on.
#[derive(Debug, Error)]
pub enum NotKept {
    /// No such run.
    #[error("there is no run called {0}")]
    NoSuchRun(Identity),
    /// Another version keeps other things, and elsewhere.
    #[error("{0} was made by another version of bot-bottle, which keeps an agent's work in another way")]
    OtherVersion(Identity),
    /// Its agent wrote nothing, or never started.
    #[error("nothing is kept of {0}: its agent wrote nothing to its workspace")]
    NothingKept(Identity),
    /// The system said no.
    #[error(transparent)]
    System(#[from] IoError),
}

impl Hint for NotKept {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::NoSuchRun(_) => "`bot-bottle list runs` shows them".into(),
            Self::OtherVersion(run) => {
                format!("use that version; an older one keeps the work in state/{run}/workspace").into()
            }
            Self::NothingKept(_) => return None,
            Self::System(error) => return error.hint(),
        })
    }
}

/// Finds a run whose agent started, by the absolute path of its folder, without links, and the record of that start.
///
/// # Errors
/// When there is none of that name, another version made it, or no program ever ran.
pub(crate) fn find(home: &BotBottleHome, run: &Identity) -> Result<(PathBuf, StartRecord), NotKept> {
    let path = folder(home, run)?;
    let looking = || format!("looking at {}", path.display());
    let record = StartRecord::read(&path).io_context(looking)?;
    let record = record.ok_or_else(|| NotKept::NothingKept(run.clone()))?;
    Ok((fs::canonicalize(&path).io_context(looking)?, record))
}

/// The folder of a run that this version has made.
fn folder(home: &BotBottleHome, run: &Identity) -> Result<PathBuf, NotKept> {
    let path = home.run(run);
    if !path.is_dir() {
        return Err(NotKept::NoSuchRun(run.clone()));
    }
    match Format::of(&path).io_context(|| format!("looking at {}", path.display()))? {
        Format::Current => Ok(path),
        _ => Err(NotKept::OtherVersion(run.clone())),
    }
}

/// Why a run cannot go on.
#[derive(Debug, Error)]
pub enum ResumeError {
    /// There is nothing of it.
    #[error(transparent)]
    NotKept(#[from] NotKept),
    /// It has not ended.
    #[error(transparent)]
    Running(#[from] StillRunning),
    /// Nothing to go on with.
    #[error("{0} has no conversation that could go on")]
    NoConversation(Identity),
    /// The system said no.
    #[error(transparent)]
    System(#[from] IoError),
}

impl Hint for ResumeError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::NotKept(error) => error.hint(),
            Self::Running(error) => error.hint(),
            Self::NoConversation(run) => {
                Some(format!("`bot-bottle diff {run}` shows what there is of its work").into())
            }
            Self::System(error) => error.hint(),
        }
    }
}

/// Reads what a run needs to go on.
///
/// # Errors
/// See [`ResumeError`].
pub fn resumable(home: &BotBottleHome, run: &Identity) -> Result<Resumable, ResumeError> {
    let (path, _) = find(home, run)?;
    let reading = || format!("reading {}", path.display());
    if state::is_alive(&path).io_context(reading)? {
        return Err(StillRunning(run.clone()).into());
    }
    let agent = state::read_agent(&path).io_context(reading)?.filter(|_| state::has_conversation(&path));
    let agent = agent.ok_or_else(|| ResumeError::NoConversation(run.clone()))?;
    Ok(Resumable { plan: read_plan(&path).io_context(reading)?, agent })
}

/// What is known of a run, while it runs and afterwards.
#[derive(Debug, Serialize)]
pub struct RunDescription {
    /// Whether it runs.
    pub is_running: bool,
    /// The SHA-256 fingerprint of its CA, as colon-separated upper-case hex, while it runs.
    pub ca_fingerprint: Option<String>,
    /// What it was started with.
    pub plan: BottlePlan,
}

/// Describes a run.
///
/// # Errors
/// When there is none of that name, or nothing is kept of it but receipts.
pub fn describe(home: &BotBottleHome, run: &Identity) -> Result<RunDescription, NotKept> {
    let path = folder(home, run)?;
    let looking = || format!("looking at {}", path.display());
    let plan = match read_plan(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(NotKept::NothingKept(run.clone()));
        }
        plan => plan.io_context(looking)?,
    };
    let fingerprint = fs::read_to_string(path.join(state::CA_FINGERPRINT_FILE)).ok();
    Ok(RunDescription {
        is_running: state::is_alive(&path).io_context(looking)?,
        ca_fingerprint: fingerprint.map(|line| line.trim_end().to_owned()),
        plan,
    })
}

/// The plan that a run was started with.
pub(crate) fn read_plan(run: &Path) -> io::Result<BottlePlan> {
    Ok(serde_json::from_slice(&fs::read(run.join(state::PLAN_FILE))?)?)
}

/// How the work of a run is looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkOrigin {
    /// What the workspace was when the agent started.
    pub baseline: Baseline,
    /// How its bottle was made, and how those are that look at it.
    pub backend: BackendName,
}

/// Where the work of a run comes from.
///
/// # Errors
/// When nothing is kept of it.
pub fn origin(home: &BotBottleHome, run: &Identity) -> Result<WorkOrigin, NotKept> {
    let (path, record) = find(home, run)?;
    let backend = read_plan(&path).io_context(|| format!("reading what is known of {run}"))?.backend;
    Ok(WorkOrigin { baseline: record.baseline, backend })
}

/// What a run was when somebody began to fetch its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchBegin {
    /// When its plan was written, which is done at each of its beginnings.
    planned: Option<FileTime>,
    is_running: bool,
}

impl FetchBegin {
    /// To be called before the work is looked at: a bottle may end, or go on, while it is.
    ///
    /// # Errors
    /// When it cannot be found out whether the run is running.
    pub fn of(home: &BotBottleHome, run: &Identity) -> io::Result<Self> {
        let path = home.run(run);
        let planned = rustix::fs::stat(path.join(state::PLAN_FILE)).ok().map(|stat| change_time(&stat));
        Ok(Self { planned, is_running: state::is_alive(&path)? })
    }
}

/// Records that the work of a run was brought out, so that `cleanup` may remove it if it was all of it.
///
/// # Errors
/// When that cannot be written; the work then counts as never fetched.
pub fn mark_fetched(
    home: &BotBottleHome,
    run: &Identity,
    begin: &FetchBegin,
    is_whole: bool,
) -> io::Result<()> {
    let path = home.run(run);
    // No run goes on while this is held; one that does later removes the mark.
    let _registry = state::lock_registry(home)?;
    // What was fetched once stays fetched; a run that goes on has no such file any more.
    if FetchState::of(&path) == FetchState::Fetched {
        return Ok(());
    }
    let while_running = begin.is_running || FetchBegin::of(home, run)? != *begin;
    let fetched = Fetched { while_running, in_part: !is_whole };
    replace(&path.join(FETCHED_FILE), &serde_json::to_vec(&fetched)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::RunDirectory;

    #[test]
    fn what_ends_or_goes_on_while_it_is_fetched_is_not_fetched_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = BotBottleHome::new(folder.path());
        let run: Identity = "agent-aaaaa".parse().expect("an identity");
        let directory = RunDirectory::create(&home, &run).expect("made");
        let path = directory.path().to_owned();
        fs::write(path.join(state::PLAN_FILE), "{}").expect("written");
        let begin = || FetchBegin::of(&home, &run).expect("looked");
        let running = begin();
        drop(directory);
        let ended = begin();
        let marked = |begin: &FetchBegin, is_whole| {
            mark_fetched(&home, &run, begin, is_whole).expect("marked");
            FetchState::of(&path)
        };
        assert_eq!(marked(&running, true), FetchState::WhileRunning);
        assert_eq!(marked(&ended, false), FetchState::InPart);
        // It went on and ended again, which a later tick of the clock tells.
        let before = begin();
        while begin() == before {
            fs::write(path.join(state::PLAN_FILE), "{}").expect("written");
        }
        assert_eq!(marked(&before, true), FetchState::WhileRunning);
        assert_eq!(marked(&begin(), true), FetchState::Fetched);
        assert_eq!(marked(&begin(), false), FetchState::Fetched, "what is elsewhere stays there");
    }
}
