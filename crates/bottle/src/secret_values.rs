//! Resolves the names of secrets and variables to values, once, at launch.

use std::{collections::BTreeMap, os::fd::BorrowedFd};

use bot_bottle_core::{
    bottle::EnvEntry,
    gateway_config::GatewayStart,
    plan::BottlePlan,
    provider::ProvisionedSecret,
    secret::{SecretRef, SecretSource},
};
use zeroize::Zeroizing;

use crate::{exit::CommandError, system, ui::Ui};

mod source;

/// The values for the gateway: from the provider, else from where the settings say, else from the host's environment.
/// One error names every reference that is unset.
pub(crate) fn for_gateway(
    plan: &BottlePlan,
    provisioned: Vec<ProvisionedSecret>,
) -> Result<GatewayStart, CommandError> {
    let expires = provisioned.iter().map(|secret| (secret.reference.clone(), secret.expires)).collect();
    let mut known: BTreeMap<SecretRef, Zeroizing<String>> =
        provisioned.into_iter().map(|secret| (secret.reference, secret.value)).collect();
    for (name, source) in &plan.secret_sources {
        known.insert(name.clone(), ask(name, source, None)?);
    }
    Ok(GatewayStart { expires, ..from_environment(&plan.secrets, known)? })
}

/// The value that a source gives. Ends without one when `cancel` has something to read.
pub(crate) fn ask(
    name: &SecretRef,
    source: &SecretSource,
    cancel: Option<BorrowedFd<'_>>,
) -> Result<Zeroizing<String>, CommandError> {
    let value = source::ask(name, &source.origin, cancel)?;
    check(name, &value)?;
    Ok(value)
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
        match system::variable(reference.name()).filter(|value| !value.is_empty()) {
            Some(value) => {
                check(reference, &value)?;
                known.insert(reference.clone(), Zeroizing::new(value));
            }
            None => missing.push(format!("`{reference}`")),
        }
    }
    if missing.is_empty() {
        return Ok(GatewayStart { secrets: known, ..GatewayStart::default() });
    }
    let list = missing.join(", ");
    Err(CommandError::failed(format!("the credential in {list} is not set in the environment"))
        .with_hint(
            format!(
                "export {list} before starting, name its source under `secrets` in settings.yml, or remove the route's \
                 `auth`"
            )
            .replace('`', ""),
        ))
}

/// Refuses a value that is not one word of a header line (line breaks, quotes, blanks, a scheme): copied with
/// too much around it, it would be sent upstream like that. The message does not show the value.
fn check(reference: &SecretRef, value: &str) -> Result<(), CommandError> {
    let first = value.split_whitespace().next().unwrap_or_default();
    let scheme = ["bearer", "basic", "token"].into_iter().find(|scheme| first.eq_ignore_ascii_case(scheme));
    let problem = match value {
        _ if value.contains(['\n', '\r']) => "a line break",
        _ if value.contains('\0') => "a NUL byte",
        _ if value.contains(['"', '\'']) => "quotes",
        _ if scheme.is_some() && first.len() < value.len() => "the scheme (`Bearer `) that the gateway adds",
        _ if value.contains(char::is_whitespace) => "blanks",
        _ if !value.bytes().all(|byte| byte.is_ascii_graphic()) => {
            "characters that do not fit into a header (RFC 9110 section 5.5)"
        }
        _ => return Ok(()),
    };
    Err(CommandError::failed(format!("the credential in `{reference}` holds {problem}"))
        .with_hint(format!("export {reference} with the value alone, as its provider gave it")))
}

/// The part of the agent's environment that is known without asking: literals, and `${VAR}` from the host.
pub(crate) fn from_host(plan: &BottlePlan) -> Result<BTreeMap<String, String>, CommandError> {
    let mut values = BTreeMap::new();
    for (name, entry) in &plan.env {
        let value = match entry {
            EnvEntry::Literal(value) => value.clone(),
            EnvEntry::HostVariable(variable) => system::variable(variable).ok_or_else(|| {
                CommandError::failed(format!(
                    "`env.{name}` is copied from ${variable}, which is not set in the environment"
                ))
                .with_hint(format!("export {variable} before starting, or change `env.{name}` in the bottle"))
            })?,
            EnvEntry::Prompt(_) => continue,
        };
        values.insert(name.clone(), value);
    }
    Ok(values)
}

/// The agent's whole environment, after asking the operator for the values marked `?`.
pub(crate) fn for_agent(
    plan: &BottlePlan,
    mut values: BTreeMap<String, String>,
    ui: &Ui,
) -> Result<BTreeMap<String, String>, CommandError> {
    for (name, entry) in &plan.env {
        if let EnvEntry::Prompt(text) = entry {
            values.insert(name.clone(), ui.ask_secret(&format!("env.{name}"), text)?);
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The host's environment has a variable of this name in every test.
    #[test]
    fn what_a_provider_brings_wins_over_the_environment() {
        let reference = SecretRef::new("PATH");
        let value = Zeroizing::new("of-the-provider".to_owned());
        let known = BTreeMap::from([(reference.clone(), value)]);
        let start = from_environment(std::slice::from_ref(&reference), known).expect("a value");
        assert_eq!(start.secrets[&reference].as_str(), "of-the-provider");
        let start = from_environment(std::slice::from_ref(&reference), BTreeMap::new()).expect("a value");
        assert_ne!(start.secrets[&reference].as_str(), "of-the-provider");
    }
}
