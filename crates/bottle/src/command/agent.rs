//! What `start` and `resume` have in common: how the agent is run, and how it logs in.

use std::{
    fs,
    io::{self, IsTerminal},
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use bot_bottle_core::{
    bottle::{Bottle, EffectiveBottle},
    error::{IoContext, IoError},
    gateway_config::Secrets,
    provider::{
        self, AgentProvisionPlan, Conversation, GuestPaths, HostCredentials, MAX_CREDENTIAL_FILE_BYTES,
        Provider, ProvisionInput, ProvisionedSecret, RunMode,
    },
};
use bot_bottle_launch::renewal::{RenewableSecrets, RenewalSource, Renewed, WatchedFile};
use zeroize::Zeroizing;

use super::prepare::Consent;
use crate::{arguments::AgentOptions, exit::CommandError, host_file, system};

impl AgentOptions {
    /// How the agent is run.
    pub(super) fn mode(&self) -> RunMode {
        match &self.prompt {
            Some(prompt) if self.headless => RunMode::Headless { prompt: prompt.clone() },
            Some(_) | None => RunMode::Interactive,
        }
    }

    /// Whether the operator is asked before anything starts.
    pub(super) fn consent(&self) -> Consent {
        if self.yes || self.headless { Consent::Given } else { Consent::Ask }
    }

    /// Replaces a terminal on stdin by `/dev/null` for a headless agent, which would wait for input that never
    /// comes. A pipe or a file stays.
    pub(super) fn prepare_input(&self) -> Result<(), CommandError> {
        if self.headless && io::stdin().is_terminal() {
            let empty = fs::File::open("/dev/null").io_context(|| "opening /dev/null as standard input")?;
            rustix::stdio::dup2_stdin(&empty).io_context(|| "using /dev/null as standard input")?;
        }
        Ok(())
    }
}

/// What a provider brings to a bottle.
pub(super) struct Provisioned {
    pub(super) plan: AgentProvisionPlan,
    /// The credentials, apart.
    pub(super) secrets: Vec<ProvisionedSecret>,
    /// The same, where they can be read again.
    pub(super) renewable: Option<RenewableSecrets>,
}

/// What the provider brings to this bottle.
pub(super) fn provision(
    provider: &'static dyn Provider,
    effective: &EffectiveBottle,
    options: &AgentOptions,
    conversation: Conversation,
    guest: &GuestPaths,
) -> Result<Provisioned, CommandError> {
    let login = Login {
        provider,
        bottle: effective.bottle.clone(),
        prompt: effective.agent.prompt.clone(),
        mode: options.mode(),
        conversation,
        guest: guest.clone(),
        path: login_path(provider, &system::home()?),
        arguments: options.arguments.clone(),
    };
    // Before it is read, so that no change is missed.
    let watched = WatchedFile::new(login.path.clone());
    let mut plan = login.provision()?;
    let secrets = std::mem::take(&mut plan.secrets);
    let renewable = (!secrets.is_empty()).then(|| RenewableSecrets {
        references: secrets.iter().map(|secret| secret.reference.clone()).collect(),
        described: format!("the host's login of {}", provider.name()),
        watched: Some(watched),
        every: None,
        expires: secrets.iter().map(|secret| secret.expires).min(),
        source: Arc::new(login),
    });
    Ok(Provisioned { plan, secrets, renewable })
}

/// Where the host's own login of a provider lies: in the folder that the program's variable names, or in the home.
pub(super) fn login_path(provider: &dyn Provider, home: &Path) -> PathBuf {
    let usual = Path::new(provider.credential_file());
    let moved = system::variable(provider.folder_variable()).map(PathBuf::from);
    match (moved.filter(|folder| folder.is_absolute()), usual.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => home.join(usual),
    }
}

/// An agent's login, and what it is made of.
#[derive(Debug)]
struct Login {
    provider: &'static dyn Provider,
    bottle: Bottle,
    prompt: String,
    mode: RunMode,
    conversation: Conversation,
    guest: GuestPaths,
    /// Of the host's own.
    path: PathBuf,
    arguments: Vec<String>,
}

impl Login {
    /// By the host's own login as it is now.
    fn provision(&self) -> Result<AgentProvisionPlan, CommandError> {
        let provision = self.provider.provision(&ProvisionInput {
            bottle: &self.bottle,
            system_prompt: &self.prompt,
            mode: &self.mode,
            conversation: self.conversation,
            guest: &self.guest,
            credentials: &self.host_credentials()?,
            login_path: &self.path,
            now: system::now(),
            extra_arguments: &self.arguments,
        });
        provision.map_err(CommandError::from_error)
    }

    /// Reads the host's own login, if the bottle forwards it.
    fn host_credentials(&self) -> Result<HostCredentials, CommandError> {
        if !self.bottle.provider.forward_host_credentials {
            return Ok(HostCredentials::NotForwarded);
        }
        let text = host_file::read(&self.path, MAX_CREDENTIAL_FILE_BYTES).and_then(|bytes| {
            let text = str::from_utf8(&bytes).map_err(|_| io::Error::other("it is no text"))?;
            Ok(Zeroizing::new(text.to_owned()))
        });
        match text {
            Ok(text) => Ok(HostCredentials::Found(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(HostCredentials::Missing),
            Err(error) => {
                let (provider, path) = (self.provider.name(), self.path.display());
                let reading = format!("the host's login of `{provider}` cannot be read: {path}");
                Err(IoError::new(reading, error).into())
            }
        }
    }
}

impl RenewalSource for Login {
    fn ask(&self, _cancel: BorrowedFd<'_>) -> Result<Renewed, String> {
        let AgentProvisionPlan { mut files, login_files, secrets, .. } =
            self.provision().map_err(|error| error.message)?;
        files.retain(|file| login_files.contains(&file.path));
        let expires = secrets.iter().map(|secret| secret.expires).min();
        let secrets = secrets.into_iter().map(|secret| (secret.reference, secret.value));
        Ok(Renewed { secrets: Secrets(secrets.collect()), expires, files })
    }
}

pub(super) fn provider_of(effective: &EffectiveBottle) -> Result<&'static dyn Provider, CommandError> {
    let name = effective.bottle.provider.template.as_deref().unwrap_or("claude");
    provider::by_name(name).ok_or_else(|| {
        let known: Vec<&str> = provider::all().iter().map(|provider| provider.name()).collect();
        CommandError::failed(format!("`agent_provider.template: {name}` cannot be started by this version"))
            .with_hint(format!("use one of: {}", known.join(", ")))
    })
}
