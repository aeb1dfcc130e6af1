//! The plan: everything that a launch will do, as data without secrets.

use std::{collections::BTreeMap, net::Ipv4Addr, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    bottle::{BackendName, EnvEntry, GitUser},
    gateway_config::UpstreamConfig,
    identity::Identity,
    limits::Limits,
    policy::Policy,
    provider::{GuestFile, GuestPaths},
    secret::{SecretRef, SecretSource},
};

mod build;
mod environment;
mod git_config;
mod image;
mod unenforced;
mod variables;

pub use build::{PlanError, PlanInput, plan_agent, plan_program};
pub use environment::{trust_environment, trust_files};
pub use git_config::GitConfigError;
pub use image::ImageSource;
pub use unenforced::{Unenforced, unenforced};

/// Where the gateway's proxy listens inside every bottle.
pub const PROXY_ADDRESS: &str = "127.0.0.1:3128";

/// The port of that address. Where a bottle's connections come to the gateway with their destination, this port of
/// [`BOTTLE_ADDRESS`] is the proxy too.
pub const PROXY_PORT: u16 = 3128;

/// The bottle's one address besides loopback, where its DNS is answered on port 53. It is from the range for
/// benchmarks (RFC 2544), which no host on the internet has.
pub const BOTTLE_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 18, 255, 1);

/// The network of the fake IP addresses that the bottle's DNS gives to names, as address and prefix length:
/// the other half of the range for benchmarks.
pub const NAME_ADDRESSES: (Ipv4Addr, u8) = (Ipv4Addr::new(198, 19, 0, 0), 16);

/// Where a backend mounts the agent program's folder, read-only. It and its `bin` are in the bottle's `PATH`.
pub const AGENT_PROGRAM_FOLDER: &str = "/opt/bot-bottle/agent";

/// Everything that a launch will do. `--dry-run --json` prints it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BottlePlan {
    /// Name of the run.
    pub identity: Identity,
    /// How the plan becomes a running bottle.
    pub backend: BackendName,
    /// The bottles that were folded; empty for a bottle without a manifest.
    pub bottle_names: Vec<String>,
    /// The provider's name; `None` for a bare command.
    pub provider: Option<String>,
    /// The program that runs.
    pub program: Program,
    /// Where the image of the agent's container comes from; for a backend that has images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageSource>,
    /// Paths inside the bottle.
    pub guest: GuestPaths,
    /// The agent's whole environment, each variable with the origin of its value.
    pub env: BTreeMap<String, EnvEntry>,
    /// Names in `env` that the preflight omits, because the operator did not write them.
    pub hidden_env_names: Vec<String>,
    /// Files that are written before the program starts.
    pub files: Vec<GuestFile>,
    /// Files outside the agent's home that are written before the program starts and that it cannot change.
    pub system_files: Vec<GuestFile>,
    /// Folders that are made before the program starts.
    pub directories: Vec<PathBuf>,
    /// Folders of the host that are copied in.
    pub copies: Vec<HostCopy>,
    /// The operator's folder that the agent works on, as a copy; `None`: an empty one.
    pub workspace: Option<PathBuf>,
    /// What of git comes along with the workspace.
    #[serde(default)]
    pub workspace_git: WorkspaceGit,
    /// What of the workspace is not copied: patterns of gitignore(5), besides those of its own `.bottleignore`.
    #[serde(default)]
    pub workspace_exclude: Vec<String>,
    /// Names of the skills, for the preflight.
    pub skills: Vec<String>,
    /// The git identity, with the file that each field comes from.
    pub git_user: GitUser,
    /// The routes.
    pub policy: Policy,
    /// How the gateway reaches upstream hosts.
    pub upstream: UpstreamConfig,
    /// The secrets that the gateway is given, by name.
    pub secrets: Vec<SecretRef>,
    /// Where those of them come from that are no variables of the environment.
    #[serde(default)]
    pub secret_sources: BTreeMap<SecretRef, SecretSource>,
    /// The resource limits.
    pub limits: Limits,
    /// Notes for the operator, such as routes that a provider's own route replaced.
    pub notes: Vec<String>,
}

/// What of git comes along with a workspace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkspaceGit {
    /// The repository, wherever its metadata lies.
    #[default]
    Copied,
    /// Nothing: the operator said so.
    LeftOut,
}

/// The program that runs in the bottle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Program and arguments. The program is a name that is looked up in the bottle's `PATH`, or a path in
    /// it.
    pub command: Vec<String>,
    /// Where the program comes from.
    pub source: ProgramSource,
}

/// Where the program that runs in a bottle comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProgramSource {
    /// A program of the bottle's file system.
    Bottle,
    /// An agent program of this name, found on the host or in the cache of `provider install`, and mounted
    /// read-only.
    AgentProgram(String),
    /// This very binary, mounted read-only as `/opt/bot-bottle/agent/bot-bottle`: the demo and the escape
    /// probe.
    OwnBinary,
}

/// A folder of the host that is copied into the bottle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostCopy {
    /// On the host, absolute.
    pub source: PathBuf,
    /// In the bottle, absolute.
    pub target: PathBuf,
}

impl BottlePlan {
    /// The plan of an empty bottle that runs this program: no environment, no files, no routes, no limits.
    #[must_use]
    pub fn for_program(identity: Identity, backend: BackendName, program: Program) -> Self {
        Self {
            identity,
            backend,
            bottle_names: Vec::new(),
            provider: None,
            program,
            image: None,
            guest: GuestPaths::default(),
            env: BTreeMap::new(),
            hidden_env_names: Vec::new(),
            files: Vec::new(),
            system_files: Vec::new(),
            directories: Vec::new(),
            copies: Vec::new(),
            workspace: None,
            workspace_git: WorkspaceGit::default(),
            workspace_exclude: Vec::new(),
            skills: Vec::new(),
            git_user: GitUser::default(),
            policy: Policy::default(),
            upstream: UpstreamConfig::default(),
            secrets: Vec::new(),
            secret_sources: BTreeMap::new(),
            limits: Limits::default(),
            notes: Vec::new(),
        }
    }
}

impl Program {
    /// An agent program with its arguments: that of the image, on a backend that has images, else the host's.
    #[must_use]
    pub fn of_agent(backend: BackendName, command: Vec<String>) -> Self {
        let source = if backend.has_images() {
            ProgramSource::Bottle
        } else {
            ProgramSource::AgentProgram(command.first().cloned().unwrap_or_default())
        };
        Self { command, source }
    }

    /// A program of the bottle's file system with its arguments.
    #[must_use]
    pub fn of_bottle(command: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { command: command.into_iter().map(Into::into).collect(), source: ProgramSource::Bottle }
    }
}
