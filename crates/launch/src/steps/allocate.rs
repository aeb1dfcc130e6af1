//! Allocates what every run has on the host: its directory with its lock, and the files and folders in there.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use bot_bottle_core::{error::IoContext, gateway_config::GatewayConfig, plan::ProgramSource};
use rustix::process::getpid;

use crate::{
    backend::Backend,
    child_process::Executable,
    error::LaunchError,
    files::rooted_dir::new_folder,
    host::{programs::FoundProgram, user::HostUser},
    request::LaunchRequest,
    state::{self, RunDirectory},
};

/// What a run has on the host before its gateway and its sandbox are started.
#[derive(Debug)]
pub struct Run {
    /// Its directory, absolute and without links.
    pub(crate) directory: PathBuf,
    /// A name that no other run on this host has; the identity is unique in its home only.
    pub(crate) name: String,
    /// As whom the bottle's programs run, and whose its files are.
    pub(crate) user: HostUser,
    pub(crate) folders: RunFolders,
    /// This binary.
    pub(crate) executable: Executable,
    pub(crate) executable_path: PathBuf,
    /// The agent program, for a plan that names one.
    pub(crate) program: Option<FoundProgram>,
    /// Folders of the operator's that no bottle sees, wherever they lie.
    pub(crate) not_shown: Vec<PathBuf>,
}

/// Folders in the directory of a run that become part of the bottle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFolders {
    /// Becomes the agent's home.
    pub home: PathBuf,
    /// Becomes the workspace.
    pub workspace: PathBuf,
    /// Certificates and settings that make tools trust the gateway.
    pub trust: PathBuf,
}

impl Run {
    /// A file in the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(crate) fn gateway_config(&self) -> PathBuf {
        self.path("gateway.json")
    }
}

/// Makes and locks the directory of a run. First it is checked whether the backend can do what the plan wants,
/// so that a run that cannot be leaves no trace.
pub(crate) fn reserve(backend: &dyn Backend, request: &LaunchRequest) -> Result<RunDirectory, LaunchError> {
    let plan = &request.plan;
    backend.check(&plan.limits).map_err(LaunchError::Limits)?;
    if let (ProgramSource::AgentProgram(name), None) = (&plan.program.source, &request.program) {
        return Err(LaunchError::NoProgram(name.clone()));
    }
    let path = request.home.run(&plan.identity);
    match RunDirectory::create(&request.home, &plan.identity) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(LaunchError::Occupied(path)),
        other => Ok(other.io_context(|| format!("making {}", path.display()))?),
    }
}

/// Makes the folders of a run in its directory, and writes the gateway's configuration and the plan there.
pub(crate) fn fill(directory: &Path, request: &LaunchRequest) -> Result<Run, LaunchError> {
    let plan = &request.plan;
    let executable = Executable::open(&request.executable)
        .io_context(|| format!("opening {}", request.executable.display()))?;
    let user = HostUser::choose(getpid()).map_err(LaunchError::Missing)?;
    let path = fs::canonicalize(directory).io_context(|| format!("finding {}", directory.display()))?;
    let folders = RunFolders {
        home: path.join("home"),
        workspace: path.join(state::WORKSPACE),
        trust: path.join("trust"),
    };
    for (folder, owner) in
        [(&folders.home, user.owner()), (&folders.workspace, user.owner()), (&folders.trust, None)]
    {
        new_folder(folder, 0o755, owner).io_context(|| format!("making {}", folder.display()))?;
    }
    let own = [request.operator_home.as_deref(), Some(request.home.path()), plan.workspace.as_deref()];
    let run = Run {
        name: format!("{}-{}", plan.identity, getpid().as_raw_pid()),
        user,
        folders,
        executable,
        executable_path: request.executable.clone(),
        program: request.program.clone(),
        not_shown: own.into_iter().flatten().map(PathBuf::from).collect(),
        directory: path,
    };
    let config = GatewayConfig {
        name: plan.identity.to_string(),
        listen: Vec::new(),
        policy: plan.policy.clone(),
        upstream: plan.upstream.clone(),
        receipts: run.path(state::RECEIPTS),
        ca_certificate: None,
    };
    write(run.gateway_config(), serde_json::to_vec(&config))?;
    write(run.path("plan.json"), serde_json::to_vec_pretty(plan))?;
    Ok(run)
}

fn write(path: PathBuf, json: serde_json::Result<Vec<u8>>) -> Result<(), LaunchError> {
    let written = json.map_err(io::Error::from).and_then(|json| fs::write(&path, json));
    Ok(written.io_context(|| format!("writing {}", path.display()))?)
}
