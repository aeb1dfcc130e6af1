//! What cannot be a bottle is refused with one error, before anything of it exists.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Command,
};

use anyhow::{Result, ensure};
use bot_bottle_testkit::static_program;

use crate::fixture::{Home, described};

/// A home with a program in the place of smolvm.
pub(crate) struct StandIn(tempfile::TempDir);

impl StandIn {
    /// One that is this script.
    pub(crate) fn new(script: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let smolvm = folder.path().join("smolvm");
        fs::write(&smolvm, format!("#!/bin/sh\n{script}\n"))?;
        fs::set_permissions(&smolvm, fs::Permissions::from_mode(0o755))?;
        Ok(Self(folder))
    }

    pub(crate) fn home(&self) -> &Path {
        self.0.path()
    }

    /// A command of bot-bottle.
    pub(crate) fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(static_program().map_err(anyhow::Error::msg)?);
        command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.home());
        command.env("BOT_BOTTLE_SMOLVM", self.home().join("smolvm")).current_dir(self.home());
        Ok(command)
    }
}

/// What `run` says with a smolvm that is this script.
fn refused(script: &str, image: &str) -> Result<(Option<i32>, String)> {
    let stand_in = StandIn::new(script)?;
    let mut command =
        stand_in.command(&["run", "--backend", "smolmachines", "--image", image, "--", "true"])?;
    let output = command.env("DOCKER_HOST", "unix:///nowhere/docker.sock").output()?;
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    let errors = message.lines().filter(|line| line.starts_with("error")).count();
    ensure!(errors == 1, "{errors} errors: {message}");
    let left = fs::read_dir(stand_in.home().join(".bot-bottle/state")).into_iter().flatten().flatten();
    let left: Vec<_> = left.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.')).collect();
    ensure!(left.is_empty(), "{left:?} is left: {message}");
    Ok((output.status.code(), message))
}

#[test]
fn a_smolvm_that_cannot_be_used_is_named() -> Result<()> {
    for (script, image, texts) in [
        ("echo smolvm 1.2.3", "/", ["1.2.3", "hint"]),
        ("echo docker 1.32.0", "/", ["smolvm", "docker 1.32.0"]),
        ("exit 1", "/", ["smolvm", "version"]),
        ("echo smolvm 1.32.2", "debian:bookworm", ["/nowhere/docker.sock", "absolute path"]),
        ("echo smolvm 1.32.2", "/nowhere/image.tar", ["/nowhere/image.tar", "No such file"]),
    ] {
        let (code, message) = refused(script, image)?;
        ensure!(code != Some(0), "{script}: {message}");
        for text in texts {
            ensure!(message.contains(text), "{script}: no {text:?} in {message}");
        }
    }
    Ok(())
}

#[test]
fn an_image_with_a_link_in_the_place_of_the_workspace_is_no_bottle() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    fs::create_dir_all(home.image().join("home/agent"))?;
    symlink("/etc", home.image().join("home/agent/workspace"))?;
    let output = home.run(&[], "true").output()?;
    let message = described(&output);
    ensure!(!output.status.success() && message.contains("/home/agent/workspace"), "{message}");
    ensure!(message.contains("link"), "{message}");
    home.is_empty()
}
