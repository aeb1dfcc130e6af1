//! A bottle and an agent as the operator meant them, after parsing, merging and overlaying.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    gateway_config::FixedAddress,
    host::HostPattern,
    limits::Limits,
    policy::Route,
    provider::{BaseUrl, ExtraRoute},
    secret::{SecretRef, SecretSource},
    upstream_proxy::UpstreamProxy,
};

/// A boundary: what an agent runs in. Comes from the operator's home only.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Bottle {
    /// `None`: not said in the manifest.
    pub backend: Option<BackendName>,
    /// Which agent program, and how it logs in.
    pub provider: ProviderSettings,
    /// The environment of the agent, besides what the provider and the backend set.
    pub env: BTreeMap<String, EnvEntry>,
    /// Author identity and remotes.
    pub git: GitSettings,
    /// What may be reached.
    pub egress: EgressSettings,
    /// What becomes of the operator's folder.
    #[serde(default)]
    pub workspace: WorkspaceSettings,
    /// `None`: not said in the manifest, which means true.
    pub supervise: Option<bool>,
    /// What may be used.
    pub limits: Limits,
}

/// `workspace` of a bottle.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceSettings {
    /// How the agent gets the operator's folder.
    pub mode: WorkspaceMode,
    /// What is not copied: patterns of gitignore(5).
    pub exclude: Vec<String>,
    /// Where it lies in the bottle.
    pub path: WorkspacePath,
}

/// How the agent gets the operator's folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkspaceMode {
    /// A copy.
    #[default]
    Copy,
    /// The folder itself.
    Live,
}

/// Where a workspace lies in the bottle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkspacePath {
    /// Below the agent's home.
    #[default]
    Default,
    /// Where it lies on the host.
    Same,
}

/// How a plan becomes a running bottle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendName {
    /// Linux namespaces, without a daemon, an image or root.
    Native,
    /// A container engine that speaks Docker's API.
    Docker,
    /// A microVM by the `smolvm` program.
    Smolmachines,
    /// A pod.
    Kubernetes,
}

impl BackendName {
    /// Whether a bottle's programs come from an image, and not from the host.
    #[must_use]
    pub fn has_images(self) -> bool {
        match self {
            Self::Native => false,
            Self::Docker | Self::Smolmachines | Self::Kubernetes => true,
        }
    }
}

/// `agent_provider` of a bottle.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProviderSettings {
    /// The provider's name; `None`: not said, which means `claude`.
    pub template: Option<String>,
    /// For image backends: a reference. Never together with `dockerfile`.
    #[serde(default)]
    pub image: Option<String>,
    /// For image backends: absolute, resolved against the manifest's folder.
    pub dockerfile: Option<PathBuf>,
    /// Names the variable of the host that holds the token.
    pub auth_token: Option<SecretRef>,
    /// The host's own login is read when the bottle is prepared.
    pub forward_host_credentials: bool,
    /// Names the variable of the host that holds an API key.
    #[serde(default)]
    pub api_key: Option<SecretRef>,
    /// Where the model is asked instead of the provider's own service.
    #[serde(default)]
    pub base_url: Option<BaseUrl>,
    /// What the agent may reach besides its provider's own routes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_routes: Vec<ExtraRoute>,
    /// What a provider declares.
    pub settings: serde_json::Map<String, serde_json::Value>,
}

/// Where the value of a variable comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnvEntry {
    /// As written.
    Literal(String),
    /// Copied from this variable of the host at launch.
    HostVariable(String),
    /// Asked for on the terminal at launch with this text, and never echoed.
    Prompt(String),
}

/// `git` of a bottle.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GitSettings {
    /// Who commits.
    pub user: GitUser,
    /// Served to the bottle by the git gate, by name.
    pub remotes: BTreeMap<String, GitRemote>,
}

/// Author identity. After the agent's overlay each field says where it came from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitUser {
    /// `user.name`.
    pub name: Option<Provenance<String>>,
    /// `user.email`.
    pub email: Option<Provenance<String>>,
}

/// A value and the file that won.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance<T> {
    /// The value.
    pub value: T,
    /// The file that won.
    pub from: Origin,
}

/// The kind of file that a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The agent's file.
    Agent,
    /// A bottle's file.
    Bottle,
}

/// A repository that the git gate serves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GitRemote {
    /// `ssh://` or `https://`.
    pub url: String,
    /// The one host key that is believed; required for ssh.
    pub host_key: Option<String>,
    /// What authenticates over ssh.
    pub key: Option<GitKey>,
    /// What authenticates over https.
    pub token_ref: Option<SecretRef>,
    /// What a push may do.
    pub push: PushRules,
}

/// What authenticates to an ssh upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "provider", rename_all = "lowercase")]
pub enum GitKey {
    /// A key file of the host.
    Static {
        /// Absolute, `~` expanded.
        path: PathBuf,
    },
    /// A deploy key for this run only, through Gitea's API.
    Gitea {
        /// The variable of the host with the API token.
        token_ref: SecretRef,
    },
    /// A deploy key for this run only, through GitHub's API.
    Github {
        /// The variable of the host with the API token.
        token_ref: SecretRef,
    },
}

/// What a push may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushRules {
    /// Globs of branches; `None` means any.
    pub branches: Option<Vec<String>>,
    /// Whether tags may be pushed.
    pub tags: bool,
    /// Whether a branch may be moved to what does not contain it.
    pub force: bool,
    /// Whether a branch may be deleted.
    pub delete: bool,
    /// What happens to changes that CI would run with its own secrets.
    pub ci_files: CiFiles,
}

/// What happens to pushes that touch files which CI would run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CiFiles {
    /// They pass.
    Allow,
    /// They wait for the operator.
    #[default]
    Approve,
    /// They are refused.
    Refuse,
}

impl Default for PushRules {
    fn default() -> Self {
        Self { branches: None, tags: false, force: false, delete: false, ci_files: CiFiles::Approve }
    }
}

/// `egress` of a bottle.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EgressSettings {
    /// How much is logged besides receipts.
    pub log: EgressLog,
    /// At most one per host pattern.
    pub routes: Vec<Route>,
}

/// `egress.log`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EgressLog {
    /// 0: receipts alone.
    #[default]
    Receipts,
    /// 1: and blocks and warnings with context.
    Warnings,
    /// 2: and every request and response, redacted.
    Full,
}

/// A purpose: who runs in a bottle. May come from a cloned repository.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    /// The file's stem.
    pub name: String,
    /// Bottles that it asks for, folded left to right; empty: chosen at launch.
    pub bottles: Vec<String>,
    /// Names of skills of the host.
    pub skills: Vec<String>,
    /// Overlays the bottle's, per field.
    pub git_user: GitUser,
    /// The system prompt; the body of the file, trimmed.
    pub prompt: String,
}

/// The agent and the one bottle that it will run in: every backend gets the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EffectiveBottle {
    /// Who runs.
    pub agent: Agent,
    /// The bottles that were folded, in order, without their parents.
    pub bottle_names: Vec<String>,
    /// In what; with the agent's overlay applied.
    pub bottle: Bottle,
}

/// `settings.yml`: defaults of the host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Where no bottle and no option names one.
    pub backend: Option<BackendName>,
    /// The gateways' way out.
    pub egress: EgressDefaults,
    /// By provider.
    pub budgets: BTreeMap<String, Budget>,
    /// Where secrets come from that are no variables of the environment.
    #[serde(default)]
    pub secrets: BTreeMap<SecretRef, SecretSource>,
}

impl Settings {
    /// Where these secrets come from; those are left out that are variables of the environment, or that a provider brings.
    #[must_use]
    pub fn sources_of(
        &self,
        secrets: &[SecretRef],
        provided: &[SecretRef],
    ) -> BTreeMap<SecretRef, SecretSource> {
        let others = secrets.iter().filter(|name| !provided.contains(name));
        others.filter_map(|name| Some((name.clone(), self.secrets.get(name)?.clone()))).collect()
    }
}

/// `egress` in `settings.yml`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EgressDefaults {
    /// An HTTP proxy that leads outside.
    pub upstream_proxy: Option<UpstreamProxy>,
    /// Names that are reached without it.
    pub no_proxy: Vec<HostPattern>,
    /// PEM files, absolute, `~` expanded.
    pub extra_ca: Vec<PathBuf>,
    /// Fixed addresses.
    pub resolve: BTreeMap<HostPattern, FixedAddress>,
    /// Names that may resolve to private addresses.
    pub private: Vec<HostPattern>,
}

/// What a provider's agents may use in a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Tokens of the model, in and out.
    pub tokens_per_day: u64,
    /// What happens then.
    pub on_exceeded: OnExceeded,
}

/// What happens to a bottle whose budget is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnExceeded {
    /// Requests are refused.
    Cutoff,
    /// The bottle is stopped where it is.
    Freeze,
    /// The bottle is ended.
    Kill,
}

impl BackendName {
    /// Every backend, in the order in which they are offered.
    pub const ALL: [Self; 4] = [Self::Native, Self::Docker, Self::Smolmachines, Self::Kubernetes];

    /// As written in manifests and options.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Docker => "docker",
            Self::Smolmachines => "smolmachines",
            Self::Kubernetes => "kubernetes",
        }
    }
}

impl fmt::Display for BackendName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for BackendName {
    type Err = UnknownBackend;

    fn from_str(written: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|backend| backend.as_str() == written)
            .ok_or_else(|| UnknownBackend(written.to_owned()))
    }
}

/// Not the name of a backend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a backend; there are native, docker, smolmachines and kubernetes")]
pub struct UnknownBackend(pub String);

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Agent => "agent",
            Self::Bottle => "bottle",
        })
    }
}

impl GitUser {
    /// Lays `over` on top, field by field: what it says wins.
    #[must_use]
    pub fn overlaid(self, over: Self) -> Self {
        Self { name: over.name.or(self.name), email: over.email.or(self.email) }
    }
}
