//! Starts a native sandbox: looks at the host, renders the spec, starts the first process with it.

use std::{
    fs,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use bot_bottle_core::{
    error::{IoContext, IoError},
    plan::{BottlePlan, ProgramSource},
};

use crate::{
    agent_folder::AgentFolder,
    channel::Channel,
    child_process::{ANSWER_TIMEOUT, ChildProgram, spawn},
    error::LaunchError,
    host::{facts::HostFacts, hidden, prerequisites, user::HostUser},
    init::client::InitClient,
    resource::{Resource, Resources},
    steps::allocate::Run,
};

use super::{
    cgroup::{self, Group},
    limits::{HostMeans, LimitMeans},
    render::{MountedFile, MountedProgram, render},
    rootfs,
    sandbox::NativeSandbox,
    spec::NativeSpec,
};

/// Every namespace but that of time, which nothing here needs.
const NAMESPACES: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWCGROUP;

/// Starts the sandbox of a plan. Its first process goes on by itself, up to `Ready`.
pub(super) fn start(
    plan: &BottlePlan,
    run: &Run,
    resources: &mut Resources,
) -> Result<NativeSandbox, LaunchError> {
    let means = LimitMeans::choose(&plan.limits, &run.name, &HostMeans::gather(&plan.limits));
    let means = means.map_err(LaunchError::Limits)?;
    make_groups(&means.groups, resources)?;
    let program = mounted_program(plan, run)?;
    let facts = HostFacts::gather(&run.not_shown.iter().map(PathBuf::as_path).collect::<Vec<_>>());
    let spec = render(plan, &facts, &run.folders, program.as_ref(), &means);
    let sandbox = start_init(run, &means.groups, hidden::note(&facts.hidden), resources)?;
    send(&sandbox, run.user, spec)?;
    Ok(sandbox)
}

fn make_groups(groups: &[Group], resources: &mut Resources) -> Result<(), LaunchError> {
    for group in groups {
        let resource = Resource::Cgroup(group.folder.clone());
        resources.add(resource).io_context(|| "recording a cgroup")?;
        cgroup::fs::make(group).io_context(|| format!("making the cgroup {}", group.folder.display()))?;
    }
    Ok(())
}

/// The program of the host that is mounted in the bottle, if the plan wants one.
fn mounted_program(plan: &BottlePlan, run: &Run) -> Result<Option<MountedProgram>, LaunchError> {
    match (&plan.program.source, &run.program) {
        (ProgramSource::Bottle, _) => Ok(None),
        (ProgramSource::AgentProgram(name), None) => Err(LaunchError::NoProgram(name.clone())),
        (ProgramSource::AgentProgram(name), Some(found)) => {
            Ok(Some(if found.executable.as_os_str().is_empty() {
                let file_name =
                    |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let program = MountedFile { source: found.source.clone(), name: name.clone() };
                let companions = found
                    .companions
                    .iter()
                    .map(|path| MountedFile { source: path.clone(), name: file_name(path) });
                MountedProgram::Files(std::iter::once(program).chain(companions).collect())
            } else {
                MountedProgram::Folder(found.source.clone())
            }))
        }
        (ProgramSource::OwnBinary, _) => {
            let source = fs::canonicalize(&run.executable_path)
                .io_context(|| format!("finding {}", run.executable_path.display()))?;
            Ok(Some(MountedProgram::Files(vec![MountedFile { source, name: "bot-bottle".to_owned() }])))
        }
    }
}

/// Starts the bottle's first process, in namespaces and cgroups of its own.
fn start_init(
    run: &Run,
    groups: &[Group],
    hidden: Option<String>,
    resources: &mut Resources,
) -> Result<NativeSandbox, LaunchError> {
    let log = run.path("sandbox.log");
    let start = || {
        let (channel, theirs) = Channel::pair()?;
        channel.set_timeout(Some(ANSWER_TIMEOUT))?;
        let child = ChildProgram {
            executable: &run.executable,
            arguments: &[c"bot-bottle", c"sandbox-init", c"3"],
            namespaces: NAMESPACES,
            control: theirs.as_fd(),
            log: &log,
        };
        let process = spawn(&child, resources, |pid| {
            groups.iter().try_for_each(|group| cgroup::fs::enter(group, pid))?;
            run.user.map(pid)
        })?;
        Ok(NativeSandbox {
            init: InitClient::new(channel, process, log.clone()),
            oom_events: groups.iter().filter_map(|group| group.oom_events.clone()).collect(),
            writable: AgentFolder::of(&run.directory).open_existing()?,
            hidden,
        })
    };
    start().map_err(|source| match prerequisites::explain(&source) {
        Some(missing) => LaunchError::Missing(missing),
        None => LaunchError::Sandbox(IoError::new("starting the first process", source)),
    })
}

/// Sends the spec. Root opens the host's trees itself: the bottle's user may not be able to walk to them.
fn send(sandbox: &NativeSandbox, user: HostUser, spec: NativeSpec) -> Result<(), LaunchError> {
    let trees = match user {
        HostUser::Operator => Vec::new(),
        HostUser::Subordinate(_) => {
            rootfs::take_trees_for_the_bottle(&spec.trees).map_err(LaunchError::Sandbox)?
        }
    };
    let descriptors: Vec<_> = trees.iter().map(AsFd::as_fd).collect();
    sandbox.init.send(&spec, &descriptors, "sending the spec")
}
