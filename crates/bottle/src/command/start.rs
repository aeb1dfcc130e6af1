//! `start`: an agent in a bottle.

use std::process::ExitCode;

use bot_bottle_core::{
    manifest::Manifest,
    plan::{PlanInput, plan_agent},
    provider::{Conversation, GuestPaths},
};
use bot_bottle_launch::request::{Beginning, ResumableAgent, Terminal};

use super::{
    agent::{self, Provisioned},
    prepare::{self, Launch},
};
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
    start.options.prepare_input()?;
    let agent = choose_agent(start, &manifest, ui)?;
    let bottles = choose_bottles(start, &agent, &manifest, ui)?;
    let effective = manifest.bottle_for(&agent, &bottles)?;
    let settings = manifest.settings()?;
    let backend = prepare::backend(&start.bottle, &effective.bottle, settings)?;
    let provider = agent::provider_of(&effective)?;
    let mode = start.options.mode();
    let guest = GuestPaths::default();
    let Provisioned { plan: provision, secrets, renewable } =
        agent::provision(provider, &effective, &start.options, Conversation::New, &guest)?;

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

    let agent = ResumableAgent { effective, conversations: provider.conversations().into() };
    let launch =
        Launch { plan, provisioned: secrets, renewable, beginning: Beginning::New, agent: Some(agent) };
    prepare::launch(launch, &start.bottle, start.options.consent(), ui)
}

fn choose_agent(start: &Start, manifest: &Manifest, ui: &Ui) -> Result<String, CommandError> {
    if let Some(agent) = &start.agent {
        return Ok(agent.clone());
    }
    let names: Vec<String> = manifest.agents().iter().map(|agent| agent.name.clone()).collect();
    match names.as_slice() {
        [] => Err(CommandError::new(Failure::Manifest, "there is no agent")
            .with_hint("`bot-bottle init` writes a first bottle and agent")),
        [_, ..] if start.options.headless || start.options.yes => {
            Err(CommandError::usage("which agent is not said")
                .with_hint(format!("name one of: {}", names.join(", "))))
        }
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
    if start.options.headless || start.options.yes {
        return Err(CommandError::usage(format!("the agent `{agent}` names no bottle"))
            .with_hint(format!("pass `--bottle` with one of: {}", names.join(", "))));
    }
    Ok(vec![ui.choose(&format!("The agent `{agent}` names no bottle. Which one?"), &names)?])
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
