//! However a launcher ends, nothing of its bottle goes on, and nothing stays in the engine that `cleanup` does not
//! find.

use std::{process::Command, time::Instant};

use anyhow::{Result, ensure};
use bot_bottle_engine::{ContainerSpec, Mount, MountKind};
use bot_bottle_launch::request::Step;

use crate::fixture::Home;

/// How long a bottle may go on without its launcher.
const END: std::time::Duration = std::time::Duration::from_secs(5);

#[test]
fn an_engine_that_is_not_there_is_named() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    for (address, code, texts) in [
        ("unix:///nowhere/docker.sock", 4, ["/nowhere/docker.sock", "hint"]),
        ("tcp://192.0.2.1:2375", 4, ["engines of other hosts are not supported yet", "DOCKER_HOST"]),
        ("ssh://user@host", 4, ["engines of other hosts are not supported yet", "DOCKER_HOST"]),
    ] {
        home.refused(home.run(&[], "true").env("DOCKER_HOST", address), code, &texts)?;
    }
    let mut unknown =
        home.command(&["run", "--backend", "docker", "--image", "bot-bottle-test:none", "--", "true"]);
    home.refused(&mut unknown, 4, &["bot-bottle-test:none"])?;
    home.refused(&mut home.command(&["run", "--backend", "docker", "--", "true"]), 1, &["--image NAME"])?;
    Ok(())
}

#[test]
fn a_bottle_ends_with_its_launcher() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    launcher_is_killed(&home)
}

/// Both containers end soon after the launcher.
pub(crate) fn launcher_is_killed(home: &Home) -> Result<()> {
    let bottle = home.start(&[], "sleep 600")?;
    let objects = home.objects(&bottle.identity)?;
    ensure!(objects.len() == 6, "{objects:?}");
    let (pid, killed) = (bottle.launcher_pid()?, Instant::now());
    ensure!(Command::new("kill").args(["-KILL", &pid]).status()?.success());
    home.containers_end(&bottle.identity)?;
    ensure!(killed.elapsed() < END, "it took {:?}", killed.elapsed());
    let identity = bottle.identity.clone();
    drop(bottle);
    home.clean_up()?;
    let left = home.objects(&identity)?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

#[test]
fn a_bottle_ends_with_its_gateway() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    gateway_is_killed(&home)
}

/// The run ends and leaves nothing.
pub(crate) fn gateway_is_killed(home: &Home) -> Result<()> {
    let mut bottle = home.start(&[], "sleep 600")?;
    let gateway = home.objects(&bottle.identity)?.into_iter().find(|name| name.ends_with("-gateway"));
    home.engine.kill_container(&gateway.expect("a gateway"), "SIGKILL")?;
    let status = bottle.launcher.wait()?;
    ensure!(status.code() == Some(1), "{status:?}");
    let left = home.objects(&bottle.identity)?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

#[test]
fn a_launch_that_goes_wrong_at_any_step_leaves_nothing() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    for step in Step::ALL {
        let step = step.name().replace(' ', "-");
        for moment in ["before", "after"] {
            let failing = format!("fail-{moment}:{step}");
            home.refused(home.run(&[], "true").env("BOT_BOTTLE_FAULT", &failing), 1, &["told to fail"])?;
            let killed =
                home.run(&[], "true").env("BOT_BOTTLE_FAULT", format!("{moment}:{step}")).status()?;
            ensure!(!killed.success(), "{moment} {step}: {killed:?}");
            let identities = home.identities();
            home.clean_up()?;
            for identity in identities {
                let left = home.objects(&identity)?;
                ensure!(left.is_empty(), "{moment} {step}: {left:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn what_an_engine_makes_after_its_launcher_was_killed_is_found() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    let bottle = home.start(&[], "sleep 600")?;
    let identity = bottle.identity.clone();
    let objects = home.objects(&identity)?;
    drop(bottle);
    home.containers_end(&identity)?;
    let named = |end: &str| objects.iter().find(|name| name.ends_with(end)).expect("its name").clone();
    let (gateway, volume) = (named("-gateway"), named("-program"));
    let holding = |name: &str| ContainerSpec {
        name: name.to_owned(),
        image: home.host.image.clone(),
        command: vec!["true".to_owned()],
        network: "none".to_owned(),
        log_driver: "none".to_owned(),
        mounts: vec![Mount {
            kind: MountKind::Volume { name: volume.clone(), no_copy: true },
            target: "/program".to_owned(),
            read_only: true,
        }],
        ..ContainerSpec::default()
    };

    // A volume that somebody else's container has is named, and everything else is gone.
    let other = format!("bot-bottle-test-{identity}");
    home.engine.create_container(&holding(&other))?;
    let busy = home.command(&["cleanup", "--yes", "--force"]).output()?;
    let message = String::from_utf8_lossy(&busy.stderr);
    ensure!(!busy.status.success() && message.contains(&volume) && message.contains("in use"), "{message}");
    ensure!(home.objects(&identity)? == [volume.clone()], "{:?}", home.objects(&identity));
    home.engine.remove_container(&other)?;

    // A container that was not there when it was to be removed.
    home.engine.create_container(&holding(&gateway))?;
    home.succeeds(&mut home.command(&["cleanup", "--yes", "--force"]))?;
    home.is_empty()?;
    ensure!(home.engine.inspect_container(&gateway).is_err(), "{gateway} is left");
    ensure!(home.objects(&identity)?.is_empty(), "{:?}", home.objects(&identity));
    Ok(())
}
