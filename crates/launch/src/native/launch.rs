//! The steps of a launch. Each registers its undo before it has an effect.

use std::{
    fs, io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use bot_bottle_core::{
    error::{IoContext, IoError},
    gateway_config::GatewayConfig,
    plan::{AGENT_PROGRAM_FOLDER, BottlePlan, ProgramSource},
};
use rustix::process::{self, Rlimit, Signal, getpid, getrlimit, kill_process, setrlimit};

use crate::{
    active_run::ActiveRun,
    files::{
        copy::{CopyLimit, copy_tree},
        rooted_dir::{RootedDir, new_folder},
    },
    gateway_process::GatewayProcess,
    host::{facts::HostFacts, hidden, prerequisites, user::HostUser},
    relay::{self, Relay},
    request::{AgentExit, FaultKind, FaultMoment, FaultPoint, LaunchEvent, LaunchRequest, Step, Terminal},
    resource::Resource,
    state::{self, Outcome, RunDirectory},
    trust,
};

use super::{
    cgroup,
    error::LaunchError,
    limits::{HostMeans, LimitMeans},
    protocol::{AGENT_SESSION, FromInit, StartProgram, ToInit},
    render::{self, BUNDLE_NAME, MountedFile, MountedProgram, RunFolders, trust_folder},
    rootfs,
    session::{Session, Signals},
    shares::CORE_BYTES,
    spawn::{Executable, Sandbox},
    steps::NativeSteps,
};

/// Reports steps and injects the faults of tests.
struct Progress<'a> {
    on_event: &'a mut dyn FnMut(LaunchEvent),
    fault: Option<FaultPoint>,
}

impl Progress<'_> {
    fn step<T>(
        &mut self,
        step: Step,
        work: impl FnOnce(&mut dyn FnMut(LaunchEvent)) -> Result<T, LaunchError>,
    ) -> Result<T, LaunchError> {
        (self.on_event)(LaunchEvent::Step(step));
        self.fault(step, FaultMoment::Before)?;
        let done = work(self.on_event)?;
        self.fault(step, FaultMoment::After)?;
        Ok(done)
    }

    fn fault(&self, step: Step, when: FaultMoment) -> Result<(), LaunchError> {
        match self.fault {
            Some(fault) if (fault.step, fault.when) == (step, when) => {
                if fault.kind == FaultKind::Kill {
                    let _ = kill_process(getpid(), Signal::KILL);
                }
                Err(LaunchError::Fault(step.name()))
            }
            _ => Ok(()),
        }
    }
}

/// What a run has on the host.
struct Run {
    /// Its directory.
    path: PathBuf,
    executable: Executable,
    user: HostUser,
    folders: RunFolders,
    means: LimitMeans,
}

impl Run {
    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

pub(super) fn launch(
    request: LaunchRequest,
    on_event: &mut dyn FnMut(LaunchEvent),
) -> Result<AgentExit, LaunchError> {
    // Before any process is started, so that no signal of the operator is lost.
    let signals = Signals::take().io_context(|| "taking signals")?;
    keep_core_dumps_away();
    let mut active = None;
    let ended = run_bottle(request, &signals, &mut active, on_event);
    let settled = active.as_mut().map(ActiveRun::release).unwrap_or_default();
    for (path, error) in settled.not_removed {
        on_event(LaunchEvent::NotRemoved { path, why: error.to_string() });
    }
    if let Some(workspace) = settled.workspace {
        on_event(LaunchEvent::KeptWorkspace(workspace));
    }
    ended
}

/// Runs the steps, in the order of [`Step::ALL`]. Of that order the confinement needs:
///
/// 1. A resource is recorded before it is used, so that an end at any point leaves nothing behind.
/// 2. The gateway gets the secrets with its sockets, from the bottle's own network: it never listens elsewhere.
/// 3. The agent runs last, when the first process is confined (`Ready`) and all files are written.
fn run_bottle(
    mut request: LaunchRequest,
    signals: &Signals,
    active: &mut Option<ActiveRun>,
    on_event: &mut dyn FnMut(LaunchEvent),
) -> Result<AgentExit, LaunchError> {
    let mut progress = Progress { on_event, fault: request.fault };
    let mut start = std::mem::take(&mut request.secrets);
    let plan = &request.plan;

    let (run, active) = progress.step(Step::AllocateResources, |_| allocate(&request, active))?;
    let run = &run;
    let gateway = progress.step(Step::StartGateway, |_| {
        let (config, log) = (run.path("gateway.json"), run.path("gateway.log"));
        let gateway = GatewayProcess::start(&run.executable, &config, &log, &mut active.resources);
        Ok(gateway.io_context(|| "starting the gateway")?)
    })?;
    let own = [request.operator_home.as_deref(), Some(request.home.path()), plan.workspace.as_deref()];
    let facts = HostFacts::gather(&own.into_iter().flatten().collect::<Vec<_>>());
    let sandbox = progress.step(Step::StartSandbox, |_| {
        let (groups, log) = (&run.means.groups, run.path("sandbox.log"));
        let sandbox = Sandbox::start(&run.executable, run.user, groups, &log, &mut active.resources);
        let sandbox = sandbox.map_err(|source| match prerequisites::explain(&source) {
            Some(missing) => LaunchError::Missing(missing),
            None => LaunchError::Sandbox(IoError::new("starting the first process", source)),
        })?;
        set_up(run, &sandbox, render::render(plan, &facts, &run.folders, &run.means))?;
        Ok(sandbox)
    })?;
    progress.step(Step::PrepareFiles, |_| prepare_files(plan, run))?;
    progress.step(Step::DiscoverAddresses, |_| {
        let (FromInit::Listening { listeners }, sockets) = sandbox.expect()? else {
            return Err(unexpected("listening"));
        };
        start.listeners = listeners;
        gateway.hand_over(&start, &sockets).map_err(|_| gateway_failure(&gateway, run))
    })?;
    let ready = progress.step(Step::MintCertificates, |on_event| {
        let ready = gateway.ready(&run.path("gateway.log"))?;
        on_event(LaunchEvent::CaFingerprint(ready.ca_fingerprint.clone()));
        Ok(ready)
    })?;
    progress.step(Step::Provision, |_| {
        let trust = RootedDir::open(&run.folders.trust, None);
        trust
            .and_then(|folder| {
                let inside = trust_folder(plan);
                trust::write(
                    &folder,
                    &inside,
                    BUNDLE_NAME,
                    plan,
                    &facts.system_roots(),
                    &ready.ca_certificate,
                )
            })
            .io_context(|| "writing the bottle's certificates")?;
        Ok(())
    })?;
    progress.step(Step::WaitUntilExecAnswers, |on_event| {
        let FromInit::Ready { notes } = sandbox.expect()?.0 else { return Err(unexpected("being ready")) };
        notes
            .into_iter()
            .chain(hidden::note(&facts.hidden))
            .for_each(|note| on_event(LaunchEvent::Note(note)));
        Ok(())
    })?;
    let program = StartProgram {
        command: plan.program.command.clone(),
        environment: environment(&request),
        working_directory: plan.guest.workspace.clone(),
        terminal: request.terminal,
        size: (request.terminal == Terminal::Pty).then(relay::window_size).flatten(),
    };
    let mut session = progress.step(Step::Attach, |on_event| {
        let relay = attach(&sandbox, &program)?;
        on_event(LaunchEvent::Attached(plan.identity.clone()));
        let session = Session::new(&sandbox, &gateway, signals, relay, &program, &run.path, &run.means);
        Ok(session.io_context(|| "answering `exec`")?)
    })?;
    active.outcome = if plan.workspace.is_some() { Outcome::Worked } else { Outcome::Ran };
    Ok(session.run())
}

/// A core dump of this process would contain the credentials. Only the soft limit is lowered; the hard one
/// stays as the operator set it.
fn keep_core_dumps_away() {
    let maximum = getrlimit(process::Resource::Core).maximum;
    let current = Some(maximum.map_or(CORE_BYTES, |maximum| maximum.min(CORE_BYTES)));
    // Lowering a soft limit does not fail, setrlimit(2).
    let _ = setrlimit(process::Resource::Core, Rlimit { current, maximum });
}

fn unexpected(what: &str) -> LaunchError {
    LaunchError::Sandbox(IoError::new(what, io::ErrorKind::InvalidData))
}

fn allocate<'a>(
    request: &LaunchRequest,
    active: &'a mut Option<ActiveRun>,
) -> Result<(Run, &'a mut ActiveRun), LaunchError> {
    let plan = &request.plan;
    // The name of a run is unique in its home only.
    let name = format!("{}-{}", plan.identity, getpid().as_raw_pid());
    let means = LimitMeans::choose(&plan.limits, &name, &HostMeans::gather(&plan.limits));
    let means = means.map_err(LaunchError::Limits)?;
    let program = mounted_program(request)?;
    let executable = Executable::open(&request.executable)
        .io_context(|| format!("opening {}", request.executable.display()))?;
    let path = request.home.run(&plan.identity);
    let directory = match RunDirectory::create(&request.home, &plan.identity) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(LaunchError::Occupied(path));
        }
        other => other.io_context(|| format!("making {}", path.display()))?,
    };
    let active = active.insert(ActiveRun::new(directory));
    let user = HostUser::choose(getpid()).map_err(LaunchError::Missing)?;
    let path = fs::canonicalize(&path).io_context(|| format!("finding {}", path.display()))?;
    let folders = RunFolders {
        home: path.join("home"),
        workspace: path.join(state::WORKSPACE),
        trust: path.join("trust"),
        program,
    };
    for (folder, owner) in
        [(&folders.home, user.owner()), (&folders.workspace, user.owner()), (&folders.trust, None)]
    {
        new_folder(folder, 0o755, owner).io_context(|| format!("making {}", folder.display()))?;
    }
    let config = GatewayConfig {
        name: plan.identity.to_string(),
        listen: Vec::new(),
        policy: plan.policy.clone(),
        upstream: plan.upstream.clone(),
        receipts: path.join(state::RECEIPTS),
        ca_certificate: None,
    };
    let write = |name: &str, json: serde_json::Result<Vec<u8>>| {
        let path = path.join(name);
        json.map_err(io::Error::from)
            .and_then(|json| fs::write(&path, json))
            .io_context(|| format!("writing {}", path.display()))
    };
    write("gateway.json", serde_json::to_vec(&config))?;
    write("plan.json", serde_json::to_vec_pretty(plan))?;
    for group in &means.groups {
        let resource = Resource::Cgroup(group.folder.clone());
        active.resources.add(resource).io_context(|| "recording a cgroup")?;
        cgroup::fs::make(group).io_context(|| format!("making the cgroup {}", group.folder.display()))?;
    }
    Ok((Run { path, executable, user, folders, means }, active))
}

fn mounted_program(request: &LaunchRequest) -> Result<Option<MountedProgram>, LaunchError> {
    match (&request.plan.program.source, &request.program) {
        (ProgramSource::Bottle, _) => Ok(None),
        (ProgramSource::AgentProgram(name), None) => Err(LaunchError::NoProgram(name.clone())),
        (ProgramSource::AgentProgram(name), Some(found)) => {
            Ok(Some(if found.executable.as_os_str().is_empty() {
                let file_name =
                    |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let program = MountedFile { source: found.source.clone(), name: name.clone() };
                let companions = found
                    .companions
                    .iter()
                    .map(|path| MountedFile { source: path.clone(), name: file_name(path) });
                MountedProgram::Files(std::iter::once(program).chain(companions).collect())
            } else {
                MountedProgram::Folder(found.source.clone())
            }))
        }
        (ProgramSource::OwnBinary, _) => {
            let source = fs::canonicalize(&request.executable)
                .io_context(|| format!("finding {}", request.executable.display()))?;
            Ok(Some(MountedProgram::Files(vec![MountedFile { source, name: "bot-bottle".to_owned() }])))
        }
    }
}

/// The agent's environment; the program's own folder comes first in its `PATH`.
fn environment(request: &LaunchRequest) -> std::collections::BTreeMap<String, String> {
    let mut environment = request.environment.clone();
    let folder = request.program.as_ref().and_then(|found| found.executable.parent());
    let folder = Path::new(AGENT_PROGRAM_FOLDER).join(folder.unwrap_or(Path::new("")));
    let folder = folder.to_string_lossy().trim_end_matches('/').to_owned();
    let path = environment
        .entry("PATH".to_owned())
        .or_insert_with(|| "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin".to_owned());
    if !path.split(':').any(|known| known == folder) {
        *path = format!("{folder}:{path}");
    }
    environment
        .entry("HOME".to_owned())
        .or_insert_with(|| request.plan.guest.home.to_string_lossy().into_owned());
    environment.entry("TERM".to_owned()).or_insert_with(|| "xterm-256color".to_owned());
    environment
}

/// Sends the steps. Root opens the host's trees itself: the bottle's user may not be able to walk to them.
fn set_up(run: &Run, sandbox: &Sandbox, steps: NativeSteps) -> Result<(), LaunchError> {
    let trees = match run.user {
        HostUser::Operator => Vec::new(),
        HostUser::Subordinate(_) => {
            rootfs::take_trees_for_the_bottle(&steps.trees).map_err(LaunchError::Sandbox)?
        }
    };
    let descriptors: Vec<_> = trees.iter().map(AsFd::as_fd).collect();
    // If sending fails, the first process may have ended and have sent its reason.
    match sandbox.channel.send(&ToInit::Setup(Box::new(steps)), &descriptors) {
        Ok(()) => Ok(()),
        Err(source) => Err(sandbox
            .expect()
            .err()
            .unwrap_or(LaunchError::Sandbox(IoError::new("sending the steps", source)))),
    }
}

fn prepare_files(plan: &BottlePlan, run: &Run) -> Result<(), LaunchError> {
    let owner = run.user.owner();
    let open =
        |folder: &Path| RootedDir::open(folder, owner).io_context(|| format!("opening {}", folder.display()));
    let (home, workspace) = (open(&run.folders.home)?, open(&run.folders.workspace)?);
    let separate = plan.guest.workspace != plan.guest.home;
    let resolve = |path: &Path| -> Result<(&RootedDir, PathBuf), LaunchError> {
        if separate && let Ok(relative) = path.strip_prefix(&plan.guest.workspace) {
            return Ok((&workspace, relative.to_owned()));
        }
        let outside = || LaunchError::OutsideHome { path: path.to_owned(), home: plan.guest.home.clone() };
        Ok((&home, path.strip_prefix(&plan.guest.home).map_err(|_| outside())?.to_owned()))
    };
    let limit = CopyLimit { bytes: run.means.disk.map_or(u64::MAX, |bytes| bytes.0) };
    for path in &plan.directories {
        let (folder, relative) = resolve(path)?;
        folder.directory(&relative).io_context(|| format!("making {}", path.display()))?;
    }
    for file in &plan.files {
        let (folder, relative) = resolve(&file.path)?;
        let written = folder.file(&relative, file.content.as_bytes(), file.mode);
        written.io_context(|| format!("writing {}", file.path.display()))?;
    }
    for copy in &plan.copies {
        let (folder, relative) = resolve(&copy.target)?;
        let target =
            folder.directory(&relative).io_context(|| format!("making {}", copy.target.display()))?;
        copy_tree(&copy.source, target, owner, limit)
            .map_err(|source| LaunchError::Copy { folder: copy.source.clone(), source })?;
    }
    if let Some(folder) = &plan.workspace {
        let root = if separate { &workspace } else { &home };
        let target = root.directory(Path::new("")).io_context(|| "opening the workspace")?;
        copy_tree(folder, target, owner, limit)
            .map_err(|source| LaunchError::Copy { folder: folder.clone(), source })?;
    }
    Ok(())
}

fn gateway_failure(gateway: &GatewayProcess, run: &Run) -> LaunchError {
    let log = run.path("gateway.log");
    let why = "it ended before it took its listeners".to_owned();
    gateway.ready(&log).err().unwrap_or(LaunchError::Gateway { why })
}

fn attach(sandbox: &Sandbox, program: &StartProgram) -> Result<Relay, LaunchError> {
    let lost = |source| LaunchError::Sandbox(IoError::new("starting the agent", source));
    let message = ToInit::Start { session: AGENT_SESSION, program: program.clone() };
    sandbox.channel.send(&message, &[]).map_err(lost)?;
    match sandbox.expect()? {
        (FromInit::Started { session: AGENT_SESSION }, streams) => {
            Ok(Relay::connect(program.terminal, streams).io_context(|| "connecting the terminal")?)
        }
        (FromInit::NotStarted { doing, errno, .. }, _) => Err(LaunchError::NotStarted {
            program: program.command.first().cloned().unwrap_or_default(),
            source: IoError::new(doing, io::Error::from_raw_os_error(errno)),
        }),
        _ => Err(unexpected("starting the agent")),
    }
}
