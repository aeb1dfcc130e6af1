//! Builds a plan from a bottle and a provider.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::{
    bottle::{BackendName, Bottle, EffectiveBottle, EnvEntry, ProviderSettings, Settings},
    error::Hint,
    gateway_config::UpstreamConfig,
    host::HostPattern,
    identity::Identity,
    policy::{Policy, Route},
    provider::{self, AgentProvisionPlan, GuestPaths, ProviderError, RunMode},
    secret::SecretRef,
};

use super::{
    BottlePlan, HostCopy, ImageSource, Program, Unenforced, git_config::GitConfigError, trust_files,
    unenforced, variables,
};

/// The input of a plan besides bottle and provider.
#[derive(Debug, Clone, Copy)]
pub struct PlanInput<'a> {
    /// Name of the run.
    pub identity: &'a Identity,
    /// The backend that was chosen.
    pub backend: BackendName,
    /// Defaults of the host.
    pub settings: &'a Settings,
    /// The operator's folder to copy in.
    pub workspace: Option<&'a PathBuf>,
    /// Paths inside the bottle.
    pub guest: &'a GuestPaths,
    /// The operator's home, which has the skills.
    pub host_home: &'a Path,
    /// The operator's `TERM`, if the program runs on their terminal.
    pub terminal: Option<&'a str>,
}

/// Why a plan could not be built.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlanError {
    /// The bottle uses what this version or backend cannot enforce.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Unenforced(Vec<Unenforced>),
    /// The provider cannot serve the bottle.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// A route for a host that issues credentials.
    #[error("egress.routes[{route}]: {host} hands out credentials and is never routable")]
    ForbiddenHost {
        /// As written in the manifest.
        route: HostPattern,
        /// The host that issues credentials.
        host: HostPattern,
    },
    /// A variable that the bottle's function depends on.
    #[error("env.{name}: {why}")]
    ReservedVariable {
        /// The variable.
        name: String,
        /// Why it cannot be set.
        why: String,
        /// What to do instead.
        hint: String,
    },
    /// A variable that would carry a credential into the bottle that a route injects outside.
    #[error("env.{name}: the bottle would hold ${{{variable}}}, the credential that the gateway injects")]
    CredentialInEnvironment {
        /// The variable of the bottle.
        name: String,
        /// The variable of the host.
        variable: String,
    },
    /// An invalid name of a variable.
    #[error("env: `{0}` is not the name of a variable")]
    VariableName(String),
    /// A value with a NUL byte.
    #[error("env.{0}: the value has a NUL byte")]
    VariableValue(String),
    /// A variable is asked for on the terminal, but the run has none.
    #[error("env.{0}: the value is asked for on the terminal, and this run has none")]
    PromptWithoutTerminal(String),
    /// The git identity is invalid.
    #[error(transparent)]
    GitConfig(#[from] GitConfigError),
}

impl Hint for PlanError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::Unenforced(found) => {
                let hints: Vec<_> = found.iter().map(|one| format!("{}: {}", one.key, one.hint)).collect();
                hints.join("\n").into()
            }
            Self::Provider(error) => return error.hint(),
            Self::GitConfig(error) => return error.hint(),
            Self::ForbiddenHost { .. } => {
                "remove the route; log in on the host, never in a bottle, whose login is a placeholder".into()
            }
            Self::ReservedVariable { hint, .. } => hint.into(),
            Self::CredentialInEnvironment { name, .. } => format!(
                "remove `{name}` from env; the gateway adds the credential to every request that the route allows"
            )
            .into(),
            Self::VariableName(_) => {
                "use letters, digits and `_`, and no digit at the start (POSIX.1-2017 section 8.1)".into()
            }
            Self::VariableValue(_) => "remove the NUL byte".into(),
            Self::PromptWithoutTerminal(name) => {
                format!("write `{name}: ${{VARIABLE}}` to copy it from the host, or run without --headless")
                    .into()
            }
        })
    }
}

/// The plan for an agent, from its effective bottle and its provider's provision.
///
/// # Errors
/// See [`PlanError`].
pub fn plan_agent(
    input: &PlanInput<'_>,
    bottle: &EffectiveBottle,
    provision: &AgentProvisionPlan,
    mode: &RunMode,
) -> Result<BottlePlan, PlanError> {
    let program = Program::of_agent(input.backend, provision.command.clone());
    let mut plan = build(input, &bottle.bottle, &bottle.bottle_names, Some(provision), program)?;
    match mode {
        RunMode::Interactive => {}
        RunMode::Headless { .. } => {
            let asked = plan.env.iter().find(|(_, entry)| matches!(entry, EnvEntry::Prompt(_)));
            if let Some((name, _)) = asked {
                return Err(PlanError::PromptWithoutTerminal(name.clone()));
            }
        }
    }
    plan.skills.clone_from(&bottle.agent.skills);
    plan.copies = bottle
        .agent
        .skills
        .iter()
        .map(|skill| {
            let folder = provision.skills_folder.join(skill);
            HostCopy { source: input.host_home.join(&folder), target: input.guest.home.join(&folder) }
        })
        .collect();
    Ok(plan)
}

/// The plan for a program in a bottle, without a provider.
///
/// # Errors
/// See [`PlanError`].
pub fn plan_program(
    input: &PlanInput<'_>,
    bottle: &Bottle,
    bottle_names: &[String],
    program: Program,
) -> Result<BottlePlan, PlanError> {
    let image_alone = if input.backend.has_images() {
        let ProviderSettings { image, dockerfile, .. } = bottle.provider.clone();
        ProviderSettings { image, dockerfile, ..ProviderSettings::default() }
    } else {
        ProviderSettings::default()
    };
    let without_provider = Bottle { provider: image_alone, ..bottle.clone() };
    let mut plan = build(input, &without_provider, bottle_names, None, program)?;
    if bottle.provider != without_provider.provider {
        plan.notes.push(
            "agent_provider has no part in this run: no provider's route or credential is there".to_owned(),
        );
    }
    Ok(plan)
}

/// The plan, still without the skills of an agent.
fn build(
    input: &PlanInput<'_>,
    bottle: &Bottle,
    bottle_names: &[String],
    provision: Option<&AgentProvisionPlan>,
    program: Program,
) -> Result<BottlePlan, PlanError> {
    let unenforced = unenforced(bottle, input.settings, input.backend);
    if !unenforced.is_empty() {
        return Err(PlanError::Unenforced(unenforced));
    }
    let mut notes = Vec::new();
    let policy = policy(bottle, provision, &mut notes)?;
    let upstream = UpstreamConfig::from(&input.settings.egress);
    let secrets = secrets_of(&policy, &upstream);
    let env = variables::merge(input, bottle, provision, &secrets)?;
    let secrets: Vec<SecretRef> = secrets.into_iter().collect();
    let provided = provision.map(|provision| &provision.provisioned_env[..]).unwrap_or_default();
    let secret_sources = input.settings.sources_of(&secrets, provided);
    notes.extend(secret_sources.iter().map(|(name, source)| format!("{name} comes from {source}")));
    let hidden_env_names = env.keys().filter(|name| !bottle.env.contains_key(*name)).cloned().collect();
    let mut files = provision.map(|provision| provision.files.clone()).unwrap_or_default();
    files.extend(super::git_config::file(&input.guest.home, &bottle.git.user)?);
    notes.extend(provision.into_iter().flat_map(|provision| provision.notes.clone()));
    if bottle.supervise.is_none() {
        notes.push(
            "there is no supervisor yet: what no route allows is refused, and never waits for an approval"
                .to_owned(),
        );
    }
    notes.extend(upstream.proxy.as_ref().map(|proxy| {
        let url = &proxy.url;
        format!("hosts are reached through the proxy {url}, but for those in no_proxy and resolve")
    }));
    notes.push(
        "content is not scanned for secrets yet: hosts, ports, methods, paths and headers are what holds"
            .to_owned(),
    );
    Ok(BottlePlan {
        bottle_names: bottle_names.to_vec(),
        provider: provision.map(|provision| provision.provider.clone()),
        image: ImageSource::choose(
            input.backend,
            &bottle.provider,
            provision.map(|provision| provision.provider.as_str()),
        ),
        guest: input.guest.clone(),
        env,
        hidden_env_names,
        files,
        system_files: trust_files(input.guest),
        directories: provision.map(|provision| provision.directories.clone()).unwrap_or_default(),
        workspace: input.workspace.cloned(),
        workspace_exclude: bottle.workspace.exclude.clone(),
        git_user: bottle.git.user.clone(),
        policy,
        upstream,
        secrets,
        secret_sources,
        limits: bottle.limits.clone(),
        notes,
        ..BottlePlan::for_program(input.identity.clone(), input.backend, program)
    })
}

/// The secrets that a gateway with this policy and this way out is given.
fn secrets_of(policy: &Policy, upstream: &UpstreamConfig) -> BTreeSet<SecretRef> {
    let routes = policy.routes.iter().filter_map(Route::credential);
    routes.map(|credential| &credential.token_ref).chain(upstream.secret()).cloned().collect()
}

impl BottlePlan {
    /// The same with the way out that these settings say. Where hosts are is a setting of the host, and no part of the
    /// policy. `provided` are the secrets that the provider brings.
    #[must_use]
    pub fn with_way_out(self, settings: &Settings, provided: &[SecretRef]) -> Self {
        let upstream = UpstreamConfig::from(&settings.egress);
        let secrets: Vec<SecretRef> = secrets_of(&self.policy, &upstream).into_iter().collect();
        Self { secret_sources: settings.sources_of(&secrets, provided), secrets, upstream, ..self }
    }
}

/// The provider's routes, then those of the manifest for other hosts.
fn policy(
    bottle: &Bottle,
    provision: Option<&AgentProvisionPlan>,
    notes: &mut Vec<String>,
) -> Result<Policy, PlanError> {
    let mut forbidden_hosts = provider::forbidden_hosts();
    let mut routes = Vec::new();
    if let Some(provision) = provision {
        forbidden_hosts.extend(provision.forbidden_hosts.iter().cloned());
        routes.clone_from(&provision.egress_routes);
        provider::widen(&mut routes, &provision.provider, &bottle.provider.extra_routes)?;
    }
    // The operator may have named such a host for the provider, too.
    for route in routes.iter().chain(&bottle.egress.routes) {
        if let Some(host) = forbidden_hosts.iter().find(|forbidden| covers(forbidden, &route.host)) {
            return Err(PlanError::ForbiddenHost { route: route.host.clone(), host: host.clone() });
        }
    }
    let owned = routes.len();
    for route in &bottle.egress.routes {
        for host in forbidden_hosts.iter().filter(|forbidden| covers(&route.host, forbidden)) {
            notes.push(format!(
                "egress.routes[{}] does not open {host}, which hands out credentials and is never routable",
                route.host
            ));
        }
        if routes[..owned].iter().any(|provided| provided.host == route.host) {
            notes.push(format!(
                "egress.routes[{}] is dropped: {} brings its own route for this host",
                route.host,
                provision.map_or("the provider", |provision| provision.provider.as_str())
            ));
        } else {
            routes.push(route.clone());
        }
    }
    Ok(Policy { routes, forbidden_hosts })
}

/// Whether every name of `inner` is one of `outer`.
fn covers(outer: &HostPattern, inner: &HostPattern) -> bool {
    match inner {
        HostPattern::Exact(name) => outer.matches(name),
        HostPattern::Below(parent) => match outer {
            HostPattern::Exact(_) => false,
            HostPattern::Below(outer_parent) => outer_parent == parent || outer.matches(parent),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wider_pattern_covers_a_narrower_one() {
        let covers = |outer: &str, inner: &str| {
            covers(&outer.parse().expect("a pattern"), &inner.parse().expect("a pattern"))
        };
        assert!(covers("a.org", "a.org"));
        assert!(covers("*.a.org", "b.a.org"));
        assert!(covers("*.a.org", "*.a.org"));
        assert!(covers("*.a.org", "*.b.a.org"));
        assert!(!covers("*.a.org", "a.org"));
        assert!(!covers("a.org", "*.a.org"));
        assert!(!covers("*.b.a.org", "*.a.org"));
    }
}
