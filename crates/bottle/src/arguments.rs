//! The command line, as types.

use std::{ffi::OsString, path::PathBuf};

use bot_bottle_core::{bottle::BackendName, identity::Identity, limits::WallTime};
use clap::{Args, Parser, Subcommand};

/// Runs coding agents with their permission prompts off, each in a sandbox; a gateway enforces the policy and
/// adds credentials.
#[derive(Debug, Parser)]
#[command(name = "bot-bottle", version, max_term_width = 100, arg_required_else_help = true)]
pub(crate) struct Arguments {
    /// Print results and errors as JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start an agent in a bottle.
    Start(Start),
    /// Go on with a run that ended: its conversation, its work and its policy.
    Resume(Resume),
    /// Run any program in a bottle, without a provider; its streams and exit code pass through.
    Run(Run),
    /// Run a further program inside a running bottle.
    Exec(Exec),
    /// End a running bottle.
    Stop(Stop),
    /// List agents, running bottles, or runs whose work is kept.
    List(List),
    /// Show what an agent would run in.
    Info(Info),
    /// Show what an agent changed.
    Diff(Diff),
    /// Fetch an agent's commits, and what it did not commit, into the repository in the current directory.
    Pull(Pull),
    /// Copy files out of an agent's work, or into it.
    #[command(name = "cp")]
    Copy(Copy),
    /// Keep what an agent installed, and its home, as an image.
    Commit(Commit),
    /// Find and remove what ended bottles left.
    Cleanup(Cleanup),
    /// Write a first bottle and agent that work with the agent programs and logins of this host.
    Init(Init),
    /// Say what this host can do, and how to mend what it cannot.
    Doctor,
    /// Run a gateway alone, for other sandboxes.
    Gateway(Gateway),
    /// Manage agent programs.
    #[command(subcommand)]
    Provider(ProviderCommand),
    /// Show an agent at work and a dozen ways out refused; needs no network, no account and no manifest.
    Demo,
    /// The scripted agent of the demo; runs inside its bottle.
    #[command(hide = true)]
    DemoAgent(DemoAgent),
    /// Looks at an agent's work from inside a throw-away bottle.
    #[command(hide = true)]
    Inspect(Inspect),
    /// Says in a bottle what its agent wrote.
    #[command(hide = true)]
    Written(Written),
    /// The first process of a gateway's container.
    #[command(hide = true)]
    ContainerGateway(ContainerGateway),
    /// Holds the link between the launcher and a container.
    #[command(hide = true)]
    ContainerLink(ContainerLink),
    /// Switches a virtual machine off when its launcher is gone.
    #[command(hide = true)]
    MachineWatch,
    /// Unpacks an archive of the agent's files.
    #[command(hide = true)]
    MachineUnpack,
    /// Says which time a file would get in a virtual machine.
    #[command(hide = true)]
    MachineClock,
}

/// What shapes a bottle, for every command that makes one.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct BottleOptions {
    /// The bottle to run in; repeat to fold several, left to right.
    #[arg(long = "bottle", value_name = "NAME")]
    pub(crate) bottles: Vec<String>,

    /// How the bottle is made: native, docker, smolmachines or kubernetes.
    #[arg(long, value_name = "BACKEND", env = "BOT_BOTTLE_BACKEND")]
    pub(crate) backend: Option<BackendName>,

    /// The image of the bottle: a container engine's; for smolmachines also the path of an archive or a folder.
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: Option<String>,

    /// Copy the current directory in as the workspace.
    #[arg(long)]
    pub(crate) cwd: bool,

    /// Copy the folder without its git repository, for one whose repository cannot come along.
    #[arg(long, requires = "cwd")]
    pub(crate) without_git: bool,

    /// Print the plan and start nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// For the tests of crash safety: the launcher kills itself, or fails, at this point.
    #[arg(long, hide = true, value_name = "STEP", env = "BOT_BOTTLE_FAULT")]
    pub(crate) fault: Option<String>,

    /// For the tests of renewals: their clock is as many seconds ahead as this file says.
    #[arg(long, hide = true, value_name = "FILE", env = "BOT_BOTTLE_CLOCK")]
    pub(crate) clock: Option<PathBuf>,
}

/// How an agent is run.
#[derive(Debug, Args)]
pub(crate) struct AgentOptions {
    /// Run one prompt to its end, without a terminal and without questions.
    #[arg(long, requires = "prompt")]
    pub(crate) headless: bool,

    /// What the agent is to do.
    #[arg(long, value_name = "TEXT", requires = "headless")]
    pub(crate) prompt: Option<String>,

    /// Do not ask whether to start.
    #[arg(long, short)]
    pub(crate) yes: bool,

    /// Passed on to the agent program.
    #[arg(last = true, value_name = "ARGS")]
    pub(crate) arguments: Vec<String>,
}

/// Start an agent in a bottle.
#[derive(Debug, Args)]
pub(crate) struct Start {
    /// The agent; asked for on the terminal where it is left out.
    pub(crate) agent: Option<String>,

    #[command(flatten)]
    pub(crate) bottle: BottleOptions,

    #[command(flatten)]
    pub(crate) options: AgentOptions,
}

/// Go on with a run that ended: its conversation, its work and its policy, with fresh credentials.
#[derive(Debug, Args)]
pub(crate) struct Resume {
    /// The run.
    #[arg(value_name = "ID")]
    pub(crate) run: Identity,

    #[command(flatten)]
    pub(crate) options: AgentOptions,

    /// Print the plan and start nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// For the tests of crash safety: the launcher kills itself, or fails, at this point.
    #[arg(long, hide = true, value_name = "STEP", env = "BOT_BOTTLE_FAULT")]
    pub(crate) fault: Option<String>,

    /// For the tests of renewals: their clock is as many seconds ahead as this file says.
    #[arg(long, hide = true, value_name = "FILE", env = "BOT_BOTTLE_CLOCK")]
    pub(crate) clock: Option<PathBuf>,
}

/// Run any program in a bottle.
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) bottle: BottleOptions,

    /// A variable of the program: NAME=VALUE, or NAME alone to copy it from the environment.
    #[arg(long = "env", short, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,

    /// Mount this very binary in the bottle: for the demo and the escape probe.
    #[arg(long, hide = true)]
    pub(crate) own_binary: bool,

    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
}

/// Run a further program inside a running bottle.
#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// The running bottle.
    pub(crate) identity: Identity,

    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
}

/// End a running bottle.
#[derive(Debug, Args)]
pub(crate) struct Stop {
    /// The running bottle.
    pub(crate) identity: Identity,
}

/// List agents, running bottles, or runs whose work is kept.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// What to list.
    #[arg(value_enum, default_value_t = ListWhat::Agents)]
    pub(crate) what: ListWhat,
}

/// What to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ListWhat {
    /// The agents that can be started.
    Agents,
    /// The bottles that are running.
    Active,
    /// The runs whose agents' work is kept, with age, folder, size and whether it was fetched.
    Runs,
}

/// Show what an agent would run in, or what a run runs in.
#[derive(Debug, Args)]
pub(crate) struct Info {
    /// The agent, or the run.
    #[arg(value_name = "AGENT|ID")]
    pub(crate) agent: String,

    /// Other bottles than the agent's own; repeat to fold several.
    #[arg(long = "bottle", value_name = "NAME")]
    pub(crate) bottles: Vec<String>,
}

/// Show what an agent changed, commits and all else together, while its bottle runs and afterwards.
#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// The run.
    #[arg(value_name = "ID")]
    pub(crate) run: Identity,

    /// Show how much changed in each file.
    #[arg(long, conflicts_with = "name_only")]
    pub(crate) stat: bool,

    /// Show the names of the files alone.
    #[arg(long)]
    pub(crate) name_only: bool,

    /// A folder of the workspace with a repository of its own.
    #[arg(long, value_name = "FOLDER", default_value = "", hide_default_value = true)]
    pub(crate) repository: String,
}

/// Fetch an agent's work into the repository in the current directory, as refs/bottle/ID/…; no branch and no
/// file of yours changes.
#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// The run.
    #[arg(value_name = "ID")]
    pub(crate) run: Identity,

    /// Make this branch of it too.
    #[arg(long, value_name = "NAME")]
    pub(crate) branch: Option<String>,

    /// Write a patch for `git apply` instead; needs no repository.
    #[arg(long, value_name = "FILE", conflicts_with = "branch")]
    pub(crate) patch: Option<PathBuf>,

    /// A folder of the workspace with a repository of its own.
    #[arg(long, value_name = "FOLDER", default_value = "", hide_default_value = true)]
    pub(crate) repository: String,
}

/// Copy files out of an agent's work, or into it, while its bottle runs and afterwards.
#[derive(Debug, Args)]
pub(crate) struct Copy {
    /// A path of the host, or ID:PATH. A path in a run is relative to its workspace, or absolute as the agent
    /// sees it.
    pub(crate) source: OsString,

    /// The other side. A folder that exists gets the copy under its own name.
    pub(crate) target: OsString,

    /// Replace files of the host that exist.
    #[arg(long)]
    pub(crate) force: bool,
}

/// Keep what an agent installed, and its home, as an image.
///
/// For the docker backend. The workspace is not in it. `--image` starts bottles with it.
#[derive(Debug, Args)]
pub(crate) struct Commit {
    /// The run, whether its bottle runs or not.
    #[arg(value_name = "ID")]
    pub(crate) run: Identity,

    /// What the image is called: NAME or NAME:TAG. Without it, `bot-bottle/ID` with the time as its tag.
    #[arg(value_name = "IMAGE")]
    pub(crate) image: Option<String>,
}

/// Find and remove what ended bottles left.
#[derive(Debug, Args)]
pub(crate) struct Cleanup {
    /// The runs; all that have ended where none is named.
    #[arg(value_name = "ID")]
    pub(crate) runs: Vec<Identity>,

    /// Do not ask.
    #[arg(long, short)]
    pub(crate) yes: bool,

    /// Remove work too that was never fetched, and is nowhere else.
    #[arg(long)]
    pub(crate) force: bool,

    /// Only runs to which nothing was written for so long: 90s, 30m, 4h, 7d.
    #[arg(long, value_name = "TIME", conflicts_with = "runs")]
    pub(crate) older_than: Option<WallTime>,

    /// Show what would be removed, and remove nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Write a first bottle and agent.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The provider; found out where it is left out.
    #[arg(long, value_name = "PROVIDER")]
    pub(crate) provider: Option<String>,

    /// Write over files that are there.
    #[arg(long)]
    pub(crate) force: bool,
}

/// Run a gateway alone.
#[derive(Debug, Args)]
pub(crate) struct Gateway {
    /// The gateway's configuration, JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,

    /// A descriptor to read the secrets from: one JSON object, reference to value. Without it they are read
    /// from the environment, by the names that the routes use.
    #[arg(long, value_name = "FD", conflicts_with = "control_fd")]
    pub(crate) secrets_fd: Option<i32>,

    /// The launcher's socket.
    #[arg(long, value_name = "FD", hide = true)]
    pub(crate) control_fd: Option<i32>,
}

/// Manage agent programs.
#[derive(Debug, Subcommand)]
pub(crate) enum ProviderCommand {
    /// Download an agent program into the cache, checked against the integrity that this version pins.
    Install(ProviderInstall),
    /// List the providers, and where their programs were found.
    List,
}

/// Download an agent program into the cache.
#[derive(Debug, Args)]
pub(crate) struct ProviderInstall {
    /// claude or codex.
    pub(crate) provider: String,

    /// The npm registry; otherwise the one that the npm client is set up with.
    #[arg(long, value_name = "URL")]
    pub(crate) registry: Option<String>,

    /// The package as an archive that is already here, instead of downloading it.
    #[arg(long, value_name = "FILE", conflicts_with = "registry")]
    pub(crate) archive: Option<PathBuf>,
}

mod roles;

pub(crate) use roles::{ContainerGateway, ContainerLink, DemoAgent, Inspect, LinkCarries, Written};

#[cfg(test)]
mod document;
