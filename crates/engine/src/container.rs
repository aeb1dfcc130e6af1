//! Containers.

use std::{
    pin::pin,
    thread,
    time::{Duration, Instant},
};

use bollard::{
    errors::Error as BollardError,
    models::ContainerConfig,
    query_parameters::{
        CommitContainerOptions, CreateContainerOptions, KillContainerOptions, RemoveContainerOptions,
        StartContainerOptions, WaitContainerOptions,
    },
};
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::timeout;

use crate::{Engine, EngineError, EngineKind, Labels, RefusalKind, error::Purpose, json::encode, name};

mod render;
mod spec;

pub use spec::{ContainerSpec, Limits, Mount, MountKind, Ulimit};

/// How long it is tried to remove a container that is just ending.
const REMOVAL_LIMIT: Duration = Duration::from_secs(10);

/// How long to wait before it is tried again.
const REMOVAL_PAUSE: Duration = Duration::from_millis(100);

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
            "created" | "configured" | "initialized" => Self::Created,
            "running" => Self::Running,
            "paused" => Self::Paused,
            "removing" => Self::Removing,
            "exited" | "stopped" => Self::Exited,
            "dead" => Self::Dead,
            _ => Self::Unknown,
        }
    }
}

impl Engine {
    /// Makes a container, which does not run yet, and fills its new volumes with what its image has there. Returns its
    /// id.
    ///
    /// # Errors
    /// `Conflict` when the name is taken, `ImageMissing` when the engine does not have the image.
    pub fn create_container(&self, spec: &ContainerSpec) -> Result<String, EngineError> {
        let name = name::object(&spec.name)?;
        let options = CreateContainerOptions { name: Some(name.to_owned()), ..Default::default() };
        let creation =
            self.docker().create_container(Some(options), render::container(spec, self.connection().kind));
        let id = self.call(&format!("creating the container {name}"), Purpose::Create, creation)?.id;
        let fills = |mount: &Mount| matches!(mount.kind, MountKind::Volume { no_copy: false, .. });
        if self.connection().kind == EngineKind::Podman && spec.mounts.iter().any(fills) {
            // podman fills a volume with the files of the image whose container is first prepared to run, and not of
            // the one that is first made. It ignores `no_copy`: what is to have the content of this image gets it
            // before a container of another image can mount it.
            let action = format!("filling the volumes of the container {name}");
            self.post_to_podman(&action, &format!("/containers/{name}/init"))?;
        }
        Ok(id)
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
        let inspection = self.inspect_container(container)?;
        let (id, state) = (&inspection["Id"], &inspection["State"]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(ContainerState {
            id: text(id),
            status: ContainerStatus::parse(&text(&state["Status"])),
            is_running: state["Running"].as_bool().unwrap_or(false),
            exit_code: state["ExitCode"].as_i64().unwrap_or_default(),
            error: text(&state["Error"]),
            is_oom_killed: state["OOMKilled"].as_bool().unwrap_or(false),
            // The engines write Go's zero time for never.
            started_at: Some(text(&state["StartedAt"]))
                .filter(|time| !time.is_empty() && !time.starts_with("0001-")),
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
    /// `Busy` when it is ending, or being removed by another, for longer than ten seconds.
    pub fn remove_container(&self, container: &str) -> Result<(), EngineError> {
        let container = name::object(container)?;
        let action = format!("removing the container {container}");
        let deadline = Instant::now() + REMOVAL_LIMIT;
        loop {
            let options = RemoveContainerOptions { force: true, v: true, link: false };
            let removed = self.remove(&action, self.docker().remove_container(container, Some(options)));
            match removed {
                Err(error) if error.refusal() == Some(RefusalKind::Busy) && Instant::now() < deadline => {
                    thread::sleep(REMOVAL_PAUSE);
                }
                removed => return removed,
            }
        }
    }

    /// Makes an image of a container's files, without its volumes, and of its configuration with further labels, and
    /// with these instructions of a Dockerfile, such as `ENTRYPOINT ["/bin/sh"]`.
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
        changes: &[&str],
    ) -> Result<String, EngineError> {
        let (container, reference) = (name::object(container)?, name::reference(reference)?);
        let (repository, tag) = name::repository_and_tag(reference);
        let options = CommitContainerOptions {
            container: Some(container.to_owned()),
            repo: Some(repository.to_owned()),
            tag: Some(tag.to_owned()),
            pause: false,
            changes: (!changes.is_empty()).then(|| changes.join("\n")),
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
        let filters = serde_json::json!({"label": [label]}).to_string();
        let path = format!("/containers/json?all=true&filters={}", encode(&filters));
        let action = "listing containers";
        let list = self.get(action, &path)?;
        let list = list.as_array().ok_or_else(|| EngineError::Unexpected {
            action: action.to_owned(),
            why: "it is no list".to_owned(),
        })?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let container = |container: &Value| ContainerSummary {
            id: text(&container["Id"]),
            name: text(&container["Names"][0]).trim_start_matches('/').to_owned(),
            labels: Labels::deserialize(&container["Labels"]).unwrap_or_default(),
            status: ContainerStatus::parse(&text(&container["State"])),
        };
        Ok(list.iter().map(container).collect())
    }

    /// Everything that the engine tells of a container, as it writes it.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    pub fn inspect_container(&self, container: &str) -> Result<Value, EngineError> {
        let container = name::object(container)?;
        self.get(&format!("looking at the container {container}"), &format!("/containers/{container}/json"))
    }
}
