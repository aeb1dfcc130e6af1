//! `gateway`: the gateway's process, under a launcher or alone.

use std::{collections::BTreeMap, fs::File, io::Read, os::unix::net::UnixStream, process::ExitCode};

use bot_bottle_core::{
    gateway_config::{GatewayConfig, GatewayStart},
    policy::Route,
    secret::SecretRef,
};
use zeroize::Zeroizing;

use crate::{arguments::Gateway, exit::CommandError, secret_values, system, ui::Ui};

/// The most that is read from a descriptor with secrets, in bytes.
const MAX_SECRETS_BYTES: u64 = 1 << 20;

/// Serves until a signal or the end of the launcher.
pub(super) fn run(gateway: &Gateway, ui: &Ui) -> Result<ExitCode, CommandError> {
    system::start_logging();
    let config = bot_bottle_gateway::read_config(&gateway.config).map_err(CommandError::from_error)?;
    if let Some(descriptor) = gateway.control_fd {
        let control = UnixStream::from(system::inherited_descriptor(descriptor)?);
        bot_bottle_gateway::serve_controlled(&config, control).map_err(CommandError::from_error)?;
        return Ok(ExitCode::SUCCESS);
    }
    let secrets = secrets(gateway, &config)?;
    bot_bottle_gateway::serve_alone(&config, secrets, |ready, addresses| {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        ui.done(&format!("the gateway `{}` listens on {}", config.name, addresses.join(", ")));
        ui.progress(&format!("its CA has the SHA-256 fingerprint {}", ready.ca_fingerprint));
    })
    .map_err(CommandError::from_error)?;
    Ok(ExitCode::SUCCESS)
}

/// From the descriptor, or from the environment by the names that the routes and the proxy's login use.
fn secrets(gateway: &Gateway, config: &GatewayConfig) -> Result<GatewayStart, CommandError> {
    let routes = config.policy.routes.iter().filter_map(Route::credential);
    let of_routes = routes.map(|credential| &credential.token_ref);
    let references: Vec<SecretRef> = of_routes.chain(config.upstream.secret()).cloned().collect();
    let Some(descriptor) = gateway.secrets_fd else {
        return secret_values::from_environment(&references, BTreeMap::new());
    };
    let unreadable = |why: String| {
        CommandError::failed(format!("the secrets on descriptor {descriptor} cannot be read: {why}"))
    };
    let mut text = Zeroizing::new(Vec::new());
    File::from(system::inherited_descriptor(descriptor)?)
        .take(MAX_SECRETS_BYTES)
        .read_to_end(&mut text)
        .map_err(|error| unreadable(error.to_string()))?;
    // The parser's own message could quote a secret.
    let known = serde_json::from_slice(&text).map_err(|error| {
        unreadable(format!("not a JSON object of strings (line {}, column {})", error.line(), error.column()))
    })?;
    secret_values::from_environment(&references, known)
}
