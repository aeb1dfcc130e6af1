//! Containers.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    pin::pin,
    time::Duration,
};

use bollard::{
    errors::Error as BollardError,
    models::{ContainerConfig, ContainerStateStatusEnum},
    query_parameters::{
        CommitContainerOptions, CreateContainerOptions, InspectContainerOptions, KillContainerOptions,
        ListContainersOptions, RemoveContainerOptions, StartContainerOptions, WaitContainerOptions,
    },
};
use bot_bottle_core::error::IoContext as _;
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::{Engine, EngineError, Labels, connection::CALL_LIMIT, error::Purpose, name, volume::by_label};

mod render;
mod spec;

pub use spec::{ContainerSpec, Limits, Mount, MountKind, Ulimit};

/// Most bytes of an inspection.
const MAX_INSPECTION: u64 = 16 * 1024 * 1024;

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerStatus {
    /// It has not been started.
    Created,
    /// It runs.
    Running,
    /// It is frozen.
    Paused,
    /// It is being removed.
    Removing,
    /// Its first process has ended.
    Exited,
    /// A removal failed half-way.
    Dead,
    /// A state that this version does not know.
    Unknown,
}

/// The state of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerState {
    /// The container's id.
    pub id: String,
    /// Where it is in its life.
    pub status: ContainerStatus,
    /// Whether its first process runs.
    pub is_running: bool,
    /// With what its first process ended: 128 and the number of a signal that killed it. 0 before it ends.
    pub exit_code: i64,
    /// Why it could not be started; empty otherwise.
    pub error: String,
    /// Whether the kernel killed one of its processes for want of memory.
    pub is_oom_killed: bool,
    /// When it was started (RFC 3339); `None` before.
    pub started_at: Option<String>,
}

/// A container in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSummary {
    /// Given by the engine.
    pub id: String,
    /// Without the slash that the engine puts in front.
    pub name: String,
    /// Given when it was made.
    pub labels: Labels,
    /// Where it is in its life.
    pub status: ContainerStatus,
}

impl ContainerStatus {
    fn parse(text: &str) -> Self {
        match text {
            "created" => Self::Created,
            "running" => Self::Running,
            "paused" => Self::Paused,
            "removing" => Self::Removing,
            "exited" => Self::Exited,
            "dead" => Self::Dead,
            _ => Self::Unknown,
        }
    }
}

impl Engine {
    /// Makes a container, which does not run yet. Returns its id.
    ///
    /// # Errors
    /// `Conflict` when the name is taken, `ImageMissing` when the engine does not have the image.
    pub fn create_container(&self, spec: &ContainerSpec) -> Result<String, EngineError> {
        let name = name::object(&spec.name)?;
        let options = CreateContainerOptions { name: Some(name.to_owned()), ..Default::default() };
        let creation = self.docker().create_container(Some(options), render::container(spec));
        Ok(self.call(&format!("creating the container {name}"), Purpose::Create, creation)?.id)
    }

    /// Starts a container. Succeeds if it runs.
    ///
    /// # Errors
    /// The engine's, such as a program that does not exist in the image.
    pub fn start_container(&self, container: &str) -> Result<(), EngineError> {
        let container = name::object(container)?;
        let start = self.docker().start_container(container, None::<StartContainerOptions>);
        self.call(&format!("starting the container {container}"), Purpose::Other, start)
    }

    /// The state of a container.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    pub fn container_state(&self, container: &str) -> Result<ContainerState, EngineError> {
        let container = name::object(container)?;
        let action = format!("looking at the container {container}");
        let inspection = self.docker().inspect_container(container, None::<InspectContainerOptions>);
        let inspection = self.call(&action, Purpose::Other, inspection)?;
        let state = inspection.state.unwrap_or_default();
        let status = state.status.as_ref().map(ContainerStateStatusEnum::as_ref).unwrap_or_default();
        Ok(ContainerState {
            id: inspection.id.unwrap_or_default(),
            status: ContainerStatus::parse(status),
            is_running: state.running.unwrap_or(false),
            exit_code: state.exit_code.unwrap_or_default(),
            error: state.error.unwrap_or_default(),
            is_oom_killed: state.oom_killed.unwrap_or(false),
            // The engines write Go's zero time for never.
            started_at: state.started_at.filter(|time| !time.is_empty() && !time.starts_with("0001-")),
        })
    }

    /// Waits until a container does not run. Returns its exit code, or `None` when it still runs after `limit`.
    /// One that was never started does not run: its code is 0.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    pub fn wait_container(&self, container: &str, limit: Duration) -> Result<Option<i64>, EngineError> {
        let container = name::object(container)?;
        let action = format!("waiting for the container {container}");
        let options = WaitContainerOptions { condition: "not-running".to_owned() };
        let mut stream = pin!(self.docker().wait_container(container, Some(options)));
        match self.block_on(async { timeout(limit, stream.next()).await }) {
            Err(_) => Ok(None),
            Ok(Some(Ok(answer))) => Ok(Some(answer.status_code)),
            // bollard makes an error of every code but 0.
            Ok(Some(Err(BollardError::DockerContainerWaitError { error, code }))) if error.is_empty() => {
                Ok(Some(code))
            }
            Ok(Some(Err(error))) => Err(EngineError::new(&action, Purpose::Other, error)),
            Ok(None) => Err(EngineError::Gone { action, why: "it broke off the answer".to_owned() }),
        }
    }

    /// Sends a signal, such as `SIGTERM`, to the first process of a container. It is not waited for what comes
    /// of it.
    ///
    /// # Errors
    /// `NotRunning` when it does not run, `NotFound` when there is none.
    pub fn kill_container(&self, container: &str, signal: &str) -> Result<(), EngineError> {
        let container = name::object(container)?;
        let options = KillContainerOptions { signal: signal.to_owned() };
        let kill = self.docker().kill_container(container, Some(options));
        self.call(&format!("sending {signal} to the container {container}"), Purpose::Signal, kill)
    }

    /// Removes a container with its anonymous volumes; one that runs is killed. Succeeds if there is none.
    ///
    /// # Errors
    /// When the engine cannot.
    pub fn remove_container(&self, container: &str) -> Result<(), EngineError> {
        let container = name::object(container)?;
        let options = RemoveContainerOptions { force: true, v: true, link: false };
        let removal = self.docker().remove_container(container, Some(options));
        self.remove(&format!("removing the container {container}"), removal)
    }

    /// Makes an image of a container's files, without its volumes, and of its configuration with further labels.
    /// The container is not paused: what its programs write meanwhile may be in the image by halves. Returns the
    /// image's id.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    pub fn commit_container(
        &self,
        container: &str,
        reference: &str,
        labels: &Labels,
    ) -> Result<String, EngineError> {
        let (container, reference) = (name::object(container)?, name::reference(reference)?);
        let (repository, tag) = name::repository_and_tag(reference);
        let options = CommitContainerOptions {
            container: Some(container.to_owned()),
            repo: Some(repository.to_owned()),
            tag: Some(tag.to_owned()),
            pause: false,
            ..Default::default()
        };
        let config =
            ContainerConfig { labels: Some(labels.clone().into_iter().collect()), ..Default::default() };
        let action = format!("making the image {reference} of the container {container}");
        Ok(self.call(&action, Purpose::Other, self.docker().commit_container(options, config))?.id)
    }

    /// The containers that have a label, `key` or `key=value`, those that do not run too.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub fn containers(&self, label: &str) -> Result<Vec<ContainerSummary>, EngineError> {
        let options =
            ListContainersOptions { all: true, filters: Some(by_label(label)), ..Default::default() };
        let list =
            self.call("listing containers", Purpose::Other, self.docker().list_containers(Some(options)))?;
        let container = |container: bollard::models::ContainerSummary| {
            let name = container.names.unwrap_or_default().into_iter().next().unwrap_or_default();
            ContainerSummary {
                id: container.id.unwrap_or_default(),
                name: name.trim_start_matches('/').to_owned(),
                labels: container.labels.unwrap_or_default().into_iter().collect(),
                status: ContainerStatus::parse(
                    container.state.as_ref().map(AsRef::as_ref).unwrap_or_default(),
                ),
            }
        };
        Ok(list.into_iter().map(container).collect())
    }

    /// Everything that the engine tells of a container, as it writes it: bollard's types drop what they do not
    /// know.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    pub fn inspect_container(&self, container: &str) -> Result<serde_json::Value, EngineError> {
        let container = name::object(container)?;
        let action = format!("inspecting the container {container}");
        let path = format!("/v{}/containers/{container}/json", self.connection().api);
        let answer = self.get(&path).io_context(|| action.as_str())?;
        let unexpected = |why: &str| EngineError::Unexpected { action: action.clone(), why: why.to_owned() };
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| unexpected("it is no HTTP"))?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
        let body: serde_json::Value =
            serde_json::from_str(body).map_err(|error| unexpected(&error.to_string()))?;
        match status {
            Some(200) => Ok(body),
            Some(status) => {
                let message = body["message"].as_str().unwrap_or_default().to_owned();
                Err(EngineError::refused(action, Purpose::Other, status, message))
            }
            None => Err(unexpected("it has no status")),
        }
    }

    /// The whole answer to a GET, head and body. HTTP/1.0, as its answer ends with the connection and is never
    /// chunked (RFC 1945).
    fn get(&self, path: &str) -> Result<String, std::io::Error> {
        let stream = UnixStream::connect(self.address().path())?;
        stream.set_read_timeout(Some(CALL_LIMIT))?;
        stream.set_write_timeout(Some(CALL_LIMIT))?;
        (&stream).write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.take(MAX_INSPECTION).read_to_string(&mut answer)?;
        Ok(answer)
    }
}
