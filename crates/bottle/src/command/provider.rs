//! `provider`: agent programs.

use std::process::ExitCode;

use bot_bottle_core::provider;
use serde::Serialize;

use super::prepare;
use crate::{
    arguments::{ProviderCommand, ProviderInstall},
    exit::CommandError,
    provider_install::{self, Network, Order, Registry, Source},
    system,
    ui::{FAINT, STRONG, Table, Ui},
};

/// Runs the subcommand.
pub(super) fn run(command: &ProviderCommand, ui: &Ui) -> Result<ExitCode, CommandError> {
    match command {
        ProviderCommand::Install(install) => self::install(install, ui),
        ProviderCommand::List => list(ui),
    }
}

#[derive(Debug, Serialize)]
struct Listed {
    name: &'static str,
    pinned_version: &'static str,
    program: Option<String>,
}

fn list(ui: &Ui) -> Result<ExitCode, CommandError> {
    let home = prepare::home()?;
    let listed: Vec<Listed> = provider::all()
        .into_iter()
        .map(|provider| Listed {
            name: provider.name(),
            pinned_version: provider
                .package(std::env::consts::ARCH)
                .map_or("none for this platform", |package| package.version),
            program: prepare::find_program(&home, provider)
                .ok()
                .map(|program| program.source.display().to_string()),
        })
        .collect();
    ui.result(&listed, |listed| {
        let mut table = Table::default();
        for provider in listed {
            let program = provider.program.clone().unwrap_or_else(|| "not found".to_owned());
            table.row([
                (provider.name.to_owned(), STRONG),
                (program, anstyle::Style::new()),
                (format!("pinned {}", provider.pinned_version), FAINT),
            ]);
        }
        table.render()
    });
    Ok(ExitCode::SUCCESS)
}

fn install(install: &ProviderInstall, ui: &Ui) -> Result<ExitCode, CommandError> {
    let provider = provider::by_name(&install.provider).ok_or_else(|| {
        let known: Vec<&str> = provider::all().iter().map(|provider| provider.name()).collect();
        CommandError::usage(format!("`{}` is not a provider", install.provider))
            .with_hint(format!("use one of: {}", known.join(", ")))
    })?;
    let package = provider.package(std::env::consts::ARCH).ok_or_else(|| {
        CommandError::failed(format!("there is no package of {} for this processor", provider.name()))
    })?;
    let source = match &install.archive {
        Some(archive) => Source::Archive(archive.clone()),
        None => Source::Registry(
            Registry::find(install.registry.as_deref(), package.name, &system::home()?, &system::variable)
                .map_err(CommandError::from_error)?,
            Network::from_environment(),
        ),
    };
    let providers_folder = prepare::home()?.providers();
    let order = Order { package, provider: provider.name(), providers_folder: &providers_folder, source };
    let installed = provider_install::install(&order, &mut |progress| {
        let total = progress.total.map_or_else(String::new, |total| format!(" of {}", total >> 20));
        ui.progress_line(&format!("{} MiB{total}", progress.received >> 20));
    });
    ui.end_progress_line();
    let installed = installed.map_err(CommandError::from_error)?;
    ui.result(&serde_json::json!({"executable": installed.executable, "already": installed.already}), |_| {
        let state = if installed.already { "was already installed" } else { "is installed" };
        format!("{} {} {state}: {}", provider.name(), package.version, installed.executable.display())
    });
    Ok(ExitCode::SUCCESS)
}
