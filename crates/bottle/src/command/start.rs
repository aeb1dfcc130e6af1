//! `start`: an agent in a bottle.

use std::{
    fs,
    io::{self, IsTerminal},
    process::ExitCode,
};

use bot_bottle_core::{
    bottle::EffectiveBottle,
    error::{IoContext, IoError},
    manifest::Manifest,
    plan::{PlanInput, plan_agent},
    provider::{self, Conversation, GuestPaths, HostCredentials, Provider, ProvisionInput, RunMode},
};
use bot_bottle_launch::request::{Beginning, ResumableAgent, Terminal};
use zeroize::Zeroizing;

use super::prepare::{self, Consent, Launch};
use crate::{
    arguments::Start,
    exit::{CommandError, Failure},
    manifest_files, system,
    ui::Ui,
};

/// Starts an agent and stays until it ends.
pub(super) fn run(start: &Start, ui: &Ui) -> Result<ExitCode, CommandError> {
    let manifest = manifest_files::load()?;
    prepare::warn(&manifest, ui);
    if start.headless {
        empty_terminal_input()?;
    }
    let agent = choose_agent(start, &manifest, ui)?;
    let bottles = choose_bottles(start, &agent, &manifest, ui)?;
    let effective = manifest.bottle_for(&agent, &bottles)?;
    let settings = manifest.settings()?;
    let backend = prepare::backend(&start.bottle, &effective.bottle, settings)?;
    let provider = provider_of(&effective)?;
    let mode = match &start.prompt {
        Some(prompt) if start.headless => RunMode::Headless { prompt: prompt.clone() },
        Some(_) | None => RunMode::Interactive,
    };

    let guest = GuestPaths::default();
    let credentials = host_credentials(&effective, provider)?;
    let mut provision = provider
        .provision(&ProvisionInput {
            bottle: &effective.bottle,
            system_prompt: &effective.agent.prompt,
            mode: &mode,
            conversation: Conversation::New,
            guest: &guest,
            credentials: &credentials,
            now: system::now(),
            extra_arguments: &start.arguments,
        })
        .map_err(CommandError::from_error)?;
    drop(credentials);
    let secrets = std::mem::take(&mut provision.secrets);

    let identity = prepare::identity(&agent)?;
    let workspace = prepare::workspace(&start.bottle)?;
    let host_home = system::home()?;
    let terminal = system::variable("TERM").filter(|_| prepare::terminal() == Terminal::Pty);
    let input = PlanInput {
        identity: &identity,
        backend,
        settings,
        workspace: workspace.as_ref(),
        guest: &guest,
        host_home: &host_home,
        terminal: terminal.as_deref(),
    };
    let plan = plan_agent(&input, &effective, &provision, &mode).map_err(CommandError::from_error)?;
    check_skills(&plan)?;

    let consent = if start.yes || start.headless { Consent::Given } else { Consent::Ask };
    let agent = ResumableAgent { effective, conversations: provider.conversations().into() };
    let launch = Launch { plan, provisioned: secrets, beginning: Beginning::New, agent: Some(agent) };
    prepare::launch(launch, &start.bottle, consent, ui)
}

/// Replaces a terminal on stdin by `/dev/null`, because a headless agent would wait for input that never
/// comes. A pipe or a file stays.
pub(super) fn empty_terminal_input() -> Result<(), CommandError> {
    if io::stdin().is_terminal() {
        let empty = fs::File::open("/dev/null").io_context(|| "opening /dev/null as standard input")?;
        rustix::stdio::dup2_stdin(&empty).io_context(|| "using /dev/null as standard input")?;
    }
    Ok(())
}

fn choose_agent(start: &Start, manifest: &Manifest, ui: &Ui) -> Result<String, CommandError> {
    if let Some(agent) = &start.agent {
        return Ok(agent.clone());
    }
    let names: Vec<String> = manifest.agents().iter().map(|agent| agent.name.clone()).collect();
    match names.as_slice() {
        [] => Err(CommandError::new(Failure::Manifest, "there is no agent")
            .with_hint("`bot-bottle init` writes a first bottle and agent")),
        [_, ..] if start.headless || start.yes => Err(CommandError::usage("which agent is not said")
            .with_hint(format!("name one of: {}", names.join(", ")))),
        [_, ..] => ui.choose("Which agent?", &names),
    }
}

/// The bottles from the options, else from the agent's file, else from a question.
fn choose_bottles(
    start: &Start,
    agent: &str,
    manifest: &Manifest,
    ui: &Ui,
) -> Result<Vec<String>, CommandError> {
    let named = !start.bottle.bottles.is_empty()
        || manifest
            .agents()
            .iter()
            .any(|known| known.name == agent && (known.error.is_some() || !known.bottles.is_empty()))
        || !manifest.agents().iter().any(|known| known.name == agent);
    if named {
        return Ok(start.bottle.bottles.clone());
    }
    let names: Vec<String> = manifest.bottles().iter().map(|bottle| bottle.name.clone()).collect();
    if names.is_empty() {
        return Err(CommandError::new(Failure::Manifest, "there is no bottle")
            .with_hint("`bot-bottle init` writes a first bottle and agent"));
    }
    if start.headless || start.yes {
        return Err(CommandError::usage(format!("the agent `{agent}` names no bottle"))
            .with_hint(format!("pass `--bottle` with one of: {}", names.join(", "))));
    }
    Ok(vec![ui.choose(&format!("The agent `{agent}` names no bottle. Which one?"), &names)?])
}

pub(super) fn provider_of(effective: &EffectiveBottle) -> Result<&'static dyn Provider, CommandError> {
    let name = effective.bottle.provider.template.as_deref().unwrap_or("claude");
    provider::by_name(name).ok_or_else(|| {
        let known: Vec<&str> = provider::all().iter().map(|provider| provider.name()).collect();
        CommandError::failed(format!("`agent_provider.template: {name}` cannot be started by this version"))
            .with_hint(format!("use one of: {}", known.join(", ")))
    })
}

/// Reads the host's own login, if the bottle forwards it.
pub(super) fn host_credentials(
    effective: &EffectiveBottle,
    provider: &dyn Provider,
) -> Result<HostCredentials, CommandError> {
    if !effective.bottle.provider.forward_host_credentials {
        return Ok(HostCredentials::NotForwarded);
    }
    let path = system::home()?.join(provider.credential_file());
    match fs::read_to_string(&path) {
        Ok(text) => Ok(HostCredentials::Found(Zeroizing::new(text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(HostCredentials::Missing),
        Err(error) => Err(IoError::new(
            format!("the host's login of `{}` cannot be read: {}", provider.name(), path.display()),
            error,
        )
        .into()),
    }
}

/// Checks that every skill exists on the host, from which it is copied.
fn check_skills(plan: &bot_bottle_core::plan::BottlePlan) -> Result<(), CommandError> {
    let missing: Vec<String> = plan
        .copies
        .iter()
        .filter(|copy| !copy.source.is_dir())
        .map(|copy| copy.source.display().to_string())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(CommandError::new(
        Failure::Manifest,
        format!("the agent's skills are not there: {}", missing.join(", ")),
    )
    .with_hint("make the folder, or take the skill out of the agent's `skills`"))
}
