//! Allocates what every run has on the host: its directory with its lock, and the files and folders in there.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use bot_bottle_core::{
    error::{IoContext, IoError},
    gateway_config::GatewayConfig,
    identity::Identity,
    limits::ByteSize,
    plan::{BottlePlan, ProgramSource},
};
use rustix::process::getpid;

use crate::{
    agent_folder::AgentFolder,
    backend::Backend,
    child_process::Executable,
    error::{LaunchError, StillRunning},
    files::{remove::remove_tree, rooted_dir::new_folder},
    home::BotBottleHome,
    host::{programs::FoundProgram, user::HostUser},
    inspect::WorkAccess,
    kept::FETCHED_FILE,
    request::{Beginning, LaunchRequest},
    resource::Resources,
    state::{self, RunDirectory},
};

/// What a run has on the host before its gateway and its sandbox are started.
#[derive(Debug)]
pub struct Run {
    /// Its directory, absolute and without links.
    pub(crate) directory: PathBuf,
    /// A name that no other run on this host has; the identity is unique in its home only.
    pub(crate) name: String,
    pub(crate) identity: Identity,
    /// As whom the bottle's programs run, and whose its files are.
    pub(crate) user: HostUser,
    pub(crate) folders: RunFolders,
    /// This binary.
    pub(crate) executable: Executable,
    pub(crate) executable_path: PathBuf,
    /// The agent program, for a plan that names one.
    pub(crate) program: Option<FoundProgram>,
    /// The id of the image of the agent's container, for a backend that has images.
    pub(crate) image: Option<String>,
    /// The operator's home; the root where none is known.
    pub(crate) operator_home: PathBuf,
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
    /// For a bottle that looks at the work of another run.
    pub inspected: Option<InspectedFolders>,
}

/// The work of another run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InspectedFolders {
    /// Its agent's home, mounted at [`crate::inspect::INSPECTED_HOME`].
    pub home: PathBuf,
    /// Its workspace, mounted as the workspace.
    pub workspace: PathBuf,
    /// What may be done with both.
    pub access: WorkAccess,
    /// The folder of that run, whose list of resources names the objects of a container engine that are its home and
    /// workspace on a backend that has one.
    pub run: PathBuf,
    /// Whether the home is wanted; the workspace otherwise. Some backends have to copy it for that.
    pub needs_home: bool,
}

/// What a run is made for.
pub(crate) struct NewRun<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) executable: &'a Path,
    /// The agent program, for a plan that names one.
    pub(crate) program: Option<&'a FoundProgram>,
    /// The operator's home, bot-bottle's own folder and the folder that is copied: no bottle sees them.
    pub(crate) operator_home: Option<&'a Path>,
    pub(crate) bot_bottle_home: &'a Path,
    pub(crate) workspace: Option<&'a Path>,
    /// As whom its programs run.
    pub(crate) user: HostUser,
    pub(crate) beginning: Beginning,
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

/// Makes and locks the directory of a run. First it is checked whether the backend can do what the plan
/// wants, so that a run that cannot be leaves no trace.
pub(crate) fn reserve(
    backend: &dyn Backend,
    plan: &BottlePlan,
    program: Option<&FoundProgram>,
    home: &BotBottleHome,
) -> Result<RunDirectory, LaunchError> {
    backend.check(&plan.limits)?;
    if let (ProgramSource::AgentProgram(name), None) = (&plan.program.source, program) {
        return Err(LaunchError::NoProgram(name.clone()));
    }
    let path = home.run(&plan.identity);
    match RunDirectory::create(home, &plan.identity) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(LaunchError::Occupied(path)),
        other => Ok(other.io_context(|| format!("making {}", path.display()))?),
    }
}

/// Locks the directory of a run that ended, releases what a launcher that was killed has left of it, and opens
/// the agent's folder, which is closed again before the agent runs.
pub(crate) fn reopen(
    backend: &dyn Backend,
    plan: &BottlePlan,
    home: &BotBottleHome,
) -> Result<RunDirectory, LaunchError> {
    backend.check(&plan.limits)?;
    let path = home.run(&plan.identity);
    let opening = || format!("opening {}", path.display());
    let directory = match RunDirectory::reopen(home, &plan.identity) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            return Err(StillRunning(plan.identity.clone()).into());
        }
        other => other.io_context(opening)?,
    };
    let left = Resources::read(&path).io_context(opening)?.release_all_but_work();
    if let Some((resource, error)) = left.into_iter().next() {
        return Err(IoError::new(format!("releasing {resource} of the run before"), error).into());
    }
    // What was fetched is no longer all.
    match fs::remove_file(path.join(FETCHED_FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).io_context(opening)?,
        _ => {}
    }
    Ok(directory)
}

/// Makes the folders of a run in its directory; those that a run before this one has left stay as they are.
pub(crate) fn make_folders(directory: &Path, new: &NewRun<'_>) -> Result<Run, LaunchError> {
    let executable =
        Executable::open(new.executable).io_context(|| format!("opening {}", new.executable.display()))?;
    let user = new.user;
    let path = fs::canonicalize(directory).io_context(|| format!("finding {}", directory.display()))?;
    let agent = AgentFolder::of(&path);
    let folders = RunFolders {
        home: agent.home(),
        workspace: agent.workspace(),
        trust: path.join("trust"),
        inspected: None,
    };
    match new.beginning {
        Beginning::New => agent
            .create(user.owner())
            .io_context(|| format!("making the agent's folders in {}", path.display()))?,
        // A launcher that was killed has left it.
        Beginning::Resumed => {
            remove_tree(&folders.trust).io_context(|| format!("removing {}", folders.trust.display()))?;
        }
    }
    new_folder(&folders.trust, 0o755, None).io_context(|| format!("making {}", folders.trust.display()))?;
    let mut name = format!("{}-{}", new.identity, getpid().as_raw_pid());
    if new.beginning == Beginning::Resumed {
        // Objects of its beginnings before are still there, and one of their launchers may have had this number.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        name = format!("{name}-{}", since.as_secs());
    }
    Ok(Run {
        name,
        identity: new.identity.clone(),
        user,
        folders,
        executable,
        executable_path: new.executable.to_owned(),
        program: new.program.cloned(),
        image: None,
        operator_home: new.operator_home.unwrap_or(Path::new("/")).to_owned(),
        not_shown: [new.operator_home, Some(new.bot_bottle_home), new.workspace]
            .into_iter()
            .flatten()
            .map(PathBuf::from)
            .collect(),
        directory: path,
    })
}

/// Makes the folders of a launch in its directory, and writes the gateway's configuration and the plan there.
pub(crate) fn fill(directory: &Path, request: &LaunchRequest) -> Result<Run, LaunchError> {
    let plan = &request.plan;
    let user = match request.beginning {
        Beginning::New => HostUser::choose(getpid()).map_err(LaunchError::Missing)?,
        Beginning::Resumed => owner_of(directory)?,
    };
    let new = NewRun {
        identity: &plan.identity,
        executable: &request.executable,
        program: request.program.as_ref(),
        operator_home: request.operator_home.as_deref(),
        bot_bottle_home: request.home.path(),
        workspace: plan.workspace.as_deref(),
        user,
        beginning: request.beginning,
    };
    let run = make_folders(directory, &new)?;
    let config = GatewayConfig {
        name: plan.identity.to_string(),
        listen: Vec::new(),
        policy: plan.policy.clone(),
        upstream: plan.upstream.clone(),
        receipts: run.path(state::RECEIPTS),
        receipts_bytes: plan.limits.disk.map(receipts_share),
        ca_certificate: None,
    };
    write(run.gateway_config(), serde_json::to_vec(&config))?;
    if let Some(agent) = &request.agent {
        write(run.path(state::AGENT_FILE), serde_json::to_vec(agent))?;
    }
    write(run.path(state::PLAN_FILE), serde_json::to_vec_pretty(plan))?;
    Ok(run)
}

/// The user that owns what the agent of a run wrote.
fn owner_of(run: &Path) -> Result<HostUser, LaunchError> {
    let user = AgentFolder::of(run).user().and_then(|user| user.ok_or(io::ErrorKind::NotFound.into()));
    Ok(user.io_context(|| format!("opening the agent's folder in {}", run.display()))?)
}

/// The receipts' part of the bytes that a bottle may write, which they count against.
fn receipts_share(disk: ByteSize) -> ByteSize {
    ByteSize(disk.0 / 4)
}

fn write(path: PathBuf, json: serde_json::Result<Vec<u8>>) -> Result<(), LaunchError> {
    let written = json.map_err(io::Error::from).and_then(|json| fs::write(&path, json));
    Ok(written.io_context(|| format!("writing {}", path.display()))?)
}

#[cfg(test)]
mod tests {
    use bot_bottle_core::{
        bottle::BackendName,
        gateway_config::GatewayStart,
        limits::Limits,
        plan::{BottlePlan, Program},
    };

    use crate::{
        backend::{Enforcement, Resources, Sandbox, Unmet},
        home::BotBottleHome,
        host::prerequisites::HostReport,
        native::Native,
        request::Terminal,
        steps::files,
    };

    use super::*;
    use crate::renewal::RenewalRequest;

    /// A backend that enforces no limit.
    struct Refusing;

    impl Backend for Refusing {
        fn prerequisites(&self) -> HostReport {
            HostReport::default()
        }

        fn check(&self, _limits: &Limits) -> Result<Enforcement, LaunchError> {
            Err(LaunchError::Limits(vec![Unmet("no limit is enforced here".to_owned())]))
        }

        fn start(
            &self,
            _plan: &BottlePlan,
            _run: &Run,
            _resources: &mut Resources,
        ) -> Result<Box<dyn Sandbox>, LaunchError> {
            unreachable!("nothing is started")
        }
    }

    fn request(home: &Path) -> LaunchRequest {
        LaunchRequest {
            plan: BottlePlan::for_program(
                "agent-aaaaa".parse().expect("an identity"),
                BackendName::Native,
                Program::of_bottle(["true"]),
            ),
            secrets: GatewayStart::default(),
            renewal: RenewalRequest::default(),
            environment: [].into(),
            operator_home: Some("/home/operator".into()),
            program: None,
            home: BotBottleHome::new(home),
            executable: "/bin/sh".into(),
            terminal: Terminal::Pipes,
            beginning: Beginning::New,
            agent: None,
            fault: None,
        }
    }

    #[test]
    fn what_cannot_be_launched_leaves_no_trace() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut request = request(folder.path());
        let refused = reserve(&Refusing, &request.plan, None, &request.home).expect_err("refused");
        assert_eq!(refused.to_string(), "no limit is enforced here");
        request.plan.program.source = ProgramSource::AgentProgram("claude".to_owned());
        let refused = reserve(&Native, &request.plan, None, &request.home).expect_err("refused");
        assert!(matches!(refused, LaunchError::NoProgram(name) if name == "claude"));
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }

    #[test]
    fn a_run_is_made_once_with_its_folders_and_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let request = request(folder.path());
        let directory = reserve(&Native, &request.plan, None, &request.home).expect("reserved");
        let again = reserve(&Native, &request.plan, None, &request.home).expect_err("occupied");
        assert!(matches!(again, LaunchError::Occupied(path) if path == directory.path()));

        let run = fill(directory.path(), &request).expect("filled");
        for folder in [&run.folders.home, &run.folders.workspace, &run.folders.trust] {
            assert!(folder.is_dir() && folder.starts_with(&run.directory), "{}", folder.display());
        }
        let read = |path: PathBuf| -> serde_json::Value {
            serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON")
        };
        assert_eq!(read(run.gateway_config())["name"], "agent-aaaaa");
        assert_eq!(read(run.path("plan.json"))["identity"], "agent-aaaaa");
        assert_eq!(run.not_shown, [PathBuf::from("/home/operator"), folder.path().to_owned()]);
    }

    #[test]
    fn files_are_written_below_home_and_workspace_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut request = request(folder.path());
        let directory = reserve(&Native, &request.plan, None, &request.home).expect("reserved");
        let run = fill(directory.path(), &request).expect("filled");
        let guest = request.plan.guest.clone();
        request.plan.directories = vec![guest.home.join("below"), guest.workspace.join("within")];
        files::write(&request.plan, &run, Beginning::New, &mut |_| {}).expect("written");
        assert!(run.folders.home.join("below").is_dir() && run.folders.workspace.join("within").is_dir());
        request.plan.directories = vec!["/etc/outside".into()];
        let refused = files::write(&request.plan, &run, Beginning::New, &mut |_| {}).expect_err("refused");
        assert!(
            matches!(refused, LaunchError::OutsideHome { path, .. } if path == Path::new("/etc/outside"))
        );
    }
}
