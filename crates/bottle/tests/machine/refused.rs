//! What cannot be a bottle is refused with one error, before anything of it exists.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    process::Command,
};

use anyhow::{Result, ensure};
use bot_bottle_testkit::static_program;

use crate::fixture::{Home, described};

/// A home with a program for smolvm that says this.
fn refused(script: &str, image: &str) -> Result<(Option<i32>, String)> {
    let folder = tempfile::tempdir()?;
    let smolvm = folder.path().join("smolvm");
    fs::write(&smolvm, format!("#!/bin/sh\n{script}\n"))?;
    fs::set_permissions(&smolvm, fs::Permissions::from_mode(0o755))?;
    let program = static_program().map_err(anyhow::Error::msg)?;
    let output = Command::new(program)
        .args(["run", "--backend", "smolmachines", "--image", image, "--", "true"])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", folder.path())
        .env("BOT_BOTTLE_SMOLVM", &smolvm)
        .current_dir(folder.path())
        .output()?;
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    let errors = message.lines().filter(|line| line.starts_with("error")).count();
    ensure!(errors == 1, "{errors} errors: {message}");
    let left = fs::read_dir(folder.path().join(".bot-bottle/state")).into_iter().flatten().flatten();
    let left: Vec<_> = left.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.')).collect();
    ensure!(left.is_empty(), "{left:?} is left: {message}");
    Ok((output.status.code(), message))
}

#[test]
fn a_smolvm_that_cannot_be_used_is_named() -> Result<()> {
    for (script, image, texts) in [
        ("echo smolvm 1.30.0", "/image.tar", ["no egress interceptor", "1.32"]),
        ("echo smolvm 1.2.3", "/image.tar", ["1.2.3", "hint"]),
        ("echo docker 1.32.0", "/image.tar", ["smolvm", "docker 1.32.0"]),
        ("exit 1", "/image.tar", ["smolvm", "version"]),
        ("echo smolvm 1.32.2", "debian:bookworm", ["image", "absolute path"]),
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
