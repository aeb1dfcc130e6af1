//! The docker backend: a bottle as two containers of an engine, docker or podman.
//!
//! The agent's container has no network. Its first process ([`init`]) is this binary: it makes the listening
//! sockets, hands them to the gateway's container ([`hand_over`]), gives up all capabilities, and then serves as
//! that of any backend does ([`crate::init`]). The gateway's container holds this binary alone and has a network of
//! its own. The standard streams of each container are its link to the launcher, held by a process on either side
//! ([`link`]). A plan is rendered into the containers by [`render`], which is pure.

use std::{cell::OnceCell, path::PathBuf, rc::Rc};

use bot_bottle_core::{limits::Limits, plan::BottlePlan, provider::GuestPaths};
use bot_bottle_engine::{Engine, EngineAddress, EngineInfo};

use crate::{
    agent_image::{self, ImageEnvironment},
    backend::{Backend, Enforcement, Gateway, Sandbox},
    error::LaunchError,
    host::prerequisites::{HostReport, Prerequisite},
    request::LaunchEvent,
    resource::Resources,
    steps::allocate::Run,
};

mod gateway;
mod hand_over;
mod image;
mod image_files;
mod init;
mod limits;
mod link;
mod names;
mod object;
mod orphans;
mod render;
mod sandbox;
mod setup;
mod work;

pub use gateway::{ContainerGatewayStart, receive_start};
pub use hand_over::{HandedOver, Receiver};
pub use init::run as container_init;
pub use link::{Carries, LinkCommand};
pub use names::HAND_OVER_FOLDER;
pub use object::{EngineObject, ObjectKind};
pub use orphans::{orphans, remove_orphans};
pub(crate) use work::AgentWork;

/// The docker backend, on the engine at an address.
#[derive(Debug, Clone)]
pub struct Docker {
    address: EngineAddress,
    images: ImageEnvironment,
    /// The connection, once something was asked.
    connected: OnceCell<(Rc<Engine>, EngineInfo)>,
}

impl Docker {
    /// On this engine, with what the operator's environment says about images.
    #[must_use]
    pub fn new(address: EngineAddress, images: ImageEnvironment) -> Self {
        Self { address, images, connected: OnceCell::new() }
    }

    fn engine(&self) -> Result<&(Rc<Engine>, EngineInfo), LaunchError> {
        if let Some(connected) = self.connected.get() {
            return Ok(connected);
        }
        let engine = Engine::connect(&self.address)?;
        let info = engine.info()?;
        if runs_another_kernel(&info.default_runtime) {
            return Err(LaunchError::Runtime(info.default_runtime));
        }
        Ok(self.connected.get_or_init(|| (Rc::new(engine), info)))
    }
}

impl Backend for Docker {
    fn prerequisites(&self) -> HostReport {
        let mut report = HostReport::default();
        match self.engine() {
            Ok((_, info)) => report.notes.push(format!("{} answers at {}", describe(info), self.address)),
            Err(error) => report.missing.push(Prerequisite::of(&error, "start the engine")),
        }
        report
    }

    fn check(&self, limits: &Limits) -> Result<Enforcement, LaunchError> {
        let (_, info) = self.engine()?;
        limits::check(limits, info).map(Enforcement).map_err(LaunchError::Limits)
    }

    fn prepare(
        &self,
        plan: &BottlePlan,
        on_event: &mut dyn FnMut(LaunchEvent),
    ) -> Result<Option<String>, LaunchError> {
        let source = plan.image.as_ref().ok_or(LaunchError::NoImage)?;
        let (engine, _) = self.engine()?;
        let mut report = |line: String| on_event(LaunchEvent::Image(line));
        agent_image::provide(engine, &self.images, source, &mut report).map(Some)
    }

    fn start_gateway(&self, run: &Run, resources: &mut Resources) -> Result<Box<dyn Gateway>, LaunchError> {
        let (engine, _) = self.engine()?;
        Ok(Box::new(gateway::start(engine, run, resources)?))
    }

    fn inspected_home(&self, guest: &GuestPaths) -> PathBuf {
        // It is a container of an image that was made of the agent's.
        guest.home.clone()
    }

    fn start(
        &self,
        plan: &BottlePlan,
        run: &Run,
        resources: &mut Resources,
    ) -> Result<Box<dyn Sandbox>, LaunchError> {
        let (engine, _) = self.engine()?;
        Ok(Box::new(sandbox::start(Rc::clone(engine), plan, run, resources)?))
    }
}

/// Whether a runtime puts a kernel of its own between a container and the host's. What the first process of an agent's
/// container needs of it (redirection of connections, sockets that are handed to another container) was not tried there,
/// and another container has another kernel.
fn runs_another_kernel(runtime: &str) -> bool {
    ["runsc", "gvisor", "kata"].iter().any(|name| runtime.to_ascii_lowercase().contains(name))
}

fn describe(info: &EngineInfo) -> String {
    format!("{} {} (API {})", info.kind, info.version, info.api_version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtimes_with_a_kernel_of_their_own_are_known() {
        for runtime in ["runsc", "io.containerd.runsc.v1", "kata", "io.containerd.kata.v2", "gVisor"] {
            assert!(runs_another_kernel(runtime), "{runtime}");
        }
        for runtime in ["runc", "io.containerd.runc.v2", "crun", "nvidia", "youki", ""] {
            assert!(!runs_another_kernel(runtime), "{runtime}");
        }
    }
}
