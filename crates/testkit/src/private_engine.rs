//! A docker engine that a test may kill.

use std::{
    fs::{self, File},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use bot_bottle_engine::{Engine, EngineAddress};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

use crate::{
    docker::DockerHost,
    require::{find_program, require_because},
};

/// How long the engine may take to answer or to end.
const LIMIT: Duration = Duration::from_secs(120);

/// A docker engine of a test's own. It has a network of its own too: two engines in one take each other's bridge away.
#[derive(Debug)]
pub struct PrivateEngine {
    folder: TempDir,
    /// What starts its containers. It is a service of its own, as on most hosts, and outlives it.
    containerd: Child,
    process: Option<Child>,
}

impl PrivateEngine {
    /// Starts one. Where none can be started, the test is skipped with the reason.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn start() -> Option<Self> {
        let missing = || ["dockerd", "containerd"].iter().find(|name| find_program(name).is_none());
        let reason = if geteuid().is_root() {
            missing().map(|name| format!("this host has no `{name}` (Debian: docker.io)"))
        } else {
            Some("a docker engine is started by root alone".to_owned())
        };
        if !require_because("docker", reason) {
            return None;
        }
        let folder = tempfile::Builder::new().prefix("engine-").tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let mut containerd = Command::new("containerd");
        containerd
            .arg("--address")
            .arg(path("containerd.sock"))
            .arg("--root")
            .arg(path("containerd"))
            .arg("--state")
            .arg(path("containers"));
        let containerd = spawn(containerd, Stdio::null());
        let mut engine = Self { folder, containerd, process: None };
        engine.start_again();
        Some(engine)
    }

    /// Starts it, with what it had.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn start_again(&mut self) {
        let path = |name: &str| self.folder.path().join(name);
        let log = File::options().create(true).append(true).open(path("log")).expect("a log");
        let mut dockerd = Command::new("unshare");
        dockerd
            .args(["--net", "dockerd", "--host", &self.socket()])
            .arg("--containerd")
            .arg(path("containerd.sock"))
            .arg("--data-root")
            .arg(path("data"))
            .arg("--exec-root")
            .arg(path("exec"))
            .arg("--pidfile")
            .arg(path("pid"));
        self.process = Some(spawn(dockerd, log.into()));
        let deadline = Instant::now() + LIMIT;
        while self.engine().is_err() {
            assert!(Instant::now() < deadline, "{}", fs::read_to_string(path("log")).unwrap_or_default());
            sleep(Duration::from_millis(100));
        }
    }

    /// A client of it.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn engine(&self) -> Result<Engine, String> {
        let address = EngineAddress::parse(&self.socket()).map_err(|error| error.to_string())?;
        Engine::connect(&address).map_err(|error| error.to_string())
    }

    /// What a test of the docker backend needs, on this engine.
    ///
    /// # Errors
    /// When the image or the program cannot be made.
    pub fn host(&self) -> Result<DockerHost, String> {
        DockerHost::on(&self.engine()?)
    }

    /// Kills it, and leaves what it has started.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Ends it as a service manager does: with its containers.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let _ = kill_process(Pid::from_child(&process), Signal::TERM);
        let deadline = Instant::now() + LIMIT;
        while process.try_wait().is_ok_and(|ended| ended.is_none()) {
            assert!(Instant::now() < deadline, "it does not end");
            sleep(Duration::from_millis(50));
        }
    }

    fn socket(&self) -> String {
        format!("unix://{}", self.folder.path().join("socket").display())
    }
}

impl Drop for PrivateEngine {
    fn drop(&mut self) {
        self.stop();
        let _ = kill_process(Pid::from_child(&self.containerd), Signal::TERM);
        let _ = self.containerd.wait();
    }
}

/// Starts a service.
fn spawn(mut service: Command, log: Stdio) -> Child {
    service.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("it starts")
}
