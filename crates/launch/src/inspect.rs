//! A throw-away bottle over what an agent made, without any network: `diff`, `pull` and `cp` read the work in
//! there, and what comes out is a stream.
//!
//! The work may hold a repository whose configuration runs programs, links to anywhere, and names that a
//! terminal acts on. So nothing on the host walks through it or runs git in it: a program in a bottle does,
//! which has the work alone, read-only, and cannot reach the gateway either, because there is none. It is the
//! same while the run goes on and afterwards, and the same on every backend.

use std::{
    borrow::Cow,
    io::{self, Read},
    path::PathBuf,
    time::{Duration, Instant},
};

use bot_bottle_core::{
    bottle::BackendName,
    error::{Hint, IoContext, IoError},
    identity::Identity,
    limits::{ByteSize, Limits},
    plan::{AGENT_PROGRAM_FOLDER, BottlePlan, Program, ProgramSource},
    provider::GuestPaths,
};
use thiserror::Error;

use crate::{
    active_run::ActiveRun,
    agent_folder::AgentFolder,
    backend::{Backend, SessionId, StartProgram},
    error::LaunchError,
    home::BotBottleHome,
    host::user::HostUser,
    kept::{self, NotKept, read_plan},
    program_run::{ProgramFailure, ProgramRun},
    request::{Beginning, EndedBy, ProgramStatus, Terminal},
    session::{LimitWatchers, Signals},
    steps::allocate::{self, InspectedFolders, NewRun},
};

/// Where the home of the run that is looked at is mounted. Its workspace is where it always is, because a
/// workspace may hold absolute paths to itself.
pub const INSPECTED_HOME: &str = "/mnt/home";

/// Processes and threads that may run beside each other.
const PROCESSES: u32 = 1024;

/// What may be written to the disk beside twice the size of the work (a copy of all objects, and a bundle),
/// in bytes.
const EXTRA_DISK_BYTES: u64 = 1 << 30;

/// A look at the work of a run.
#[derive(Debug)]
pub struct InspectRequest {
    /// Whose work.
    pub run: Identity,
    /// Name of the throw-away bottle.
    pub identity: Identity,
    /// How it is made.
    pub backend: BackendName,
    /// Arguments of this binary, which runs in there.
    pub arguments: Vec<String>,
    /// Whether the work may be written to.
    pub access: WorkAccess,
    /// Whether the program needs the agent's home besides its workspace, or instead: a backend may have to copy it.
    pub needs_home: bool,
    /// How long it may take at most.
    pub time: Option<Duration>,
    /// Where state is kept.
    pub home: BotBottleHome,
    /// The operator's home, which no bottle sees.
    pub operator_home: Option<PathBuf>,
    /// This binary: `/proc/self/exe`.
    pub executable: PathBuf,
}

/// What may be done with the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkAccess {
    /// Nothing changes it.
    Read,
    /// Something is put there.
    Write,
}

/// How a look ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// The program's end.
    pub status: ProgramStatus,
    /// The end of its standard error.
    pub error: String,
}

/// Why there is nothing to see.
#[derive(Debug, Error)]
pub enum InspectError {
    /// There is no work to look at.
    #[error(transparent)]
    NotKept(#[from] NotKept),
    /// The bottle could not be made.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The stream went nowhere.
    #[error("what came out could not be taken: {0}")]
    Output(#[source] io::Error),
    /// The stream that goes in.
    #[error("what goes in could not be read: {0}")]
    Input(#[source] io::Error),
    /// It took too long.
    #[error("looking at the work of {0} takes longer than it may")]
    TimedOut(Identity),
    /// Something else ended the bottle.
    #[error("the look at {run} was ended: {}", ended(.by))]
    Ended {
        /// Whose work.
        run: Identity,
        /// By what.
        by: EndedBy,
    },
}

fn ended(by: &EndedBy) -> String {
    match by {
        EndedBy::Limit(limit) => limit.clone(),
        EndedBy::Signal(signal) => format!("by signal {signal}"),
        EndedBy::Stop | EndedBy::GatewayEnded(_) | EndedBy::SandboxEnded => {
            "its bottle was killed".to_owned()
        }
    }
}

impl Hint for InspectError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::NotKept(error) => error.hint(),
            Self::Launch(error) => error.hint(),
            Self::Output(error) if error.kind() == io::ErrorKind::StorageFull => {
                Some("make room on the disk".into())
            }
            Self::Output(_) | Self::Input(_) | Self::TimedOut(_) | Self::Ended { .. } => None,
        }
    }
}

impl From<IoError> for InspectError {
    fn from(error: IoError) -> Self {
        Self::Launch(error.into())
    }
}

/// Runs this binary in a throw-away bottle over the work of a run. `input` is its standard input; `output`
/// takes its standard output, which a hostile agent may have composed.
///
/// The calling thread has to live until this returns, and no other one should have been started, as for
/// [`crate::launch()`].
///
/// # Errors
/// See [`InspectError`]; nothing is left running then.
pub fn inspect(
    backend: &dyn Backend,
    request: &InspectRequest,
    input: &mut dyn Read,
    output: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<Inspected, InspectError> {
    let inspected = find(request)?;
    let signals = Signals::take().io_context(|| "taking signals")?;
    let plan = plan(backend, request, &inspected)?;
    let directory = allocate::reserve(backend, &plan, None, &request.home)?;
    let path = directory.path().to_owned();
    // Dropped at each end, which removes everything.
    let mut active = ActiveRun::new(directory);
    let new = NewRun {
        identity: &plan.identity,
        executable: &request.executable,
        program: None,
        operator_home: request.operator_home.as_deref(),
        bot_bottle_home: request.home.path(),
        workspace: None,
        user: inspected.user,
        beginning: Beginning::New,
    };
    let mut run = allocate::make_folders(&path, &new)?;
    run.folders.inspected = Some(InspectedFolders {
        home: inspected.folder.home(),
        workspace: inspected.folder.workspace(),
        access: request.access,
        run: inspected.path,
        needs_home: request.needs_home,
    });
    let mut sandbox = backend.start(&plan, &run, &mut active.resources)?;
    // Where a gateway would listen. There is none, so every connection is refused from now on.
    drop(sandbox.listeners()?);
    sandbox.initialise()?;
    let program = StartProgram {
        command: plan.program.command.clone(),
        environment: [("PATH", "/usr/bin:/bin"), ("HOME", "/home/agent"), ("LC_ALL", "C.UTF-8")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        working_directory: plan.guest.workspace.clone(),
        terminal: Terminal::Pipes,
        size: None,
    };
    let deadline = request.time.map(|time| Instant::now() + time);
    let limits = LimitWatchers::new(&plan.limits, &run.directory);
    let running = ProgramRun { input, output, signals: Some(&signals), limits, deadline };
    let end = running.run(&mut *sandbox, SessionId::AGENT, &program).map_err(|failure| match failure {
        ProgramFailure::NotStarted(source) => InspectError::Launch(LaunchError::NotStarted {
            program: program.command.first().cloned().unwrap_or_default(),
            source,
        }),
        ProgramFailure::Sandbox(source) => {
            LaunchError::Sandbox(IoError::new("reading the agent's work", source)).into()
        }
        ProgramFailure::TimedOut => InspectError::TimedOut(request.run.clone()),
        ProgramFailure::Output(error) => InspectError::Output(error),
        ProgramFailure::Input(error) => InspectError::Input(error),
    })?;
    match end.ended_by {
        Some(by) => Err(InspectError::Ended { run: request.run.clone(), by }),
        None => Ok(Inspected { status: end.status, error: end.error }),
    }
}

/// The work of a run.
struct Found {
    /// The folder of the run.
    path: PathBuf,
    folder: AgentFolder,
    /// Who owns it, as whom the bottle has to run to read it all.
    user: HostUser,
    bytes: u64,
}

fn find(request: &InspectRequest) -> Result<Found, InspectError> {
    let (path, _) = kept::find(&request.home, &request.run)?;
    let folder = AgentFolder::of(&path);
    let user = folder.user().io_context(|| format!("looking at {}", path.display()))?;
    let user = user.ok_or_else(|| NotKept::NothingKept(request.run.clone()))?;
    // What cannot be measured is bounded by the scratch space alone.
    let bytes = folder.size().ok().flatten().unwrap_or(0);
    Ok(Found { path, folder, user, bytes })
}

fn plan(backend: &dyn Backend, request: &InspectRequest, found: &Found) -> Result<BottlePlan, LaunchError> {
    let mut command = vec![format!("{AGENT_PROGRAM_FOLDER}/bot-bottle")];
    command.extend(request.arguments.iter().cloned());
    let scratch = backend.scratch(&GuestPaths::default(), &request.identity);
    command.push(format!("--scratch={}", scratch.display()));
    if request.needs_home {
        let home = backend.inspected_home(&GuestPaths::default());
        command.push(format!("--home={}", home.display()));
    }
    let program = Program { command, source: ProgramSource::OwnBinary };
    let disk = found.bytes.saturating_mul(2).saturating_add(EXTRA_DISK_BYTES);
    let bounds = Limits { pids: Some(PROCESSES), disk: Some(ByteSize(disk)), ..Limits::default() };
    // The agent's filters run here: they get no more of the machine than the agent had.
    let run = read_plan(&request.home.run(&request.run)).map(|plan| plan.limits).unwrap_or_default();
    let with_those_of_run = Limits { memory: run.memory, cpus: run.cpus, ..bounds.clone() };
    // A backend may not have it at all.
    let without_disk = |limits: &Limits| Limits { disk: None, ..limits.clone() };
    let choices =
        [without_disk(&with_those_of_run), bounds.clone(), without_disk(&bounds), Limits::default()];
    // A host may have lost what enforces them, or never had it: rootless podman on cgroup v1 enforces none, for the
    // agent neither. The work can be looked at all the same.
    let limits = std::iter::once(with_those_of_run)
        .chain(choices)
        .find(|limits| backend.check(limits).is_ok())
        .unwrap_or(bounds);
    Ok(BottlePlan { limits, ..BottlePlan::for_program(request.identity.clone(), request.backend, program) })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        backend::{Enforcement, Resources, Sandbox, Unmet},
        host::prerequisites::HostReport,
        steps::allocate::Run,
    };

    /// A backend that limits memory and processes or does not.
    struct Host {
        limits_memory: bool,
        limits_processes: bool,
    }

    impl Backend for Host {
        fn prerequisites(&self) -> HostReport {
            HostReport::default()
        }

        fn check(&self, limits: &Limits) -> Result<Enforcement, LaunchError> {
            if limits.pids.is_some() && !self.limits_processes {
                return Err(LaunchError::Limits(vec![Unmet("processes are not limited here".to_owned())]));
            }
            match limits.memory {
                Some(_) if !self.limits_memory => {
                    Err(LaunchError::Limits(vec![Unmet("memory is not limited here".to_owned())]))
                }
                _ => Ok(Enforcement(Vec::new())),
            }
        }

        fn start(
            &self,
            _plan: &BottlePlan,
            _run: &Run,
            _resources: &mut Resources,
        ) -> Result<Box<dyn Sandbox>, LaunchError> {
            unreachable!("nothing is started")
        }
    }

    #[test]
    fn a_look_has_no_more_memory_than_the_run_and_works_where_it_cannot_be_limited() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = BotBottleHome::new(folder.path());
        let identity = |text: &str| text.parse::<Identity>().expect("an identity");
        let request = InspectRequest {
            run: identity("agent-aaaaa"),
            identity: identity("look-aaaaa"),
            backend: BackendName::Native,
            arguments: Vec::new(),
            access: WorkAccess::Read,
            needs_home: false,
            time: None,
            home: home.clone(),
            operator_home: None,
            executable: "/bin/sh".into(),
        };
        let program = Program { command: vec!["agent".to_owned()], source: ProgramSource::OwnBinary };
        let memory = Some(ByteSize(1 << 30));
        let of_run = BottlePlan {
            limits: Limits { memory, ..Limits::default() },
            ..BottlePlan::for_program(request.run.clone(), request.backend, program)
        };
        let path = home.run(&request.run);
        fs::create_dir_all(&path).expect("made");
        fs::write(path.join("plan.json"), serde_json::to_vec(&of_run).expect("JSON")).expect("written");
        let found = Found {
            path: path.clone(),
            folder: AgentFolder::of(&path),
            user: HostUser::owning(1000),
            bytes: 0,
        };
        for (limits_memory, limits_processes, expected) in [
            (true, true, (memory, Some(PROCESSES))),
            (false, true, (None, Some(PROCESSES))),
            (false, false, (None, None)),
        ] {
            let host = Host { limits_memory, limits_processes };
            let plan = plan(&host, &request, &found).expect("planned");
            assert_eq!((plan.limits.memory, plan.limits.pids), expected);
        }
    }
}
