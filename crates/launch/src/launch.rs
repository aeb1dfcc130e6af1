//! A launch: the steps in their order, for every backend.

use std::fs;

use bot_bottle_core::{error::IoContext, plan::BottlePlan};
use rustix::process::{self, Rlimit, Signal, getpid, getrlimit, kill_process, setrlimit};

use crate::{
    active_run::ActiveRun,
    agent_folder::AgentFolder,
    backend::{Backend, Run},
    error::LaunchError,
    files::copy::NotCopied,
    host::shares::CORE_BYTES,
    request::{
        AgentExit, Beginning, FaultKind, FaultMoment, FaultPoint, Kept, LaunchEvent, LaunchRequest, Step,
    },
    session::{Parts, Renewals, Session, Signals},
    state::{CA_FINGERPRINT_FILE, Outcome, StartRecord, Written},
    steps::{allocate, attach, baseline, files, gateway, trust},
    written,
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

/// Starts the bottle, waits for the agent, and cleans up.
///
/// The calling thread has to live as long as the bottle: the kernel ends a native bottle's processes with it.
/// No other thread is needed, and none should have been started.
///
/// # Errors
/// See [`LaunchError`]; nothing is left running then.
pub fn launch(
    backend: &dyn Backend,
    request: LaunchRequest,
    on_event: &mut dyn FnMut(LaunchEvent),
) -> Result<AgentExit, LaunchError> {
    keep_core_dumps_away();
    // Nothing of the run is there yet, so a signal of the operator ends it at once.
    let image = match request.beginning {
        Beginning::New => backend.prepare(&request.plan, on_event)?,
        // It goes on with what it was made of.
        Beginning::Resumed => None,
    };
    // Before any process is started, so that no signal of the operator is lost.
    let signals = Signals::take().io_context(|| "taking signals")?;
    let mut active = None;
    let ended = run_bottle(backend, request, image, &signals, &mut active, on_event);
    let settled = active.as_mut().map(ActiveRun::release).unwrap_or_default();
    for (path, error) in settled.not_removed {
        on_event(LaunchEvent::NotRemoved { path, why: error.to_string() });
    }
    if settled.kept != Kept::default() {
        on_event(LaunchEvent::Kept(settled.kept));
    }
    ended
}

/// Runs the steps, in the order of [`Step::ALL`]. The order is part of the confinement:
///
/// 1. Allocate resources: the directory is locked and its list of resources open before anything is started,
///    and each step records what it makes before it is used. So an end at any point leaves nothing behind.
/// 2. Start gateway: before the sandbox, because its start-up takes longest. It cannot listen or send yet.
/// 3. Start sandbox: its file system is made while the next step writes what is mounted there.
/// 4. Prepare files: before any program of the bottle could put links in the way.
/// 5. Connect gateway: it gets the secrets together with the sockets of the sandbox, and listens nowhere
///    else.
/// 6. Wait for gateway: its certificate is known only now, and a gateway that fails ends the launch before
///    any program could run without it.
/// 7. Provision: the certificate is in place before the first program reads it.
/// 8. Initialise sandbox: no capability is left, all files are written and mounted when programs can be
///    started, and the host's programs have no way to them any more.
/// 9. Attach: the agent runs last.
fn run_bottle(
    backend: &dyn Backend,
    mut request: LaunchRequest,
    image: Option<String>,
    signals: &Signals,
    active: &mut Option<ActiveRun>,
    on_event: &mut dyn FnMut(LaunchEvent),
) -> Result<AgentExit, LaunchError> {
    let mut progress = Progress { on_event, fault: request.fault };
    let secrets = std::mem::take(&mut request.secrets);
    let renewals = Renewals::new(std::mem::take(&mut request.renewal));
    let renewals = renewals.io_context(|| "preparing to renew secrets")?;
    let (plan, agent) = (&request.plan, attach::agent(&request));

    let (run, active) = progress.step(Step::AllocateResources, |_| {
        let directory = match request.beginning {
            Beginning::New => allocate::reserve(backend, plan, request.program.as_ref(), &request.home)?,
            Beginning::Resumed => allocate::reopen(backend, plan, &request.home)?,
        };
        let path = directory.path().to_owned();
        // From here on `launch` releases it, whatever fails.
        let active = active.insert(match request.beginning {
            Beginning::New => ActiveRun::new(directory),
            Beginning::Resumed => {
                ActiveRun::going_on(directory).io_context(|| format!("reading {}", path.display()))?
            }
        });
        if request.beginning == Beginning::Resumed {
            // It has what the run before this one made, however this one ends.
            active.outcome = outcome(plan);
        }
        Ok((Run { image, ..allocate::fill(&path, &request)? }, active))
    })?;
    let mut gateway =
        progress.step(Step::StartGateway, |_| backend.start_gateway(&run, &mut active.resources))?;
    let mut sandbox =
        progress.step(Step::StartSandbox, |_| backend.start(plan, &run, &mut active.resources))?;
    let left_out = progress.step(Step::PrepareFiles, |on_event| {
        let NotCopied { lines, left_out } = files::write(plan, &run, request.beginning, on_event)?;
        lines.into_iter().for_each(|note| on_event(LaunchEvent::Note(note)));
        Ok(left_out)
    })?;
    progress.step(Step::ConnectGateway, |_| gateway::connect(&mut *gateway, &mut *sandbox, secrets))?;
    let ready = progress.step(Step::WaitForGateway, |on_event| {
        let ready = gateway.ready()?;
        on_event(LaunchEvent::CaFingerprint(ready.ca_fingerprint.clone()));
        Ok(ready)
    })?;
    progress.step(Step::Provision, |_| {
        let fingerprint = format!("{}\n", ready.ca_fingerprint);
        fs::write(run.path(CA_FINGERPRINT_FILE), fingerprint)
            .io_context(|| "writing the CA's fingerprint")?;
        trust::provision(plan, &run.folders.trust, &ready.ca_certificate)
    })?;
    progress.step(Step::InitialiseSandbox, |on_event| {
        sandbox.initialise()?.into_iter().for_each(|note| on_event(LaunchEvent::Note(note)));
        let closed = AgentFolder::of(&run.directory).close();
        Ok(closed.io_context(|| "closing the agent's folder")?)
    })?;
    let mut session = progress.step(Step::Attach, |on_event| {
        if request.beginning == Beginning::New {
            let baseline = baseline::observe(plan, &left_out, &mut *sandbox, on_event);
            let recording = || "recording the agent's start";
            let file_time = sandbox.file_time().io_context(recording)?;
            StartRecord::write(&run.directory, baseline, file_time).io_context(recording)?;
        }
        let work = sandbox.work();
        if !work.is_empty() {
            let recording = || "recording where the agent's work is";
            Written::forget(&run.directory).io_context(recording)?;
            active.resources.set_work(&work).io_context(recording)?;
        }
        let relay = attach::attach(&mut *sandbox, &agent)?;
        on_event(LaunchEvent::Attached(plan.identity.clone()));
        let parts = Parts { sandbox: &mut *sandbox, gateway: &mut *gateway, signals, relay, renewals };
        let session = Session::new(parts, plan, &agent, &run.directory);
        Ok(session.io_context(|| "answering `exec`")?)
    })?;
    active.outcome = outcome(plan);
    Ok(session.run(progress.on_event, |sandbox| {
        if !sandbox.work().is_empty() {
            written::ask(sandbox, plan, &run.directory);
        }
    }))
}

/// How far a run has come whose agent started.
fn outcome(plan: &BottlePlan) -> Outcome {
    if plan.workspace.is_some() { Outcome::Worked } else { Outcome::Ran }
}

/// A core dump of this process would contain the credentials. Only the soft limit is lowered; the hard one
/// stays as the operator set it.
fn keep_core_dumps_away() {
    let maximum = getrlimit(process::Resource::Core).maximum;
    let current = Some(maximum.map_or(CORE_BYTES, |maximum| maximum.min(CORE_BYTES)));
    // Lowering a soft limit does not fail, setrlimit(2).
    let _ = setrlimit(process::Resource::Core, Rlimit { current, maximum });
}
