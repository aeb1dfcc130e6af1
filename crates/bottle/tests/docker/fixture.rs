//! An operator's home whose bottles are made by the engine, and what the engine has of them.

use std::{
    fs,
    io::Read,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use bot_bottle_engine::{ContainerStatus, Engine};
pub(crate) use bot_bottle_testkit::eventually;
use bot_bottle_testkit::{DockerHost, engine, podman};

/// For what takes a moment: a test that waits this long fails.
pub(crate) const LONG: Duration = Duration::from_secs(120);

/// An operator's home.
pub(crate) struct Home {
    pub(crate) host: DockerHost,
    pub(crate) engine: Engine,
    folder: tempfile::TempDir,
}

impl Home {
    /// `None`, said aloud, where the host has no engine.
    pub(crate) fn new() -> Result<Option<Self>> {
        let Some(host) = DockerHost::find() else { return Ok(None) };
        Self::on(host, engine()).map(Some)
    }

    /// `None`, said aloud, where there is no service of podman.
    pub(crate) fn on_podman() -> Result<Option<Self>> {
        let Some(host) = DockerHost::find_podman() else { return Ok(None) };
        Self::on(host, podman()).map(Some)
    }

    /// On this engine.
    pub(crate) fn on(host: DockerHost, engine: Result<Engine, String>) -> Result<Self> {
        let engine = engine.map_err(anyhow::Error::msg)?;
        let home = Self { host, engine, folder: tempfile::tempdir()? };
        for name in [".bot-bottle/bottles", ".bot-bottle/agents", "project"] {
            fs::create_dir_all(home.folder.path().join(name))?;
        }
        Ok(home)
    }

    pub(crate) fn project(&self) -> PathBuf {
        self.folder.path().join("project")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(".bot-bottle").join(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> Result<&Self> {
        fs::write(self.path(name), text)?;
        Ok(self)
    }

    /// A command of bot-bottle, detached from the terminal of the test run.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("setsid");
        // Without `--fork` it would be the program itself wherever it leads no process group.
        command.args(["--fork", "--wait"]).arg(&self.host.program).args(arguments);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.folder.path());
        command.env("DOCKER_HOST", self.engine.address().to_string());
        command.current_dir(self.project()).stdin(Stdio::null());
        command
    }

    /// `run` in a container of the image with busybox, with these options.
    pub(crate) fn run(&self, options: &[&str], script: &str) -> Command {
        let backend = ["run", "--backend", "docker", "--image", &self.host.image];
        self.command(&[&backend[..], options, &["--", "sh", "-c", script]].concat())
    }

    /// The standard output of a command that succeeds.
    pub(crate) fn succeeds(&self, command: &mut Command) -> Result<String> {
        let output = command.output()?;
        ensure!(output.status.success(), "{output:?}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// One error with this code that holds these texts, and nothing left.
    pub(crate) fn refused(&self, command: &mut Command, code: i32, texts: &[&str]) -> Result<Output> {
        let output = command.output()?;
        let message = String::from_utf8(output.stderr.clone())?;
        ensure!(output.status.code() == Some(code), "{:?} instead of {code}: {message}", output.status);
        let errors = message.lines().filter(|line| line.starts_with("error")).count();
        ensure!(errors == 1, "{errors} errors: {message}");
        for text in texts {
            ensure!(message.contains(text), "no {text:?} in: {message}");
        }
        self.is_empty()?;
        Ok(output)
    }

    /// Starts a bottle that runs this script, and returns when its program has written a line.
    pub(crate) fn start(&self, options: &[&str], script: &str) -> Result<Running> {
        self.spawn(self.run(options, &format!("echo started; {script}")), b"started\n")
    }

    /// Starts a bottle, and returns when its program has written this.
    pub(crate) fn spawn(&self, mut command: Command, first: &[u8]) -> Result<Running> {
        let mut launcher = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut said = vec![0; first.len()];
        let read = launcher.stdout.as_mut().context("piped")?.read_exact(&mut said);
        if read.is_err() || said != first {
            let rest = launcher.wait_with_output()?;
            bail!("it did not start: {:?} {rest:?}", String::from_utf8_lossy(&said));
        }
        let identities = self.identities();
        let [identity] = &identities[..] else { bail!("{identities:?} are there") };
        Ok(Running { launcher, identity: identity.clone() })
    }

    /// The runs that have a folder.
    pub(crate) fn identities(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("state")).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| !name.starts_with('.')).collect()
    }

    /// What the engine has of a run: the names of containers, volumes and networks, in their order.
    pub(crate) fn objects(&self, identity: &str) -> Result<Vec<String>> {
        let label = format!("bot-bottle.run={identity}");
        let mut names: Vec<String> =
            self.engine.containers(&label)?.into_iter().map(|container| container.name).collect();
        names.extend(self.engine.volumes(&label)?.into_iter().map(|volume| volume.name));
        names.extend(self.engine.networks(&label)?.into_iter().map(|network| network.name));
        names.sort();
        Ok(names)
    }

    /// Waits until both containers of a run have ended.
    pub(crate) fn containers_end(&self, identity: &str) -> Result<()> {
        let label = format!("bot-bottle.run={identity}");
        eventually("both containers have ended", || {
            let containers = self.engine.containers(&label)?;
            let has_ended = |status: &ContainerStatus| *status == ContainerStatus::Exited;
            Ok(containers.len() == 2 && containers.iter().all(|found| has_ended(&found.status)))
        })
    }

    /// Neither the host nor the engine has anything of a run of this home.
    pub(crate) fn is_empty(&self) -> Result<()> {
        let identities = self.identities();
        ensure!(identities.is_empty(), "{identities:?} are left");
        Ok(())
    }

    /// `cleanup`, until nothing is left. A process that was just killed holds the run's lock for a moment, and the
    /// engine what it was making for it.
    pub(crate) fn clean_up(&self) -> Result<()> {
        let mut last = None;
        let removed = eventually("everything is removed", || {
            let cleaned = self.command(&["cleanup", "--yes", "--force"]).output()?;
            let is_removed = cleaned.status.success() && self.identities().is_empty();
            last = Some(cleaned);
            Ok(is_removed)
        });
        removed.with_context(|| format!("the last cleanup: {last:?}"))
    }
}

impl Drop for Home {
    /// The engine keeps the work of a test that failed.
    fn drop(&mut self) {
        let _ = self.command(&["cleanup", "--yes", "--force"]).output();
    }
}

/// A bottle that runs.
pub(crate) struct Running {
    pub(crate) launcher: Child,
    pub(crate) identity: String,
}

impl Running {
    /// The launcher's own process: that of `setsid` is its parent.
    pub(crate) fn launcher_pid(&self) -> Result<String> {
        let children = format!("/proc/{0}/task/{0}/children", self.launcher.id());
        Ok(fs::read_to_string(children)?.split_whitespace().next().context("a child")?.to_owned())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(pid) = self.launcher_pid() {
            let _ = Command::new("kill").args(["-KILL", &pid]).status();
        }
        let _ = self.launcher.wait();
    }
}
