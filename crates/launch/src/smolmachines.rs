//! The smolmachines backend: a bottle as a micro virtual machine of the program `smolvm`.
//!
//! smolvm runs in a network of its own ([`host_side`]), whose loopback device has the gateway's sockets and nothing
//! else: whatever smolvm does for its guest, a question to a name server included, reaches the gateway or nobody. A
//! program of ours in the machine ([`init`]) starts the agent and is told what to do over the standard streams of
//! `smolvm machine exec`. Another one ([`watch`]) switches the machine off when the launcher is gone.

use std::path::PathBuf;

use bot_bottle_core::{identity::Identity, limits::Limits, plan::BottlePlan, provider::GuestPaths};
use bot_bottle_engine::{AddressError, EngineAddress};
use bot_bottle_smolvm::{EgressControl, Environment, Settings, Smolvm, SmolvmError};

use crate::{
    agent_image::ImageEnvironment,
    backend::{Backend, Enforcement, Sandbox},
    error::LaunchError,
    home::BotBottleHome,
    host::prerequisites::{HostReport, Prerequisite},
    request::LaunchEvent,
    resource::Resources,
    steps::allocate::Run,
};

mod clock;
mod host_side;
mod image;
mod init;
mod limits;
mod machine;
mod names;
mod orphans;
mod render;
mod sandbox;
mod watch;

pub use clock::file_time;
pub use host_side::run as host_side;
pub use init::run as machine_init;
pub use machine::MachineObject;
pub use orphans::{MachineOrphan, orphans, remove_orphans};
pub use watch::run as machine_watch;

use image::Images;

/// Where smolvm and what it starts look for programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The smolmachines backend.
#[derive(Debug, Clone)]
pub struct Smolmachines {
    program: PathBuf,
    state_dir: PathBuf,
    images: Images,
}

impl Smolmachines {
    /// With this program, which keeps its machines in the operator's folder, and with an engine for images that are
    /// no path.
    #[must_use]
    pub fn new(
        program: PathBuf,
        home: &BotBottleHome,
        engine: Result<EngineAddress, AddressError>,
        environment: ImageEnvironment,
    ) -> Self {
        let images = Images { engine, environment, folder: home.machine_images() };
        Self { program, state_dir: home.machines(), images }
    }

    fn open(&self) -> Result<Smolvm, LaunchError> {
        open(&self.program, self.state_dir.clone())
    }
}

/// smolvm, as every part of this program runs it: nothing of the operator's environment reaches it.
///
/// # Errors
/// When it is not smolvm, or too old.
fn open(program: &std::path::Path, state_dir: PathBuf) -> Result<Smolvm, LaunchError> {
    let settings = Settings {
        program: program.to_owned(),
        state_dir,
        environment: Environment::of_caller([("PATH".into(), PATH.into())]),
        // In its namespace there is no other user that it could become.
        keeps_uid: true,
        limits: bot_bottle_smolvm::Limits::default(),
    };
    Ok(Smolvm::open(settings)?)
}

impl Backend for Smolmachines {
    fn prerequisites(&self) -> HostReport {
        let mut report = HostReport::default();
        match self.open() {
            Ok(smolvm) => {
                report.notes.push(format!("smolvm {} is {}", smolvm.version(), self.program.display()));
                if smolvm.version().is_untested() {
                    report
                        .notes
                        .push("this version of smolvm is newer than those that were tried".to_owned());
                }
                if smolvm.version().egress_control() == EgressControl::AllowList {
                    report.notes.push(
                        "this version of smolvm has no egress interceptor: what its machines connect to is redirected to \
                         the gateway"
                            .to_owned(),
                    );
                }
            }
            Err(error) => report.missing.push(Prerequisite::of(&error, "install smolvm 1.32 or newer")),
        }
        if let Err(error) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
            report.missing.push(Prerequisite {
                problem: format!("/dev/kvm cannot be opened: {error}"),
                remedy: "switch virtualisation on in the firmware, load the module kvm_intel or kvm_amd, and join the \
                         group kvm"
                    .to_owned(),
            });
        }
        report
    }

    fn check(&self, limits: &Limits) -> Result<Enforcement, LaunchError> {
        limits::check(limits).map(Enforcement).map_err(LaunchError::Limits)
    }

    fn prepare(
        &self,
        plan: &BottlePlan,
        on_event: &mut dyn FnMut(LaunchEvent),
    ) -> Result<Option<String>, LaunchError> {
        let mut report = |line: String| on_event(LaunchEvent::Image(line));
        let image = self.images.provide(plan.image.as_ref(), &mut report)?;
        Ok(Some(image.to_string_lossy().into_owned()))
    }

    fn inspected_home(&self, guest: &GuestPaths) -> PathBuf {
        // It is the agent's own machine.
        guest.home.clone()
    }

    fn scratch(&self, _guest: &GuestPaths, look: &Identity) -> PathBuf {
        // A name that the agent could not take, in a folder of the machine's disk.
        format!("/tmp/bot-bottle-{look}").into()
    }

    fn start(
        &self,
        plan: &BottlePlan,
        run: &Run,
        resources: &mut Resources,
    ) -> Result<Box<dyn Sandbox>, LaunchError> {
        let smolvm = self.open()?;
        Ok(Box::new(sandbox::start(smolvm, &self.program, plan, run, resources)?))
    }
}

impl From<SmolvmError> for LaunchError {
    fn from(error: SmolvmError) -> Self {
        Self::Smolvm(Box::new(error))
    }
}
