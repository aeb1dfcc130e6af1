//! `run`: any program in a bottle.

use std::process::ExitCode;

use bot_bottle_core::{
    bottle::{Bottle, EnvEntry},
    plan::{PlanInput, Program, ProgramSource, plan_program},
    provider::GuestPaths,
};

use bot_bottle_launch::request::{Beginning, Terminal};

use super::prepare::{self, Consent, Launch};
use crate::{arguments::Run, exit::CommandError, manifest_files, system, ui::Ui};

/// Runs a program and passes on its exit code.
pub(super) fn run(run: &Run, ui: &Ui) -> Result<ExitCode, CommandError> {
    let manifest = manifest_files::load()?;
    // Without `--bottle` only the settings apply, but a broken manifest is still reported.
    let mut bottle = if run.bottle.bottles.is_empty() {
        Bottle::default()
    } else {
        manifest.fold_bottles(&run.bottle.bottles)?
    };
    let settings = manifest.settings()?;
    let backend = prepare::backend(&run.bottle, &bottle, settings)?;
    for written in &run.env {
        let (name, entry) = variable(written)?;
        bottle.env.insert(name, entry);
    }
    let identity = prepare::identity("run")?;
    let workspace = prepare::workspace(&run.bottle)?;
    let guest = GuestPaths::default();
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
    let source = if run.own_binary { ProgramSource::OwnBinary } else { ProgramSource::Bottle };
    let program = Program { command: run.command.clone(), source };
    let plan =
        plan_program(&input, &bottle, &run.bottle.bottles, program).map_err(CommandError::from_error)?;
    let launch =
        Launch { plan, provisioned: Vec::new(), renewable: None, beginning: Beginning::New, agent: None };
    prepare::launch(launch, &run.bottle, Consent::Silent, ui)
}

/// `NAME=VALUE`, or `NAME` for the value of the environment.
fn variable(written: &str) -> Result<(String, EnvEntry), CommandError> {
    let (name, entry) = match written.split_once('=') {
        Some((name, value)) => (name, EnvEntry::Literal(value.to_owned())),
        None => (written, EnvEntry::HostVariable(written.to_owned())),
    };
    let valid = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if valid {
        Ok((name.to_owned(), entry))
    } else {
        Err(CommandError::usage(format!("`--env {written}` does not begin with the name of a variable")))
    }
}
