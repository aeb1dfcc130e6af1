//! Connects the gateway to the sandbox.

use crate::{
    backend::{Gateway, Sandbox},
    error::LaunchError,
};
use bot_bottle_core::gateway_config::GatewayStart;

/// Hands the gateway the secrets and the sockets of the sandbox, in one message: without the sockets it could
/// listen nowhere, and without the secrets it would have to serve requests that it cannot authenticate.
pub(crate) fn connect(
    gateway: &mut dyn Gateway,
    sandbox: &mut dyn Sandbox,
    secrets: GatewayStart,
) -> Result<(), LaunchError> {
    let listeners = sandbox.listeners()?;
    gateway.hand_over(secrets, listeners).map_err(|_| {
        // It has ended, and its log says why.
        let why = "it ended before it took its listeners".to_owned();
        gateway.ready().err().unwrap_or(LaunchError::Gateway { why })
    })
}
