//! `resume`: a run goes on, with the agent's conversation, its work and its policy.

use std::process::ExitCode;

use bot_bottle_core::{
    bottle::EnvEntry,
    plan::{BottlePlan, Program},
    provider::{AgentProvisionPlan, Conversation},
};
use bot_bottle_launch::{
    kept::Resumable,
    request::{Beginning, Terminal},
};

use super::{
    agent::{self, Provisioned},
    prepare::{self, Launch},
};
use crate::{
    arguments::{BottleOptions, Resume},
    exit::CommandError,
    manifest_files, system,
    ui::Ui,
};

/// Starts the agent again where it ended, and stays until it ends.
pub(super) fn run(resume: &Resume, ui: &Ui) -> Result<ExitCode, CommandError> {
    let home = prepare::home()?;
    let Resumable { plan, agent: kept } =
        bot_bottle_launch::kept::resumable(&home, &resume.run).map_err(CommandError::from_error)?;
    resume.options.prepare_input()?;
    let provider = agent::provider_of(&kept.effective)?;
    let Provisioned { plan: provision, secrets, renewable } =
        agent::provision(provider, &kept.effective, &resume.options, Conversation::Last, &plan.guest)?;
    let AgentProvisionPlan { mut files, login_files, command, provisioned_env, .. } = provision;
    files.retain(|file| login_files.contains(&file.path));
    let manifest = manifest_files::load()?;
    let settings = manifest.settings()?;
    let mut plan = BottlePlan {
        program: Program::of_agent(plan.backend, command),
        files,
        directories: Vec::new(),
        copies: Vec::new(),
        ..plan.with_way_out(settings, &provisioned_env)
    };
    if prepare::terminal() == Terminal::Pty
        && let Some(terminal) = system::variable("TERM")
    {
        plan.env.insert("TERM".to_owned(), EnvEntry::Literal(terminal));
    }
    let launch =
        Launch { plan, provisioned: secrets, renewable, beginning: Beginning::Resumed, agent: Some(kept) };
    let (dry_run, fault, clock) = (resume.dry_run, resume.fault.clone(), resume.clock.clone());
    let options = BottleOptions { dry_run, fault, clock, ..BottleOptions::default() };
    prepare::launch(launch, &options, resume.options.consent(), ui)
}
