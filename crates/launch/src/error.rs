//! Why a bottle does not start, or a command in it.

use std::{borrow::Cow, io, path::PathBuf};

use bot_bottle_core::{
    error::{Hint, IoError},
    identity::Identity,
    printable::printable,
};
use bot_bottle_engine::{AddressError, CredentialsError, EngineError};
use bot_bottle_smolvm::SmolvmError;
use thiserror::Error;

use crate::{
    agent_image::ContextError,
    backend::Unmet,
    files::{copy::CopyError, exclusions::ExclusionError, git_metadata::GitMetadataError},
    host::prerequisites::Prerequisite,
};

/// A run that is to go on has not ended.
#[derive(Debug, Error)]
#[error("{0} is running")]
pub struct StillRunning(pub Identity);

impl Hint for StillRunning {
    fn hint(&self) -> Option<Cow<'_, str>> {
        let run = &self.0;
        Some(
            format!("`bot-bottle exec {run} -- CMD` runs a program in it; `bot-bottle stop {run}` ends it")
                .into(),
        )
    }
}

/// Why a launch failed.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// The host lacks something.
    #[error(transparent)]
    Missing(#[from] Prerequisite),
    /// Limits of the manifest that cannot be enforced here.
    #[error("{}", join(.0))]
    Limits(Vec<Unmet>),
    /// There is a state directory of that name already.
    #[error("the state directory {} exists already", .0.display())]
    Occupied(PathBuf),
    /// A run that is to go on has not ended.
    #[error(transparent)]
    StillRunning(#[from] StillRunning),
    /// The plan names an agent program, and none was found.
    #[error("the agent program `{0}` is not installed")]
    NoProgram(String),
    /// The operator's folder, or one of the skills.
    #[error("{} cannot be copied into the bottle: {source}", .folder.display())]
    Copy {
        /// Which.
        folder: PathBuf,
        /// Why.
        source: CopyError,
    },
    /// A copy of the operator's folder would be no repository.
    #[error(transparent)]
    Git(#[from] GitMetadataError),
    /// What the copy is to leave out cannot be understood.
    #[error(transparent)]
    Exclusion(#[from] ExclusionError),
    /// A file of the bottle that is not below its home.
    #[error("{} cannot be made in the bottle: it is not below {}", .path.display(), .home.display())]
    OutsideHome {
        /// Which.
        path: PathBuf,
        /// The bottle's home.
        home: PathBuf,
    },
    /// The container engine.
    #[error(transparent)]
    Engine(Box<EngineError>),
    /// This binary cannot run in a container without libraries.
    #[error(
        "this bot-bottle is not linked statically, and it runs in containers and machines that have none of its libraries"
    )]
    NotStatic,
    /// The engine starts containers in a sandbox of its own.
    #[error(
        "the engine's default runtime is `{0}`, in which the docker backend is not known to keep its promises"
    )]
    Runtime(String),
    /// The credentials for a registry.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The folder with a Dockerfile.
    #[error(transparent)]
    BuildContext(#[from] ContextError),
    /// A provider has no package for this processor.
    #[error("`{0}` has no package for this processor, so no image can be built for it")]
    NoPackage(String),
    /// smolvm.
    #[error(transparent)]
    Smolvm(Box<SmolvmError>),
    /// The process in whose network smolvm runs says why the machine does not.
    #[error("{why}")]
    Machine {
        /// Why.
        why: String,
        /// What to do.
        hint: Option<String>,
    },
    /// A machine whose work is to be looked at, and which runs: it is looked at by starting it.
    #[error("{0} runs, and its work can be looked at only when it has ended")]
    MachineRuns(String),
    /// Nothing says which image the machine is made of.
    #[error("nothing says which image the machine is made of")]
    NoMachineImage,
    /// The engine that has the machine's image does not answer.
    #[error("the machine's image is to come from a container engine: {0}")]
    MachineImage(Box<EngineError>),
    /// The engine that would have the machine's image cannot be used.
    #[error("the machine's image is to come from a container engine: {0}")]
    MachineImageAddress(AddressError),
    /// Nothing says which image the agent's container is made of.
    #[error("nothing says which image the bottle is made of")]
    NoImage,
    /// The image has a link at a place where something of ours goes, which could lead it elsewhere.
    #[error("the image {image} has a link at {path}")]
    ImageLink {
        /// Which image.
        image: String,
        /// Where.
        path: String,
    },
    /// The image has something else at a place where a folder of ours goes.
    #[error("the image {image} has something that is no folder at {}", .paths.join(" or "))]
    ImageFolders {
        /// Which image.
        image: String,
        /// Where, or one of these.
        paths: Vec<String>,
    },
    /// The image has something else than a file that is read or written as root.
    #[error("the image {image} has no ordinary file at {path}")]
    ImageFile {
        /// Which image.
        image: String,
        /// Where.
        path: String,
    },
    /// The gateway did not start.
    #[error("the gateway did not start: {why}")]
    Gateway {
        /// The last of its log, or what was waited for.
        why: String,
    },
    /// The bottle's first process failed.
    #[error("the sandbox could not be made: {0}")]
    Sandbox(#[source] IoError),
    /// The agent could not be started in the bottle.
    #[error("`{program}` could not be run in the bottle: {source}")]
    NotStarted {
        /// Name of the program.
        program: String,
        /// The step that failed.
        source: IoError,
    },
    /// A test asked for it, [`crate::request::FaultPoint`].
    #[error("the step `{0}` was told to fail")]
    Fault(&'static str),
    /// Something else that the system refused.
    #[error(transparent)]
    System(#[from] IoError),
}

impl Hint for LaunchError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::Missing(missing) => return missing.hint(),
            Self::Git(error) => return error.hint(),
            Self::Exclusion(error) => return error.hint(),
            Self::Copy { source: CopyError::Unreadable(paths), .. } => return Some(unreadable(paths).into()),
            Self::Limits(_) => "remove the limit, or use a backend that has it".into(),
            Self::Occupied(_) => "run `bot-bottle cleanup`, or choose another identity".into(),
            Self::StillRunning(error) => return error.hint(),
            Self::Engine(error) => return error.hint(),
            Self::Runtime(_) => "make `runc` or `crun` the engine's default runtime, or use the smolmachines backend".into(),
            Self::NoPackage(_) => "write a Dockerfile, and name it in `agent_provider.dockerfile`".into(),
            Self::Credentials(error) => return error.hint(),
            Self::BuildContext(error) => return error.hint(),
            Self::NotStatic => "use a released binary, or build one: `cargo build-static`, which writes \
                                target/static/bot-bottle"
                .into(),
            Self::Smolvm(error) => return error.hint(),
            Self::Machine { hint, .. } => return hint.as_deref().map(Cow::from),
            Self::MachineRuns(_) => "`bot-bottle exec RUN -- git diff` looks at it while it runs".into(),
            Self::NoMachineImage | Self::MachineImage(_) | Self::MachineImageAddress(_) => {
                "name the archive of `docker save`, or the folder of a root file system, by its absolute path: `--image \
                 /PATH/image.tar`; with a container engine at hand, any image or Dockerfile will do"
                    .into()
            }
            Self::NoImage => {
                "name one: `--image NAME`, or `--bottle` with a bottle that has `agent_provider: {image: NAME}` or \
                 `{dockerfile: ./Dockerfile}`"
                    .into()
            }
            Self::ImageFolders { .. } | Self::ImageFile { .. } => {
                "use another image, or remove what is there in its Dockerfile".into()
            }
            Self::ImageLink { .. } => "use another image, or remove the link in its Dockerfile".into(),
            Self::NoProgram(name) => format!("run `bot-bottle provider install {name}`").into(),
            Self::Copy { source: CopyError::TooLarge(_), .. } => {
                "raise `limits.disk`, or start in a smaller folder".into()
            }
            Self::System(error) | Self::Sandbox(error) if error.is_out_of_space() => {
                "make room on the disk; `bot-bottle cleanup` removes what ended runs left".into()
            }
            Self::System(error)
                if matches!(
                    error.source.kind(),
                    io::ErrorKind::ReadOnlyFilesystem
                        | io::ErrorKind::PermissionDenied
                        | io::ErrorKind::NotADirectory
                ) =>
            {
                "set BOT_BOTTLE_HOME to a folder that you may write to".into()
            }
            Self::Copy { source: CopyError::Io { source, .. }, .. }
                if source.kind() == io::ErrorKind::StorageFull =>
            {
                "make room on the disk; `bot-bottle cleanup` removes what ended runs left".into()
            }
            Self::Copy { source: CopyError::TooDeep(_) | CopyError::TooMany, .. } => {
                "start in a smaller folder".into()
            }
            Self::NotStarted { source, .. } if source.source.kind() == io::ErrorKind::NotFound => {
                "is it installed where the bottle's programs come from? That is the host's /usr and /opt on the \
                 native backend, and the image on the docker backend"
                    .into()
            }
            Self::Sandbox(_) => "`bot-bottle doctor` says what this host lacks".into(),
            _ => return None,
        })
    }
}

fn unreadable(paths: &[PathBuf]) -> String {
    let example = paths.first().map(|path| printable(&path.to_string_lossy())).unwrap_or_default();
    format!(
        "make them readable for you, or leave them out: a line `/{example}` in .bottleignore, or \
         `workspace: {{exclude: [/{example}]}}` in the bottle"
    )
}

fn join(unmet: &[Unmet]) -> String {
    unmet.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl LaunchError {
    /// Whether the host, and not the request, is the reason.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(
            self,
            Self::Missing(_)
                | Self::Sandbox(_)
                | Self::Limits(_)
                | Self::Engine(_)
                | Self::NotStatic
                | Self::Runtime(_)
                | Self::Smolvm(_)
                | Self::Machine { .. }
        )
    }
}

/// Why a command could not be run in a bottle, or a bottle not be stopped.
#[derive(Debug, Error)]
pub enum ExecError {
    /// No run of that name is alive.
    #[error("no bottle `{0}` is running")]
    NotRunning(Identity),
    /// The command could not be started.
    #[error("`{program}` could not be run in the bottle: {source}")]
    NotStarted {
        /// Name of the program.
        program: String,
        /// The step that failed.
        source: IoError,
    },
    /// The launcher of the bottle does not answer as agreed.
    #[error("the launcher of `{identity}` does not answer: {source}")]
    Launcher {
        /// Whose.
        identity: Identity,
        /// What the system said.
        source: io::Error,
    },
    /// This side's own streams.
    #[error("the terminal cannot be used: {0}")]
    Terminal(io::Error),
}

impl Hint for ExecError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::NotRunning(_) => Some("`bot-bottle list active` shows those that are".into()),
            Self::NotStarted { .. } | Self::Launcher { .. } | Self::Terminal(_) => None,
        }
    }
}
