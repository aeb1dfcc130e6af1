//! What an agent made: its workspace is a volume, and its home lies in the layer of its container. Both stay when the
//! run ends, the container with the volumes that an engine does not remove while it has them.
//!
//! A run goes on in a container of an image that is made of the old one, and what is asked about the home is asked
//! in such a container as well: an engine can neither give a container another first process nor mount the layer of
//! one into another.

use std::time::Duration;

use bot_bottle_core::{
    error::{IoContext, IoError},
    plan::BottlePlan,
};
use bot_bottle_engine::{Engine, EngineAddress, EngineError, Labels, RefusalKind};

use crate::{
    agent_image::IMAGE_LABEL,
    error::LaunchError,
    inspect::WorkAccess,
    resource::{Resource, Resources},
    steps::allocate::{InspectedFolders, Run},
};

use super::{
    gateway,
    names::{COMPOSE_LABELS, HOME_LABEL, Names, RUN_LABEL, WORKSPACE_SUFFIX},
    object::{EngineObject, ObjectKind},
};

/// Repository of the images that are made of an agent's container, and removed with the run.
const REPOSITORY: &str = "bot-bottle-home";

/// Value of [`IMAGE_LABEL`] of those images.
pub(super) const HOME_IMAGE: &str = "home";

/// How long a container may take to end whose launcher has ended.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// The objects of a run with what its agent made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AgentWork {
    engine: EngineAddress,
    /// The container whose layer has the home.
    pub(super) container: String,
    /// The volume.
    pub(super) workspace: String,
}

impl AgentWork {
    /// The engine that has them.
    pub(crate) fn engine(&self) -> &EngineAddress {
        &self.engine
    }

    /// Makes an image that is the operator's: it has no label of a run's, and starts no program of ours.
    pub(crate) fn commit_for_operator(
        &self,
        engine: &Engine,
        reference: &str,
    ) -> Result<String, EngineError> {
        let none = [RUN_LABEL, HOME_LABEL].into_iter().chain(COMPOSE_LABELS);
        let labels: Labels = none.map(|name| (name.to_owned(), String::new())).collect();
        // An engine takes an empty entry point for none that was named, and keeps ours.
        let changes = ["ENTRYPOINT [\"/usr/bin/env\"]", "CMD [\"/bin/sh\"]"];
        engine.commit_container(&self.container, reference, &labels, &changes)
    }

    pub(crate) fn among(objects: &[EngineObject]) -> Option<Self> {
        let name = |wanted: &dyn Fn(&EngineObject) -> bool| {
            objects.iter().find(|object| wanted(object)).map(|object| object.name.clone())
        };
        Some(Self {
            engine: objects.first()?.engine.clone(),
            container: name(&|object| object.kind == ObjectKind::Container)?,
            workspace: name(&|object| {
                object.kind == ObjectKind::Volume && object.name.ends_with(WORKSPACE_SUFFIX)
            })?,
        })
    }
}

/// What an agent's container is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parts {
    /// The id of its image.
    pub(super) image: String,
    /// How errors name it.
    pub(super) reference: String,
    /// The volume with its workspace, and what may be done with it; `None` where the layer's own folder is enough.
    pub(super) workspace: Option<(String, WorkAccess)>,
    /// Whether the volume is new, and gets its owner.
    pub(super) is_new: bool,
    /// Whether there is a gateway that takes its sockets.
    pub(super) has_gateway: bool,
    /// The objects with what its agent makes.
    pub(super) work: Vec<EngineObject>,
}

/// Makes what the container of a plan needs, besides what its gateway has made.
pub(super) fn parts(
    engine: &Engine,
    plan: &BottlePlan,
    run: &Run,
    resources: &mut Resources,
) -> Result<Parts, LaunchError> {
    let names = Names::of(run);
    if let Some(inspected) = &run.folders.inspected {
        return look(engine, inspected, run, &names, resources);
    }
    let before = AgentWork::among(&resources.work_in_engine());
    let mut work = Vec::new();
    let mut add = |resources: &mut Resources, kind, name: &str, is_recorded: bool| {
        let object = EngineObject::new(engine.address(), kind, name);
        work.push(object.clone());
        if is_recorded { record(resources, object) } else { Ok(()) }
    };
    for volume in [&names.program, &names.hand_over] {
        add(resources, ObjectKind::Volume, volume, false)?;
    }
    let is_new = before.is_none();
    let (image, reference, workspace) = match before {
        None => {
            let reference = plan.image.as_ref().ok_or(LaunchError::NoImage)?.to_string();
            let image = run.image.clone().ok_or(LaunchError::NoImage)?;
            add(resources, ObjectKind::Volume, &names.workspace, true)?;
            engine.create_volume(&names.workspace, &names.labels("agent"))?;
            (image, reference, names.workspace.clone())
        }
        Some(before) => {
            end(engine, &before.container)?;
            let reference = format!("{REPOSITORY}:{}", run.name);
            add(resources, ObjectKind::Image, &reference, true)?;
            let image = commit(engine, &before.container, &reference)?;
            add(resources, ObjectKind::Volume, &before.workspace, false)?;
            (image, reference, before.workspace)
        }
    };
    add(resources, ObjectKind::Container, &names.agent, true)?;
    Ok(Parts {
        image,
        reference,
        workspace: Some((workspace, WorkAccess::Write)),
        is_new,
        has_gateway: true,
        work,
    })
}

/// What a throw-away container over the work of another run needs: its workspace, or its home.
fn look(
    engine: &Engine,
    inspected: &InspectedFolders,
    run: &Run,
    names: &Names,
    resources: &mut Resources,
) -> Result<Parts, LaunchError> {
    let finding = || format!("finding the agent's work in {}", inspected.run.display());
    let objects = Resources::read(&inspected.run).io_context(finding)?.work_in_engine();
    let work =
        AgentWork::among(&objects).ok_or_else(|| IoError::new(finding(), std::io::ErrorKind::NotFound))?;
    gateway::fill_program(engine, run, resources)?;
    let (image, reference, workspace) = if inspected.needs_home {
        let reference = format!("{REPOSITORY}:{}", run.name);
        record(resources, EngineObject::new(engine.address(), ObjectKind::Image, &reference))?;
        (commit(engine, &work.container, &reference)?, reference, None)
    } else {
        let container = engine.inspect_container(&work.container)?;
        let image = container["Image"].as_str().unwrap_or_default().to_owned();
        (image.clone(), image, Some((work.workspace, inspected.access)))
    };
    record(resources, EngineObject::new(engine.address(), ObjectKind::Container, &names.agent))?;
    Ok(Parts { image, reference, workspace, is_new: false, has_gateway: false, work: Vec::new() })
}

pub(super) fn record(resources: &mut Resources, object: EngineObject) -> Result<(), LaunchError> {
    let recorded = resources.add(Resource::Engine(object));
    Ok(recorded.io_context(|| "recording an object of the engine")?)
}

/// Ends a container whose launcher has ended, if it has not done so by itself yet: what its programs wrote is to be
/// whole.
fn end(engine: &Engine, container: &str) -> Result<(), LaunchError> {
    match engine.kill_container(container, "SIGKILL") {
        Err(error) if error.refusal() == Some(RefusalKind::NotRunning) => return Ok(()),
        other => other?,
    }
    engine.wait_container(container, END_TIMEOUT)?;
    Ok(())
}

/// Makes an image of a container, with the labels of the container's run.
fn commit(engine: &Engine, container: &str, reference: &str) -> Result<String, LaunchError> {
    let labels: Labels = [(IMAGE_LABEL.to_owned(), HOME_IMAGE.to_owned())].into();
    Ok(engine.commit_container(container, reference, &labels, &[])?)
}
