//! An operator's home for a test, and what it says of a command that fails.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::PathBuf,
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::ORDINARY_USER;

/// A home with a `.bot-bottle` in it.
pub(crate) struct Home {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) program: PathBuf,
}

impl Home {
    pub(crate) fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        // Other users cannot reach a checkout in root's home.
        let program = folder.path().join("program");
        // Copy in another process: a child that another test forks meanwhile would inherit the writable
        // descriptor, and executing the copy would fail with ETXTBSY.
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_bot-bottle")).arg(&program).status()?;
        ensure!(copied.success(), "the program could not be copied");
        let home = Self { folder, program };
        for name in ["bottles", "agents"] {
            fs::create_dir_all(home.path(name))?;
        }
        fs::create_dir(home.project())?;
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

    pub(crate) fn environment(&self, command: &mut Command) {
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.folder.path());
        command.current_dir(self.project()).stdin(Stdio::null());
    }

    /// Detached from the terminal of the test run.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("setsid");
        command.arg("--wait").arg(&self.program).args(arguments);
        self.environment(&mut command);
        command
    }

    /// In a user namespace where `.bot-bottle` is a file system in memory, mounted with these options.
    /// `before` is done on it first.
    pub(crate) fn on_a_disk(
        &self,
        options: &str,
        before: &str,
        as_user: &str,
        arguments: &[&str],
    ) -> Command {
        let mut command = Command::new("unshare");
        let script = format!(
            "mount -t tmpfs -o mode=777,{options} none ~/.bot-bottle && {before} {as_user} \"$0\" \"$@\"; \
             code=$?; ls -A ~/.bot-bottle/state 2>/dev/null; exit $code"
        );
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]);
        command.arg(&self.program).args(arguments);
        self.environment(&mut command);
        command
    }

    pub(crate) fn left(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("state")).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// `cleanup`, until nothing is left. A process that was just being started holds the run's lock for the
    /// moment that it takes to end, and its run is no leftover as long.
    pub(crate) fn clean_up(&self) -> Result<()> {
        for _ in 0..500 {
            let cleanup = self.command(&["cleanup", "--yes", "--force"]).output()?;
            ensure!(cleanup.status.success(), "{cleanup:?}");
            if self.left().iter().all(|name| name == ".lock") {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(10));
        }
        anyhow::bail!("{:?} is left", self.left())
    }

    /// One error with this code that holds these texts, and nothing left.
    pub(crate) fn refused(&self, command: &mut Command, code: i32, texts: &[&str]) -> Result<Output> {
        let output = self.fails(command, code, texts)?;
        ensure!(self.left().iter().all(|name| name == ".lock"), "{:?}", self.left());
        Ok(output)
    }

    /// One error with this code that holds these texts.
    fn fails(&self, command: &mut Command, code: i32, texts: &[&str]) -> Result<Output> {
        let output = command.output()?;
        let message = String::from_utf8(output.stderr.clone())?;
        ensure!(output.status.code() == Some(code), "{:?} instead of {code}: {message}", output.status);
        let errors = message.lines().filter(|line| line.starts_with("error")).count();
        ensure!(errors == 1, "{errors} errors: {message}");
        for text in texts {
            ensure!(message.contains(text), "no {text:?} in: {message}");
        }
        ensure!(!message.contains("panicked"), "{message}");
        Ok(output)
    }

    /// The same where kept runs stay as they are.
    pub(crate) fn refuses_but_keeps(&self, arguments: &[&str], code: i32, texts: &[&str]) -> Result<()> {
        let before = self.left();
        self.fails(&mut self.command(arguments), code, texts).with_context(|| format!("{arguments:?}"))?;
        ensure!(self.left() == before, "{:?} instead of {before:?}", self.left());
        Ok(())
    }

    pub(crate) fn refuses(&self, arguments: &[&str], code: i32, texts: &[&str]) -> Result<()> {
        self.refused(&mut self.command(arguments), code, texts).with_context(|| format!("{arguments:?}"))?;
        Ok(())
    }

    /// If the tests run as root, gives the home to an ordinary user and runs the command as that user.
    pub(crate) fn as_ordinary_user(&self, command: &mut Command) -> Result<()> {
        if rustix::process::geteuid().is_root() {
            let owner = format!("{ORDINARY_USER}:{ORDINARY_USER}");
            ensure!(Command::new("chown").args(["-hR", &owner]).arg(self.folder.path()).status()?.success());
            command.uid(ORDINARY_USER).gid(ORDINARY_USER);
        }
        Ok(())
    }
}
