//! The common part of `start` and `run`: choose a backend, show the plan, launch it.

use std::{io::IsTerminal, path::PathBuf, process::ExitCode};

use bot_bottle_core::{
    bottle::{BackendName, Bottle, Settings},
    identity::Identity,
    limits::ByteSize,
    manifest::Manifest,
    plan::{BottlePlan, ImageSource, ProgramSource, WorkspaceGit},
    provider::{self, Provider, ProvisionedSecret},
};
use bot_bottle_launch::{
    backend::{Backend, Enforcement},
    docker::Docker,
    error::LaunchError,
    home::BotBottleHome,
    host::programs::{self, FoundProgram, ProgramError, Wanted},
    native::Native,
    renewal::{RenewableSecrets, RenewalRequest},
    request::{
        AgentExit, Beginning, EndedBy, FaultKind, FaultMoment, FaultPoint, Kept, LaunchEvent, LaunchRequest,
        ResumableAgent, Step, Terminal,
    },
    smolmachines::Smolmachines,
};

use super::work;
use crate::{
    arguments::BottleOptions,
    exit::{CommandError, Failure},
    renewal, secret_values, system,
    ui::Ui,
};

/// Where this host keeps its state.
pub(super) fn home() -> Result<BotBottleHome, CommandError> {
    Ok(BotBottleHome::new(system::bot_bottle_home()?))
}

/// The backend: the option or `BOT_BOTTLE_BACKEND`, then the bottle's, then the settings', then native.
pub(super) fn backend(
    options: &BottleOptions,
    bottle: &Bottle,
    settings: &Settings,
) -> Result<BackendName, CommandError> {
    let chosen = options.backend.or(bottle.backend).or(settings.backend).unwrap_or(BackendName::Native);
    implementation(chosen).map(|_| chosen)
}

/// What this version has behind the name of a backend.
pub(super) fn implementation(name: BackendName) -> Result<Box<dyn Backend>, CommandError> {
    match name {
        BackendName::Native if cfg!(target_os = "linux") => Ok(Box::new(Native)),
        BackendName::Docker => {
            Ok(Box::new(Docker::new(system::engine_address()?, system::image_environment())))
        }
        BackendName::Native => Err(CommandError::new(Failure::Backend, "the native backend needs Linux")
            .with_hint("run bot-bottle on a Linux host")),
        BackendName::Smolmachines => {
            let (program, engine) = (system::smolvm()?, system::find_engine());
            Ok(Box::new(Smolmachines::new(program, &home()?, engine, system::image_environment())))
        }
        BackendName::Kubernetes => {
            Err(CommandError::new(Failure::Backend, format!("the {name} backend is not in this version"))
                .with_hint("use one of those that are: `--backend native` or `--backend docker`"))
        }
    }
}

/// A fresh name for a run.
pub(super) fn identity(agent: &str) -> Result<Identity, CommandError> {
    Identity::new(agent, system::random()?)
        .map_err(|error| CommandError::from_error(error).with_failure(Failure::Usage))
}

/// The workspace to copy in with `--cwd`. A folder that holds the operator's credentials is refused, even
/// with `--yes`.
pub(super) fn workspace(options: &BottleOptions) -> Result<Option<PathBuf>, CommandError> {
    if !options.cwd {
        return Ok(None);
    }
    let folder = system::working_directory()?;
    bot_bottle_launch::workspace::check(&folder, &system::home()?, &system::bot_bottle_home()?)
        .map_err(CommandError::from_error)?;
    Ok(Some(folder))
}

/// Finds a provider's program.
pub(super) fn find_program(
    home: &BotBottleHome,
    provider: &dyn Provider,
) -> Result<FoundProgram, ProgramError> {
    let wanted = Wanted { name: provider.program(), version: None, companions: provider.companions() };
    programs::find(home, wanted, &system::search_path())
}

/// Warnings about the files, on stderr.
pub(super) fn warn(manifest: &Manifest, ui: &Ui) {
    manifest.warnings().iter().for_each(|warning| ui.warn(warning));
}

/// Whether the person is asked before anything starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Consent {
    /// Show the preflight and ask.
    Ask,
    /// Show the preflight and go on.
    Given,
    /// Print nothing: the streams belong to the program.
    Silent,
}

/// What is launched.
pub(super) struct Launch {
    pub(super) plan: BottlePlan,
    /// The credentials that the provider brings.
    pub(super) provisioned: Vec<ProvisionedSecret>,
    /// The same, where they can be asked for again.
    pub(super) renewable: Option<RenewableSecrets>,
    pub(super) beginning: Beginning,
    /// For a run that can be resumed.
    pub(super) agent: Option<ResumableAgent>,
}

/// Shows the plan, asks, and runs it to its end.
pub(super) fn launch(
    launch: Launch,
    options: &BottleOptions,
    consent: Consent,
    ui: &Ui,
) -> Result<ExitCode, CommandError> {
    let Launch { mut plan, provisioned, renewable, beginning, agent } = launch;
    let backend = implementation(plan.backend)?;
    if let Some(image) = &options.image {
        if !plan.backend.has_images() {
            let message = format!("`--image {image}`: the {} backend has no images", plan.backend);
            return Err(CommandError::usage(message).with_hint("choose one that has: `--backend docker`"));
        }
        plan.image = Some(ImageSource::Reference(image.clone()));
    }
    let Enforcement(limits) = backend.check(&plan.limits).map_err(|error| match error {
        error @ LaunchError::Limits(_) => CommandError::failed(error.to_string())
            .with_hint("change or remove the limit in the bottle's `limits`"),
        error => launch_error(error),
    })?;
    // Nothing is copied into a workspace that is there.
    let copied = plan.workspace.as_deref().filter(|_| beginning == Beginning::New);
    let left_out = match copied {
        Some(_) if options.without_git => {
            plan.workspace_git = WorkspaceGit::LeftOut;
            Vec::new()
        }
        Some(folder) => {
            bot_bottle_launch::workspace::left_out(folder, &system::home()?, &plan.workspace_exclude)
                .map_err(CommandError::from_error)?
        }
        None => Vec::new(),
    };
    plan.notes.extend(left_out.iter().cloned());
    if options.dry_run {
        ui.result(&plan, |plan| crate::ui::preflight(plan, &limits));
        return Ok(ExitCode::SUCCESS);
    }
    // Check the credentials before asking whether to start, so that the answer is not in vain.
    let mut renewables = renewal::of_settings(&plan);
    renewables.extend(renewable);
    let secrets = secret_values::for_gateway(&plan, provisioned)?;
    let from_host = secret_values::from_host(&plan)?;
    if consent == Consent::Silent {
        left_out.iter().for_each(|line| ui.warn(line));
    } else {
        ui.preflight(&plan, &limits);
    }
    if consent == Consent::Ask && !ui.confirm("Start?")? {
        return Err(CommandError::failed("not started"));
    }
    let environment = secret_values::for_agent(&plan, from_host, ui)?;
    let (identity, made_by) = (plan.identity.clone(), plan.backend);
    let program = match &plan.program.source {
        ProgramSource::AgentProgram(name) => {
            let companions = provider::all().into_iter().find(|provider| provider.program() == name);
            let companions = companions.map_or(&[][..], |provider| provider.companions());
            let wanted = Wanted { name, version: None, companions };
            let found = programs::find(&home()?, wanted, &system::search_path());
            Some(found.map_err(CommandError::from_error)?)
        }
        ProgramSource::Bottle | ProgramSource::OwnBinary => None,
    };
    let shown_terminal = terminal();
    let request = LaunchRequest {
        plan,
        secrets,
        renewal: RenewalRequest { secrets: renewables, clock: renewal::clock(options.clock.as_deref()) },
        environment,
        home: home()?,
        operator_home: system::home().ok(),
        executable: system::own_binary()?,
        program,
        terminal: shown_terminal,
        beginning,
        agent,
        fault: options.fault.as_deref().map(fault).transpose()?,
    };
    let quiet = consent == Consent::Silent;
    let (mut kept, mut notices) = (Kept::default(), Vec::new());
    let exit = bot_bottle_launch::launch(&*backend, request, &mut |event| match event {
        LaunchEvent::Kept(there_is) => kept = there_is,
        // The agent draws on the terminal now: what it would draw over is told again at the end.
        LaunchEvent::Notice(notice) if shown_terminal == Terminal::Pty => {
            ui.notify(&notice);
            notices.push(notice);
        }
        event => show(&event, quiet, ui),
    });
    notices.iter().for_each(|notice| ui.warn(notice));
    work::tell(&identity, kept, ui);
    exit_code(&identity, Some(made_by), &exit.map_err(launch_error)?)
}

/// Prints the progress of a launch.
fn show(event: &LaunchEvent, quiet: bool, ui: &Ui) {
    match event {
        // Told at the end.
        LaunchEvent::Kept(_) => {}
        LaunchEvent::Notice(notice) => ui.warn(notice),
        LaunchEvent::NotRemoved { path, why } => ui.warn(&format!(
            "{} could not be removed: {why}; `bot-bottle cleanup` removes it",
            path.display()
        )),
        // A pull takes as long as the network lets it, and the program does not have the terminal yet.
        LaunchEvent::Image(line) => ui.image_progress(line, quiet),
        LaunchEvent::Step(Step::AllocateResources) if quiet => ui.end_progress_line(),
        LaunchEvent::CaFingerprint(_)
        | LaunchEvent::Copying { .. }
        | LaunchEvent::Note(_)
        | LaunchEvent::Attached(_)
        | LaunchEvent::Step(_)
            if quiet => {}
        LaunchEvent::Copying { entries, bytes } => {
            ui.progress_line(&format!("copying: {entries} entries, {}", ByteSize(bytes >> 20 << 20)));
        }
        LaunchEvent::Step(step) => ui.progress_line(step.name()),
        LaunchEvent::CaFingerprint(fingerprint) => {
            ui.end_progress_line();
            ui.progress(&format!("the bottle's CA has the SHA-256 fingerprint {fingerprint}"));
        }
        LaunchEvent::Note(note) => {
            ui.end_progress_line();
            ui.progress(note);
        }
        LaunchEvent::Attached(_) => ui.end_progress_line(),
    }
}

/// The program's own code, unless something else ended it.
pub(super) fn exit_code(
    identity: &Identity,
    backend: Option<BackendName>,
    exit: &AgentExit,
) -> Result<ExitCode, CommandError> {
    let engine = match backend {
        Some(BackendName::Docker) => "if the container engine was stopped or restarted, start it again; ",
        _ => "",
    };
    match &exit.ended_by {
        None | Some(EndedBy::Stop | EndedBy::Signal(_)) => Ok(ExitCode::from(exit.code())),
        Some(EndedBy::Limit(limit)) => Err(CommandError::failed(format!("{identity} was ended: {limit}"))
            .with_hint("raise the limit in the bottle's `limits`")),
        Some(EndedBy::GatewayEnded(log)) => Err(CommandError::failed(format!(
            "{identity} was ended: its gateway ended, so it had no way out left: {log}"
        ))
        .with_hint(format!("{engine}start the bottle again"))),
        Some(EndedBy::SandboxEnded) => Err(CommandError::failed(format!(
            "{identity} was ended: its first process was killed, and everything in it ends with that"
        ))
        .with_hint(format!("{engine}if the host was out of memory, give the bottle less: `limits.memory`"))),
    }
}

/// A launch's error, with the exit code that its kind has.
fn launch_error(error: LaunchError) -> CommandError {
    let failure = if error.is_unavailable() { Failure::Backend } else { Failure::Failed };
    CommandError::from_error(error).with_failure(failure)
}

/// `before:STEP` or `after:STEP`, for the tests of crash safety; with `fail-` in front for those of errors.
fn fault(written: &str) -> Result<FaultPoint, CommandError> {
    let invalid = || {
        let steps: Vec<String> = Step::ALL.iter().map(|step| step.name().replace(' ', "-")).collect();
        CommandError::usage(format!("`{written}` is not a point of a launch")).with_hint(format!(
            "write before:STEP, after:STEP, fail-before:STEP or fail-after:STEP with one of: {}",
            steps.join(", ")
        ))
    };
    let (when, step) = written.split_once(':').ok_or_else(invalid)?;
    let (when, kind) = match when {
        "before" => (FaultMoment::Before, FaultKind::Kill),
        "after" => (FaultMoment::After, FaultKind::Kill),
        "fail-before" => (FaultMoment::Before, FaultKind::Fail),
        "fail-after" => (FaultMoment::After, FaultKind::Fail),
        _ => return Err(invalid()),
    };
    let step =
        Step::ALL.into_iter().find(|known| known.name().replace(' ', "-") == step).ok_or_else(invalid)?;
    Ok(FaultPoint { step, when, kind })
}

/// A terminal of its own for the agent where ours is one on both sides, else plain streams.
pub(super) fn terminal() -> Terminal {
    if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        Terminal::Pty
    } else {
        Terminal::Pipes
    }
}
