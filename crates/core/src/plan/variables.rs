//! The agent's whole environment, from everything that has a say in it.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    bottle::{Bottle, EnvEntry},
    provider::{AgentProvisionPlan, CaFile, GuestPaths},
    secret::SecretRef,
};

use super::{AGENT_PROGRAM_FOLDER, PlanError, PlanInput, trust_environment};

/// The terminal where the operator's is not known: what practically every emulator understands.
const DEFAULT_TERMINAL: &str = "xterm-256color";

/// The user inside the bottle.
const USER: &str = "agent";

/// Base, trust, provider, and the bottle's `env:` last. The bottle's may replace what is a preference (`PATH`,
/// `LANG`, a provider's switch); what the boundary works by it may not, and saying so beats a bottle in which
/// nothing is reachable.
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
    // Some programs read the other case as well: `No_Proxy` is nobody's, `HTTPS_PROXY` and `https_proxy` are.
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
        // Agents run commands in it, and some accept bash or zsh alone.
        ("SHELL", "/bin/bash"),
        ("PATH", &path),
        ("LANG", "C.UTF-8"),
        ("TERM", terminal.unwrap_or(DEFAULT_TERMINAL)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}
