//! The agent's environment, merged from its sources.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    bottle::{Bottle, EnvEntry},
    provider::{AgentProvisionPlan, CaFile, GuestPaths},
    secret::SecretRef,
};

use super::{AGENT_PROGRAM_FOLDER, PlanError, PlanInput, trust_environment};

/// `TERM` where the operator's is unknown; practically every emulator supports it.
const DEFAULT_TERMINAL: &str = "xterm-256color";

/// The user inside the bottle.
const USER: &str = "agent";

/// Merges base, trust, provider and, last, the bottle's `env:`. The bottle may replace preferences (`PATH`,
/// `LANG`, a provider's switch). Replacing a variable that the gateway depends on is an error, because
/// nothing would be reachable.
pub(super) fn merge(
    input: &PlanInput<'_>,
    bottle: &Bottle,
    provision: Option<&AgentProvisionPlan>,
    secrets: &BTreeSet<SecretRef>,
) -> Result<BTreeMap<String, EnvEntry>, PlanError> {
    let mut trust = trust_environment(input.guest);
    for (name, file) in provision.into_iter().flat_map(|provision| &provision.ca_variables) {
        let path = match file {
            CaFile::Certificate => &input.guest.ca_certificate,
            CaFile::Bundle => &input.guest.ca_bundle,
        };
        trust.insert(name.clone(), path.to_string_lossy().into_owned());
    }
    for (name, entry) in &bottle.env {
        check(name, entry, &trust, provision, secrets)?;
    }
    let mut env = base(input.guest, input.terminal);
    env.extend(trust);
    env.extend(provision.map(|provision| provision.env.clone()).unwrap_or_default());
    let mut env: BTreeMap<String, EnvEntry> =
        env.into_iter().map(|(name, value)| (name, EnvEntry::Literal(value))).collect();
    env.extend(bottle.env.clone());
    Ok(env)
}

fn check(
    name: &str,
    entry: &EnvEntry,
    trust: &BTreeMap<String, String>,
    provision: Option<&AgentProvisionPlan>,
    secrets: &BTreeSet<SecretRef>,
) -> Result<(), PlanError> {
    let is_variable = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_variable {
        return Err(PlanError::VariableName(name.to_owned()));
    }
    let reserved = |why: &str, hint: &str| {
        Err(PlanError::ReservedVariable { name: name.to_owned(), why: why.to_owned(), hint: hint.to_owned() })
    };
    // Compare without case: programs read both `HTTPS_PROXY` and `https_proxy`.
    if trust.keys().any(|reserved| reserved.eq_ignore_ascii_case(name)) {
        return reserved(
            "programs find the gateway and its CA by this variable",
            "remove it; for an authority of your own, name it in settings.yml `egress.extra_ca`",
        );
    }
    if name == "HOME" {
        return reserved("the bottle's home has a fixed place", "remove it");
    }
    if let Some(hint) = provision.and_then(|provision| provision.reserved_env.get(name)) {
        return reserved("it would replace the login or the settings that the provider brings", hint);
    }
    match entry {
        EnvEntry::HostVariable(variable) if secrets.contains(&SecretRef::new(variable)) => {
            Err(PlanError::CredentialInEnvironment { name: name.to_owned(), variable: variable.clone() })
        }
        EnvEntry::Literal(value) if value.contains('\0') => Err(PlanError::VariableValue(name.to_owned())),
        EnvEntry::Literal(_) | EnvEntry::HostVariable(_) | EnvEntry::Prompt(_) => Ok(()),
    }
}

fn base(guest: &GuestPaths, terminal: Option<&str>) -> BTreeMap<String, String> {
    let home = guest.home.to_string_lossy();
    let path = format!(
        "{home}/.local/bin:{AGENT_PROGRAM_FOLDER}:{AGENT_PROGRAM_FOLDER}/bin:\
         /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    );
    [
        ("HOME", home.as_ref()),
        ("USER", USER),
        ("LOGNAME", USER),
        // Agents run commands with `$SHELL`, and some accept only bash or zsh.
        ("SHELL", "/bin/bash"),
        ("PATH", &path),
        ("LANG", "C.UTF-8"),
        ("TERM", terminal.unwrap_or(DEFAULT_TERMINAL)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}
