//! The native backend: a bottle in Linux namespaces, without a daemon, an image or root.
//!
//! A plan is [`render`]ed into a [`NativeSpec`], which is pure, and [`start`] starts the bottle's first
//! process with it (`init`), which makes the file system (`rootfs`) and then serves as that of any backend
//! does ([`crate::init`]). `sandbox` is the launcher's side of it. How the confinement works is described in
//! `docs/backends/native.md`.

use std::os::fd::RawFd;

use bot_bottle_core::{limits::Limits, plan::BottlePlan};

use crate::{
    backend::{Backend, Enforcement, Sandbox},
    error::LaunchError,
    host::prerequisites::{self, HostReport},
    resource::Resources,
    steps::allocate::Run,
};

mod cgroup;
mod init;
mod limits;
mod render;
mod rootfs;
mod sandbox;
mod spec;
mod start;
mod usage;

pub(crate) use cgroup::fs::remove as remove_group;
pub use cgroup::{ControlFile, Controller, Group, Parent, Version};
pub use limits::{HostMeans, LimitMeans};
pub use render::{MountedFile, MountedProgram, render};
pub use spec::{Access, NativeSpec, Operation, Tree};

/// The native backend.
#[derive(Debug, Clone, Copy, Default)]
pub struct Native;

impl Backend for Native {
    fn prerequisites(&self) -> HostReport {
        prerequisites::check()
    }

    fn check(&self, limits: &Limits) -> Result<Enforcement, LaunchError> {
        let means =
            LimitMeans::choose(limits, "", &HostMeans::gather(limits)).map_err(LaunchError::Limits)?;
        Ok(Enforcement(means.describe()))
    }

    fn start(
        &self,
        plan: &BottlePlan,
        run: &Run,
        resources: &mut Resources,
    ) -> Result<Box<dyn Sandbox>, LaunchError> {
        start::start(plan, run, resources).map(|sandbox| Box::new(sandbox) as _)
    }
}

/// The bottle's first process, see [`crate::sandbox_init`].
pub(crate) fn sandbox_init(control: RawFd) -> ! {
    std::process::exit(init::run(control))
}
