//! What `start` and `resume` have in common: how the agent is run, and how it logs in.

use std::{
    fs,
    io::{self, IsTerminal},
};

use bot_bottle_core::{
    bottle::EffectiveBottle,
    error::{IoContext, IoError},
    provider::{
        self, AgentProvisionPlan, Conversation, GuestPaths, HostCredentials, MAX_CREDENTIAL_FILE_BYTES,
        Provider, ProvisionInput, ProvisionedSecret, RunMode,
    },
};
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

/// What the provider brings to this bottle, and the credentials apart.
pub(super) fn provision(
    provider: &dyn Provider,
    effective: &EffectiveBottle,
    options: &AgentOptions,
    conversation: Conversation,
    guest: &GuestPaths,
) -> Result<(AgentProvisionPlan, Vec<ProvisionedSecret>), CommandError> {
    let credentials = host_credentials(effective, provider)?;
    let mut provision = provider
        .provision(&ProvisionInput {
            bottle: &effective.bottle,
            system_prompt: &effective.agent.prompt,
            mode: &options.mode(),
            conversation,
            guest,
            credentials: &credentials,
            now: system::now(),
            extra_arguments: &options.arguments,
        })
        .map_err(CommandError::from_error)?;
    let secrets = std::mem::take(&mut provision.secrets);
    Ok((provision, secrets))
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
fn host_credentials(
    effective: &EffectiveBottle,
    provider: &dyn Provider,
) -> Result<HostCredentials, CommandError> {
    if !effective.bottle.provider.forward_host_credentials {
        return Ok(HostCredentials::NotForwarded);
    }
    let path = system::home()?.join(provider.credential_file());
    let text = host_file::read(&path, MAX_CREDENTIAL_FILE_BYTES).and_then(|bytes| {
        let text = str::from_utf8(&bytes).map_err(|_| io::Error::other("it is no text"))?;
        Ok(Zeroizing::new(text.to_owned()))
    });
    match text {
        Ok(text) => Ok(HostCredentials::Found(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(HostCredentials::Missing),
        Err(error) => Err(IoError::new(
            format!("the host's login of `{}` cannot be read: {}", provider.name(), path.display()),
            error,
        )
        .into()),
    }
}
