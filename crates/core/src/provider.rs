//! What one agent program needs, as data. Nothing outside a provider's own file knows its name.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{bottle::Bottle, host::HostPattern, policy::Route, secret::SecretRef};

/// One agent program.
pub trait Provider: std::fmt::Debug + Sync {
    /// As written in `agent_provider.template`.
    fn name(&self) -> &'static str;

    /// The name of the program's executable.
    fn program(&self) -> &'static str;

    /// Names of the executables that have to lie beside it.
    fn companions(&self) -> &'static [&'static str] {
        &[]
    }

    /// Where the program can be had, for `bot-bottle provider install`: one package for each processor.
    fn packages(&self) -> &'static [Package];

    /// The package for a processor, by the name that Rust has for it (`std::env::consts::ARCH`).
    fn package(&self, architecture: &str) -> Option<&'static Package> {
        self.packages().iter().find(|package| package.architecture == architecture)
    }

    /// The Dockerfile of an image with the program, for a bottle that names none. Its arguments: `BASE`, and what
    /// says where the program comes from: `PACKAGE`, `VERSION`, `SHA512` of the archive in hexadecimal, `TREE`,
    /// `EXECUTABLE` as in [`Package`], and `PROGRAM`.
    fn dockerfile(&self) -> &'static str {
        include_str!("provider/agent.Dockerfile")
    }

    /// The file of the host's own login, relative to the operator's home, for a bottle that forwards it. It lies in a
    /// folder of the program's.
    fn credential_file(&self) -> &'static str;

    /// The variable of the host that names another folder in the place of that one.
    fn folder_variable(&self) -> &'static str;

    /// How the operator makes a token for `agent_provider.auth_token`, where the provider takes one.
    fn token_login(&self) -> Option<TokenLogin>;

    /// The folder in which the program keeps its conversations, relative to the bottle's home.
    fn conversations(&self) -> &'static str;

    /// Hosts whose answers would be real credentials: no bottle may reach them, whatever its manifest says.
    fn forbidden_hosts(&self) -> &'static [&'static str];

    /// The folder of the operator's skills, relative to their home; the same place in the bottle's home.
    fn skills_folder(&self) -> &'static str;

    /// Everything that the program needs in this bottle.
    ///
    /// # Errors
    /// When the bottle or the host's credentials do not allow it; see [`ProviderError`].
    fn provision(&self, input: &ProvisionInput<'_>) -> Result<AgentProvisionPlan, ProviderError>;
}

mod claude;
mod codex;
mod credentials;
mod endpoint;
mod extra_route;
mod registry;
mod route;

pub use credentials::{
    CredentialError, HostCredentials, MAX_CREDENTIAL_FILE_BYTES, ProviderError, ProvisionedSecret,
    SHORTEST_VALIDITY,
};
pub use endpoint::{BaseUrl, BaseUrlError};
pub use extra_route::{ExtraRoute, widen};
pub use registry::{all, by_name, forbidden_hosts};

/// The platform package of the npm registry that carries a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Package {
    /// The processor, as `std::env::consts::ARCH` names it: `x86_64`, `aarch64`.
    pub architecture: &'static str,
    /// Package for this processor, such as `@scope/name-linux-x64`.
    pub name: &'static str,
    /// Exactly this version.
    pub version: &'static str,
    /// Subresource integrity of the archive (`sha512-…`).
    pub integrity: &'static str,
    /// The folder of the unpacked archive that is mounted, whole: programs look for files beside themselves.
    pub tree: &'static str,
    /// Where the executable lies in [`Self::tree`].
    pub executable: &'static str,
}

/// How the operator makes a token for a provider's agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TokenLogin {
    /// The variable that `bot-bottle init` proposes.
    pub variable: &'static str,
    /// The command that prints a token.
    pub command: &'static str,
}

/// What a provider looks at.
#[derive(Debug, Clone, Copy)]
pub struct ProvisionInput<'a> {
    /// With the agent's overlay applied.
    pub bottle: &'a Bottle,
    /// The system prompt; may be empty.
    pub system_prompt: &'a str,
    /// How the agent is run.
    pub mode: &'a RunMode,
    /// Which conversation it has.
    pub conversation: Conversation,
    /// The places of the bottle.
    pub guest: &'a GuestPaths,
    /// The host's own login, if the bottle forwards it.
    pub credentials: &'a HostCredentials,
    /// Where that lies, for errors.
    pub login_path: &'a Path,
    /// Seconds since 1970, UTC.
    pub now: u64,
    /// What the operator wrote after `--`; passed on to the program as it is.
    pub extra_arguments: &'a [String],
}

/// How an agent is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunMode {
    /// On a terminal.
    Interactive,
    /// With one prompt, to the end.
    Headless {
        /// What is to be done.
        prompt: String,
    },
}

/// Which conversation an agent has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conversation {
    /// A new one.
    New,
    /// The last one that the bottle's home has goes on.
    Last,
}

/// Places inside a bottle, absolute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestPaths {
    /// The agent's home.
    pub home: PathBuf,
    /// Where the agent starts: the copied workspace, or the home where there is none.
    pub workspace: PathBuf,
    /// The certificate of the bottle's CA, PEM.
    pub ca_certificate: PathBuf,
    /// The system's roots and the bottle's CA, PEM.
    pub ca_bundle: PathBuf,
    /// The same certificates as a key store for Java, which reads no PEM.
    pub java_trust_store: PathBuf,
    /// Settings of wget, which has no variable for a CA.
    pub wgetrc: PathBuf,
    /// Settings of apt, which has no variable for a CA.
    pub apt_config: PathBuf,
}

impl Default for GuestPaths {
    fn default() -> Self {
        Self {
            home: "/home/agent".into(),
            workspace: "/home/agent/workspace".into(),
            ca_certificate: "/etc/bot-bottle/ca.pem".into(),
            ca_bundle: "/etc/ssl/certs/ca-certificates.crt".into(),
            java_trust_store: "/etc/bot-bottle/java-trust-store.jks".into(),
            wgetrc: "/etc/bot-bottle/wgetrc".into(),
            apt_config: "/etc/bot-bottle/apt.conf".into(),
        }
    }
}

/// Everything that a provider brings to a bottle. It holds placeholders and references, never a credential;
/// the values behind [`Self::provisioned_env`] travel apart, see [`ProvisionedSecret`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AgentProvisionPlan {
    /// The provider's name.
    pub provider: String,
    /// Program and arguments; the program by name alone.
    pub command: Vec<String>,
    /// Variables of the agent.
    pub env: BTreeMap<String, String>,
    /// Names that the preflight does not show, because they say nothing to the operator.
    pub hidden_env_names: Vec<String>,
    /// Variables that the bottle's `env:` may not set, because they would give the program another login or
    /// take the seeds away from it, each with what to do instead.
    pub reserved_env: BTreeMap<String, String>,
    /// References that this provider resolves itself, before the host's environment is looked at.
    pub provisioned_env: Vec<SecretRef>,
    /// The values of [`Self::provisioned_env`]. Not serialised; taken out before a plan is made.
    #[serde(skip)]
    pub secrets: Vec<ProvisionedSecret>,
    /// Files that are written into the bottle before the program starts.
    pub files: Vec<GuestFile>,
    /// Folders that are made in the bottle.
    pub directories: Vec<PathBuf>,
    /// Hosts that the program needs; the provider owns them outright.
    pub egress_routes: Vec<Route>,
    /// Hosts that no route may open in this bottle, because their answers would be real credentials.
    pub forbidden_hosts: BTreeSet<HostPattern>,
    /// The folder of skills, relative to the operator's home and to the bottle's.
    pub skills_folder: PathBuf,
    /// Variables that name the bottle's CA and that only this program reads.
    pub ca_variables: BTreeMap<String, CaFile>,
    /// What the operator should know before the start.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Those of [`Self::files`] that are made anew from the host's login when a conversation goes on. The agent may
    /// have changed the others, and keeps them.
    pub login_files: Vec<PathBuf>,
}

/// Which file a variable for the CA names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaFile {
    /// The bottle's CA alone.
    Certificate,
    /// The system's roots and the bottle's CA.
    Bundle,
}

/// A file that is written into the bottle, owned by the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestFile {
    /// Absolute.
    pub path: PathBuf,
    /// Text.
    pub content: String,
    /// Permission bits.
    pub mode: u32,
}
