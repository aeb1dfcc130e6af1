//! An operator's home whose bottles are machines of smolvm.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
};

use anyhow::{Context, Result, ensure};
use bot_bottle_smolvm::{Environment, Limits, Machine, Settings, Smolvm};
pub(crate) use bot_bottle_testkit::eventually;
use bot_bottle_testkit::{SmolvmGuest, require_because, static_program};

/// An operator's home, and the turn to use machines.
pub(crate) struct Home {
    pub(crate) guest: SmolvmGuest,
    pub(crate) smolvm: PathBuf,
    program: PathBuf,
    image: PathBuf,
}

impl Home {
    /// `None`, said aloud, where no machine runs.
    pub(crate) fn new() -> Result<Option<Self>> {
        let Some(guest) = SmolvmGuest::find() else { return Ok(None) };
        let (program, image) = (static_program().map_err(anyhow::Error::msg)?, guest.image());
        let home = Self { smolvm: guest.program(), guest, program, image };
        fs::create_dir_all(home.path("bottles"))?;
        fs::create_dir_all(home.project())?;
        home.write("bottles/small.md", "---\nlimits: {memory: 512MiB, cpus: 1, disk: 1GiB}\n---\n")?;
        Ok(Some(home))
    }

    /// The same with the root file system of a whole distribution as its image, which has curl.
    pub(crate) fn with_distribution() -> Result<Option<Self>> {
        let archive =
            std::env::var_os("BOT_BOTTLE_TEST_ROOTFS").map(PathBuf::from).filter(|path| path.exists());
        let reason = archive.is_none().then(|| "BOT_BOTTLE_TEST_ROOTFS names no archive".to_owned());
        if !require_because("rootfs", reason) {
            return Ok(None);
        }
        let (Some(archive), Some(mut home)) = (archive, Self::new()?) else { return Ok(None) };
        home.image = home.guest.folder().join("distribution");
        fs::create_dir(&home.image)?;
        let tar = Command::new("tar")
            .arg("-xf")
            .arg(&archive)
            .arg("-C")
            .arg(&home.image)
            .arg("--exclude=./dev/*")
            .status()?;
        ensure!(tar.success(), "{} cannot be unpacked", archive.display());
        Ok(Some(home))
    }

    /// The root file system of its machines.
    pub(crate) fn image(&self) -> &Path {
        &self.image
    }

    pub(crate) fn project(&self) -> PathBuf {
        self.guest.folder().join("project")
    }

    /// A file of bot-bottle's folder. Its name is short: smolvm's sockets lie far below it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.guest.folder().join("b").join(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> Result<()> {
        Ok(fs::write(self.path(name), text)?)
    }

    /// A command of bot-bottle.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.guest.folder());
        command.env("BOT_BOTTLE_HOME", self.path("")).env("BOT_BOTTLE_SMOLVM", &self.smolvm);
        command.current_dir(self.project()).stdin(Stdio::null());
        command
    }

    /// `run` in a machine, with these options.
    pub(crate) fn run(&self, options: &[&str], script: &str) -> Command {
        let image = self.image.to_string_lossy();
        let backend = ["run", "--backend", "smolmachines", "--bottle", "small", "--image", &image];
        self.command(&[&backend[..], options, &["--", "sh", "-c", script]].concat())
    }

    /// The standard output of a command that succeeds.
    pub(crate) fn succeeds(&self, command: &mut Command) -> Result<String> {
        let output = command.output()?;
        ensure!(output.status.success(), "{}", described(&output));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Starts a bottle that runs this script, and returns when its program has written a line.
    pub(crate) fn start(&self, script: &str) -> Result<Running> {
        let mut command = self.run(&[], &format!("echo started; {script}"));
        let mut launcher = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut output = BufReader::new(launcher.stdout.take().context("piped")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        if line != "started\n" {
            let ended = launcher.wait_with_output()?;
            anyhow::bail!("it did not start: {line:?} {}", described(&ended));
        }
        let [identity] = &self.identities()[..] else { anyhow::bail!("{:?} are there", self.identities()) };
        Ok(Running { launcher, output, identity: identity.clone() })
    }

    /// The runs that have a folder.
    pub(crate) fn identities(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("state")).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| !name.starts_with('.')).collect()
    }

    /// The machines that smolvm has.
    pub(crate) fn machines(&self) -> Result<Vec<Machine>> {
        let settings = Settings {
            program: self.smolvm.clone(),
            state_dir: self.path("vm"),
            environment: Environment::of_caller([("PATH".into(), "/usr/bin:/bin:/usr/sbin:/sbin".into())]),
            keeps_uid: false,
            limits: Limits::default(),
        };
        Ok(Smolvm::open(settings)?.machines()?)
    }

    /// Neither the host nor smolvm has anything of a run.
    pub(crate) fn is_empty(&self) -> Result<()> {
        ensure!(self.identities().is_empty(), "{:?} are left", self.identities());
        let machines = self.machines()?;
        ensure!(machines.is_empty(), "{machines:?} are left");
        let processes = self.guest.processes();
        ensure!(processes.is_empty(), "{processes:?} are left");
        Ok(())
    }
}

/// A bottle that runs.
pub(crate) struct Running {
    pub(crate) launcher: Child,
    pub(crate) output: BufReader<ChildStdout>,
    pub(crate) identity: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.launcher.kill();
        let _ = self.launcher.wait();
    }
}

/// What a command wrote and how it ended.
pub(crate) fn described(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}: {}{}", output.status, text(&output.stdout), text(&output.stderr))
}
