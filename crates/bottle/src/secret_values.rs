//! Resolves references to values, once, at launch.

use std::collections::BTreeMap;

use bot_bottle_core::{
    bottle::EnvEntry, gateway_config::GatewayStart, plan::BottlePlan, provider::ProvisionedSecret,
    secret::SecretRef,
};
use zeroize::Zeroizing;

use crate::{edge, exit::CommandError, ui::Ui};

/// The values that the gateway is given: what the provider brought first, then the host's environment.
/// Every reference that is unset is named in one error.
pub(crate) fn for_gateway(
    plan: &BottlePlan,
    provisioned: Vec<ProvisionedSecret>,
) -> Result<GatewayStart, CommandError> {
    let provisioned: BTreeMap<SecretRef, Zeroizing<String>> =
        provisioned.into_iter().map(|secret| (secret.reference, secret.value)).collect();
    from_environment(&plan.secrets, provisioned)
}

/// The values behind references, from the host's environment where `known` has none.
pub(crate) fn from_environment(
    references: &[SecretRef],
    mut known: BTreeMap<SecretRef, Zeroizing<String>>,
) -> Result<GatewayStart, CommandError> {
    let mut missing = Vec::new();
    for reference in references {
        if known.contains_key(reference) {
            continue;
        }
        match edge::variable(reference.name()).filter(|value| !value.is_empty()) {
            Some(value) => {
                known.insert(reference.clone(), Zeroizing::new(value));
            }
            None => missing.push(format!("`{reference}`")),
        }
    }
    if missing.is_empty() {
        return Ok(GatewayStart { secrets: known, doors: Vec::new() });
    }
    let list = missing.join(", ");
    Err(CommandError::failed(format!("the credential in {list} is not set in the environment"))
        .hint(format!("export {list} before starting, or remove the route's `auth`").replace('`', "")))
}

/// The environment of the agent: literals as written, `${VAR}` from the host, `?` from the terminal.
pub(crate) fn for_agent(plan: &BottlePlan, ui: &Ui) -> Result<BTreeMap<String, String>, CommandError> {
    let mut values = BTreeMap::new();
    for (name, entry) in &plan.env {
        let value = match entry {
            EnvEntry::Literal(value) => value.clone(),
            EnvEntry::HostVariable(variable) => edge::variable(variable).ok_or_else(|| {
                CommandError::failed(format!(
                    "`env.{name}` is copied from ${variable}, which is not set in the environment"
                ))
                .hint(format!("export {variable} before starting, or change `env.{name}` in the bottle"))
            })?,
            EnvEntry::Prompt(text) => ui.ask_secret(&format!("env.{name}"), text)?,
        };
        values.insert(name.clone(), value);
    }
    Ok(values)
}
