//! `resume`: a run goes on, with the agent's conversation, its work and its policy.

use std::process::ExitCode;

use bot_bottle_core::{
    bottle::EnvEntry,
    gateway_config::UpstreamConfig,
    plan::{BottlePlan, Program, ProgramSource},
    provider::{Conversation, ProvisionInput, RunMode},
};
use bot_bottle_launch::{
    kept::{self, Resumable},
    request::{Beginning, Terminal},
};

use super::{
    prepare::{self, Consent, Launch},
    start::{empty_terminal_input, host_credentials, provider_of},
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
    let Resumable { plan, agent } = kept::resumable(&home, &resume.run).map_err(CommandError::from_error)?;
    if resume.headless {
        empty_terminal_input()?;
    }
    let provider = provider_of(&agent.effective)?;
    let mode = match &resume.prompt {
        Some(prompt) => RunMode::Headless { prompt: prompt.clone() },
        None => RunMode::Interactive,
    };
    let credentials = host_credentials(&agent.effective, provider)?;
    let mut provision = provider
        .provision(&ProvisionInput {
            bottle: &agent.effective.bottle,
            system_prompt: &agent.effective.agent.prompt,
            mode: &mode,
            conversation: Conversation::Last,
            guest: &plan.guest,
            credentials: &credentials,
            now: system::now(),
            extra_arguments: &resume.arguments,
        })
        .map_err(CommandError::from_error)?;
    drop(credentials);
    let secrets = std::mem::take(&mut provision.secrets);
    let login_files = std::mem::take(&mut provision.login_files);
    provision.files.retain(|file| login_files.contains(&file.path));
    // Where upstream hosts are is a setting of this host, and no part of the policy.
    let manifest = manifest_files::load()?;
    let settings = manifest.settings()?;
    let mut plan = BottlePlan {
        program: Program {
            source: ProgramSource::AgentProgram(provision.command.first().cloned().unwrap_or_default()),
            command: provision.command,
        },
        files: provision.files,
        directories: Vec::new(),
        copies: Vec::new(),
        upstream: UpstreamConfig {
            resolve: settings.egress.resolve.clone(),
            extra_ca: settings.egress.extra_ca.clone(),
        },
        ..plan
    };
    if prepare::terminal() == Terminal::Pty
        && let Some(terminal) = system::variable("TERM")
    {
        plan.env.insert("TERM".to_owned(), EnvEntry::Literal(terminal));
    }
    let launch = Launch { plan, provisioned: secrets, beginning: Beginning::Resumed, agent: Some(agent) };
    let consent = if resume.yes || resume.headless { Consent::Given } else { Consent::Ask };
    let options = BottleOptions { dry_run: resume.dry_run, ..BottleOptions::default() };
    prepare::launch(launch, &options, consent, ui)
}
