//! The input and the results of a launch.

use std::{collections::BTreeMap, path::PathBuf};

use bot_bottle_core::{
    bottle::EffectiveBottle, gateway_config::GatewayStart, identity::Identity, plan::BottlePlan,
};
use serde::{Deserialize, Serialize};

use crate::{home::BotBottleHome, host::programs::FoundProgram, renewal::RenewalRequest};

/// Everything that a launch needs. The values of secrets are in here and nowhere else.
#[derive(Debug)]
pub struct LaunchRequest {
    /// The plan.
    pub plan: BottlePlan,
    /// The value behind each reference that a route names; goes to the gateway alone.
    pub secrets: GatewayStart,
    /// Those of them that can be asked for again while the bottle runs.
    pub renewal: RenewalRequest,
    /// The agent's whole environment, resolved. `PATH`, `HOME` and `TERM` are added where they are missing.
    pub environment: BTreeMap<String, String>,
    /// The operator's home, which no bottle sees.
    pub operator_home: Option<PathBuf>,
    /// The agent program, as [`crate::host::programs::find`] found it; for a plan that names one.
    pub program: Option<FoundProgram>,
    /// Where state is kept.
    pub home: BotBottleHome,
    /// This binary, which plays the gateway and the bottle's first process too: `/proc/self/exe`.
    pub executable: PathBuf,
    /// How the agent talks to the operator.
    pub terminal: Terminal,
    /// Whether the run is a new one.
    pub beginning: Beginning,
    /// Who runs, for a run that can be resumed.
    pub agent: Option<ResumableAgent>,
    /// For tests: where the launcher kills itself, or fails.
    pub fault: Option<FaultPoint>,
}

/// Whether a run is a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Beginning {
    /// With an empty home, and a copy of the operator's folder or an empty workspace.
    #[default]
    New,
    /// A run that ended goes on with its home and its workspace. Of the plan's files those are written that it
    /// lists, over what is there; nothing else is.
    Resumed,
}

/// What is kept of an agent, so that its conversation can go on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResumableAgent {
    /// The agent and its bottle, as the manifests had them.
    pub effective: EffectiveBottle,
    /// The folder with its conversations, relative to its home.
    pub conversations: PathBuf,
}

/// How a program in a bottle talks to the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Terminal {
    /// A terminal of its own, connected to the operator's, which is set to raw mode for as long. For a
    /// standard input and output that are terminals.
    Pty,
    /// Three pipes, connected to the launcher's standard input, output and error.
    Pipes,
}

/// The steps of a launch, on every backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The state directory with its lock, folders and configuration.
    AllocateResources,
    /// The gateway's process. First, so that its start-up overlaps with everything else.
    StartGateway,
    /// The sandbox: the first process in it, its namespaces and cgroups, or what a backend has instead.
    StartSandbox,
    /// Home, provider's files, skills and workspace.
    PrepareFiles,
    /// The listening sockets of the sandbox, handed to the gateway with the secrets.
    ConnectGateway,
    /// The gateway serves. It has minted the bottle's certificate authority, whose key stays in its memory.
    WaitForGateway,
    /// The files by which programs trust the gateway: bundle, trust stores.
    Provision,
    /// The sandbox is complete: its file system is made, and programs can be started in it.
    InitialiseSandbox,
    /// The agent runs.
    Attach,
}

impl Step {
    /// In the order in which they happen.
    pub const ALL: [Self; 9] = [
        Self::AllocateResources,
        Self::StartGateway,
        Self::StartSandbox,
        Self::PrepareFiles,
        Self::ConnectGateway,
        Self::WaitForGateway,
        Self::Provision,
        Self::InitialiseSandbox,
        Self::Attach,
    ];

    /// As progress shows it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AllocateResources => "allocate resources",
            Self::StartGateway => "start gateway",
            Self::StartSandbox => "start sandbox",
            Self::PrepareFiles => "prepare files",
            Self::ConnectGateway => "connect gateway",
            Self::WaitForGateway => "wait for gateway",
            Self::Provision => "provision",
            Self::InitialiseSandbox => "initialise sandbox",
            Self::Attach => "attach",
        }
    }
}

/// Where a launch fails on purpose, so that tests see what it leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultPoint {
    /// At which step.
    pub step: Step,
    /// Before it, or after it.
    pub when: FaultMoment,
    /// In which way.
    pub kind: FaultKind,
}

/// How a launch fails on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FaultKind {
    /// The launcher kills itself with SIGKILL.
    Kill,
    /// The step fails.
    Fail,
}

/// Before or after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FaultMoment {
    /// Before the step began.
    Before,
    /// When the step was done.
    After,
}

/// What happens during a launch, for the operator's eyes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LaunchEvent {
    /// A step begins.
    Step(Step),
    /// The image of the bottle is being pulled or built: a line of the engine's.
    Image(String),
    /// The operator's folder is being copied, and this much is done.
    Copying {
        /// Files, folders and links.
        entries: u64,
        /// In all files together.
        bytes: u64,
    },
    /// SHA-256 of the bottle's CA, as colon-separated upper-case hex.
    CaFingerprint(String),
    /// Something that the operator should know, such as what the host could not give.
    Note(String),
    /// The agent runs; from here on the terminal is its own.
    Attached(Identity),
    /// Something that the operator should know while the agent has the terminal.
    Notice(String),
    /// The agent is gone. This is kept of it until `cleanup` removes it.
    Kept(Kept),
    /// The bottle has ended, and this could not be removed. `cleanup` tries again.
    NotRemoved {
        /// Where it lies.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
}

/// What is kept of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kept {
    /// Something that the agent made in its workspace.
    pub work: bool,
    /// A conversation, which can go on.
    pub conversation: bool,
}

/// How an agent, or a command that was run beside it, ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentExit {
    /// The program's own end.
    pub status: ProgramStatus,
    /// What ended it, if it did not end by itself.
    pub ended_by: Option<EndedBy>,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProgramStatus {
    /// It returned this.
    Exited(u8),
    /// This signal killed it.
    Signalled(u8),
}

/// What ended a bottle from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// A limit, with a sentence that names it.
    Limit(String),
    /// The launcher received this signal.
    Signal(u8),
    /// `bot-bottle stop`.
    Stop,
    /// The gateway ended, so the bottle has no way out left; with the last of its log.
    GatewayEnded(String),
    /// The bottle's first process ended, and with it everything in the bottle.
    SandboxEnded,
}

impl AgentExit {
    /// As a shell counts: the program's own code, or 128 and the signal's number.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self.status {
            ProgramStatus::Exited(code) => code,
            ProgramStatus::Signalled(signal) => 128_u8.saturating_add(signal),
        }
    }
}

/// A command that is to run in a bottle, beside its agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// Program and arguments; the program is looked up in the bottle's `PATH`.
    pub command: Vec<String>,
    /// Laid over the agent's environment.
    pub environment: BTreeMap<String, String>,
    /// Absolute; `None`: where the agent started.
    pub working_directory: Option<PathBuf>,
}
