//! What machines are made of besides folders: images of a container engine, and archives.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, ensure};
use bot_bottle_engine::Engine;
use bot_bottle_testkit::{DockerHost, engine, find_program};

use crate::fixture::{Home, described};

/// An agent that notes each turn in its conversation and shows it, with what it finds.
const AGENT: &str = r#"#!/bin/sh
mkdir -p ~/.claude/projects/workspace
echo "turn" >> ~/.claude/projects/workspace/talk.jsonl
cat ~/.claude/projects/workspace/talk.jsonl
echo x >> work
echo "work $(wc -l < work) $OF_IMAGE"
"#;

const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The image of the tests with a program `claude` and a variable, in the engine.
fn import(home: &Home, engine: &Engine, name: &str) -> Result<String> {
    let program = home.image().join("bin/claude");
    fs::write(&program, AGENT)?;
    fs::set_permissions(&program, Permissions::from_mode(0o755))?;
    let mut tar = Command::new("tar")
        .args(["--create", "--owner=0", "--group=0", "--directory"])
        .arg(home.image())
        .arg(".")
        .stdout(Stdio::piped())
        .spawn()?;
    let id = engine.import(
        name,
        &["ENV OF_IMAGE=variable PATH=/opt/tools".to_owned()],
        tar.stdout.as_mut().context("piped")?,
    )?;
    ensure!(tar.wait()?.success());
    Ok(id)
}

/// The program of an operator with an agent `worker`.
fn agent(home: &Home, engine: &Engine, arguments: &[&str]) -> Command {
    let turn = ["--headless", "--prompt", "go on"];
    let mut command = home.command(&[arguments, &turn].concat());
    let programs = home.path("programs");
    command.env("PATH", format!("{}:/usr/bin:/bin", programs.display())).env("TOKEN", "secret");
    command.env("DOCKER_HOST", engine.address().to_string());
    command
}

#[test]
fn an_image_of_an_engine_becomes_a_machine_that_goes_on() -> Result<()> {
    // The engine that is asked below.
    let (Some(_), Some(home)) = (DockerHost::find(), Home::new()?) else { return Ok(()) };
    let engine = engine().map_err(anyhow::Error::msg)?;
    let name = "bot-bottle-test:machine";
    let id = import(&home, &engine, name)?;
    fs::create_dir_all(home.path("agents"))?;
    home.write(
        "bottles/web.md",
        "---\nagent_provider: {template: claude, auth_token: TOKEN}\nlimits: {memory: 512MiB, cpus: 1, disk: \
         1GiB}\n---\n",
    )?;
    home.write("agents/worker.md", "---\nbottle: web\n---\nWork.\n")?;
    let programs = home.path("programs");
    fs::create_dir_all(&programs)?;
    fs::copy(find_program("busybox").context("busybox")?, programs.join("claude"))?;

    let start = ["start", "worker", "--yes", "--backend", "smolmachines", "--image", name];
    let said = home.succeeds(&mut agent(&home, &engine, &start))?;
    ensure!(said == "turn\nwork 1 variable\n", "{said}");
    let [run] = &home.identities()[..] else { anyhow::bail!("{:?}", home.identities()) };

    // It is saved under its content, and a run that goes on needs neither the engine nor what was saved.
    let archive = home.path("images").join(format!("{}.tar", id.trim_start_matches("sha256:")));
    let saved = fs::metadata(&archive)?.modified()?;
    engine.remove_image(name)?;
    let aside = archive.with_extension("aside");
    fs::rename(&archive, &aside)?;
    let said = home.succeeds(&mut agent(&home, &engine, &["resume", run]))?;
    ensure!(said == "turn\nturn\nwork 2 variable\n", "{said}");
    fs::rename(&aside, &archive)?;
    ensure!(fs::metadata(&archive)?.modified()? == saved);

    let refused = home.command(&["commit", run]).output()?;
    let message = described(&refused);
    ensure!(!refused.status.success() && message.contains("docker backend"), "{message}");

    // A machine whose run is gone is found, and what was saved for one when nothing was made of it for long.
    fs::remove_dir_all(home.path("state").join(run))?;
    home.succeeds(&mut home.command(&["cleanup", "--yes"]))?;
    home.is_empty()?;
    ensure!(archive.exists(), "it may be used again");
    File::options().write(true).open(&archive)?.set_modified(SystemTime::now() - 2 * WEEK)?;
    let shown = home.succeeds(&mut home.command(&["cleanup", "--dry-run"]))?;
    ensure!(shown.contains(&*archive.to_string_lossy()), "{shown}");
    home.succeeds(&mut home.command(&["cleanup", "--yes"]))?;
    ensure!(!archive.exists());
    Ok(())
}

#[test]
fn an_archive_of_an_image_becomes_a_machine() -> Result<()> {
    // The engine that is asked below.
    let (Some(_), Some(home)) = (DockerHost::find(), Home::new()?) else { return Ok(()) };
    let engine = engine().map_err(anyhow::Error::msg)?;
    let name = "bot-bottle-test:machine-archive";
    let id = import(&home, &engine, name)?;
    let archive = home.project().join("image.tar");
    engine.save_image(&id, &mut File::create(&archive)?)?;
    engine.remove_image(name)?;
    let script = "echo $OF_IMAGE; id -u; stat -c %u /bin/claude; echo $PATH";
    let image = archive.to_string_lossy();
    let run = ["run", "--backend", "smolmachines", "--bottle", "small", "--image", &image, "--", "sh", "-c"];
    let said = home.succeeds(&mut home.command(&[&run[..], &[script]].concat()))?;
    let mut lines = said.lines();
    ensure!(lines.by_ref().take(3).eq(["variable", "1000", "0"]), "{said}");
    ensure!(lines.next().is_some_and(|path| path.ends_with(":/opt/tools")), "{said}");
    home.is_empty()
}
