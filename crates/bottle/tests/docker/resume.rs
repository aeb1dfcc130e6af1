//! A run goes on in a new container with its home, its workspace and its conversation; and what an agent installed
//! becomes an image.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    process::Command,
};

use anyhow::{Context, Result, ensure};
use bot_bottle_engine::BuildSpec;
use bot_bottle_testkit::find_program;

use crate::fixture::{Home, eventually};

/// An agent that notes each turn in its conversation and shows it, with what it finds in its home and workspace.
const AGENT: &str = r#"#!/bin/sh
mkdir -p ~/.claude/projects/workspace
echo "turn" >> ~/.claude/projects/workspace/talk.jsonl
cat ~/.claude/projects/workspace/talk.jsonl
echo x >> work
echo "work $(wc -l < work)"
echo installed > ~/tool
test ! -e wait || while true; do sleep 0.1; done
"#;

/// A home with an agent `worker`, whose image has a program `claude`.
fn with_agent(home: &Home) -> Result<String> {
    let tag = "bot-bottle-test:agent".to_owned();
    let mut archive = tar::Builder::new(Vec::new());
    let dockerfile = format!("FROM {}\nCOPY --chmod=755 claude /bin/claude\n", home.host.image);
    for (name, content) in
        [("Dockerfile", dockerfile.replace("--chmod=755 ", "")), ("claude", AGENT.to_owned())]
    {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        archive.append_data(&mut header, name, content.as_bytes())?;
    }
    let spec = BuildSpec { tag: tag.clone(), network: Some("none".to_owned()), ..BuildSpec::default() };
    home.engine.build(&spec, &mut archive.into_inner()?.as_slice(), &mut |_| {})?;
    home.write("bottles/web.md", "---\nagent_provider: {template: claude, auth_token: TOKEN}\n---\n")?;
    home.write("agents/worker.md", "---\nbottle: web\n---\nWork.\n")?;
    // The host has one as well.
    let programs = home.path("programs");
    fs::create_dir_all(&programs)?;
    fs::copy(find_program("busybox").context("busybox")?, programs.join("claude"))?;
    fs::set_permissions(programs.join("claude"), Permissions::from_mode(0o755))?;
    Ok(tag)
}

fn agent(home: &Home, arguments: &[&str]) -> Command {
    let turn = ["--headless", "--prompt", "go on"];
    let mut command = home.command(&[arguments, &turn].concat());
    command.env("PATH", format!("{}:/usr/bin:/bin", home.path("programs").display())).env("TOKEN", "secret");
    command
}

fn only_run(home: &Home) -> Result<String> {
    let identities = home.identities();
    let [identity] = &identities[..] else { anyhow::bail!("{identities:?} are there") };
    Ok(identity.clone())
}

#[test]
fn a_run_goes_on_with_its_home_and_its_workspace() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    run_goes_on(&home)
}

/// `resume`, after an end and after a kill.
pub(crate) fn run_goes_on(home: &Home) -> Result<()> {
    let image = with_agent(home)?;
    let start = ["start", "worker", "--yes", "--backend", "docker", "--image", &image];
    let said = home.succeeds(&mut agent(home, &start))?;
    ensure!(said == "turn\nwork 1\n", "{said}");
    let run = only_run(home)?;
    let before = home.objects(&run)?;
    for turn in 2..4 {
        let said = home.succeeds(&mut agent(home, &["resume", &run]))?;
        ensure!(said == format!("{}work {turn}\n", "turn\n".repeat(turn)), "{turn}: {said}");
        let objects = home.objects(&run)?;
        ensure!(objects.len() == before.len() && objects != before, "{before:?} became {objects:?}");
    }

    // One that is killed goes on as well, and only once at a time.
    fs::write(home.path("wait"), "")?;
    let wait = home.path("wait").to_string_lossy().into_owned();
    home.succeeds(&mut home.command(&["cp", &wait, &format!("{run}:")]))?;
    let bottle = home.spawn(agent(home, &["resume", &run]), b"turn\nturn\nturn\nturn\nwork 4\n")?;
    let second = agent(home, &["resume", &run]).output()?;
    let message = String::from_utf8_lossy(&second.stderr);
    ensure!(!second.status.success() && message.contains("is running"), "{message}");
    ensure!(Command::new("kill").args(["-KILL", &bottle.launcher_pid()?]).status()?.success());
    drop(bottle);
    // The conversation is in the layer of the container that was killed.
    let bottle = home.spawn(agent(home, &["resume", &run]), b"turn\nturn\nturn\nturn\nturn\nwork 5\n")?;
    home.succeeds(&mut home.command(&["stop", &run]))?;
    drop(bottle);

    home.clean_up()?;
    let left = home.objects(&run)?;
    ensure!(left.is_empty(), "{left:?}");
    let images = home.engine.images("bot-bottle.image=home")?;
    let of_run = images.iter().flat_map(|image| &image.tags).filter(|tag| tag.contains(&run)).count();
    ensure!(of_run == 0, "{images:?}");
    Ok(())
}

#[test]
fn a_run_that_cannot_go_on_keeps_what_it_has() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    let image = with_agent(&home)?;
    let start = ["start", "worker", "--yes", "--backend", "docker", "--image", &image];
    home.succeeds(&mut agent(&home, &start))?;
    let run = only_run(&home)?;
    let before = home.objects(&run)?;
    for fault in ["fail-after:start-sandbox", "fail-before:attach", "after:start-sandbox", "before:attach"] {
        let failed = agent(&home, &["resume", &run]).env("BOT_BOTTLE_FAULT", fault).output()?;
        ensure!(!failed.status.success(), "{fault}: {failed:?}");
        if fault.starts_with("fail") {
            let objects = home.objects(&run)?;
            ensure!(objects == before, "{fault}: {before:?} became {objects:?}");
        }
    }
    let kept = home.command(&["cleanup", "--yes"]).output()?;
    ensure!(kept.status.success(), "{kept:?}");
    let said = home.succeeds(&mut agent(&home, &["resume", &run]))?;
    ensure!(said == "turn\nturn\nwork 2\n", "{said}");
    home.clean_up()?;
    let left = home.objects(&run)?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

#[test]
fn what_an_agent_installed_becomes_an_image() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    home.succeeds(&mut home.run(
        &[],
        "echo '#!/bin/sh' > ~/tool; echo 'echo of the image' >> ~/tool; chmod +x ~/tool; touch x",
    ))?;
    let run = only_run(&home)?;
    let name = format!("bot-bottle-test:committed-{run}");
    let said = home.succeeds(&mut home.command(&["commit", &run, &name]))?;
    ensure!(said.trim() == name, "{said}");
    let by_default = home.succeeds(&mut home.command(&["commit", &run]))?;
    ensure!(by_default.starts_with(&format!("bot-bottle/{run}:")), "{by_default}");
    home.clean_up()?;

    // It stays though its run is gone, and nothing of the run is in its labels.
    let image = home.engine.image(&name)?;
    ensure!(image.config.labels.get("bot-bottle.run").is_none_or(String::is_empty), "{image:?}");
    ensure!(image.config.entrypoint == ["/usr/bin/env"], "{image:?}");
    let again = ["run", "--backend", "docker", "--image", &name, "--", "/home/agent/tool"];
    let said = home.succeeds(&mut home.command(&again))?;
    ensure!(said == "of the image\n", "{said}");
    home.is_empty()?;
    for image in [name.as_str(), by_default.trim()] {
        home.engine.remove_image(image)?;
    }
    Ok(())
}

#[test]
fn a_bottle_that_is_no_container_has_no_image() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    let unknown = home.command(&["commit", "run-aaaaa"]).output()?;
    let message = String::from_utf8_lossy(&unknown.stderr);
    ensure!(!unknown.status.success() && message.contains("there is no run called run-aaaaa"), "{message}");
    let mut bottle = home.start(&[], "touch x; while test ! -e end; do sleep 0.1; done")?;
    let run = bottle.identity.clone();
    eventually("it has an image while it runs", || {
        let committed = home.command(&["commit", &run, &format!("bot-bottle-test:{run}")]).output()?;
        Ok(committed.status.success())
    })?;
    home.engine.remove_image(&format!("bot-bottle-test:{run}"))?;
    home.succeeds(&mut home.command(&["stop", &run]))?;
    bottle.launcher.wait()?;
    home.clean_up()
}
