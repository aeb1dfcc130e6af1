//! However a launcher ends, nothing of its machine goes on, and nothing stays that `cleanup` does not find.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::fixture::{Home, described, eventually};

/// How long a bottle may go on without its launcher.
const END: Duration = Duration::from_secs(5);

#[test]
fn a_machine_is_switched_off_with_its_launcher_and_its_work_stays() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    let mut bottle = home.start("echo made > work; sync; sleep 600")?;
    let identity = bottle.identity.clone();
    let beside = home.command(&["exec", &identity, "--", "sh", "-c", "cat work; exit 3"]).output()?;
    ensure!(beside.status.code() == Some(3) && beside.stdout == b"made\n", "{}", described(&beside));

    // Whatever its monitor does, there is no other network: DNS is its own, and goes past the interceptor.
    let networks: Vec<String> = home.guest.processes().into_iter().filter_map(network_devices).collect();
    ensure!(!networks.is_empty() && networks.iter().all(|devices| devices == "lo"), "{networks:?}");

    bottle.launcher.kill()?;
    let killed = Instant::now();
    eventually("every process has ended", || Ok(home.guest.processes().is_empty()))?;
    ensure!(killed.elapsed() < END, "it took {:?}", killed.elapsed());
    drop(bottle);

    // What is nowhere else stays, and can be looked at.
    home.command(&["cleanup", "--yes"]).output()?;
    ensure!(home.identities() == [identity.as_str()]);
    let copied = home.project().join("copied");
    let from = format!("{identity}:work");
    home.succeeds(&mut home.command(&["cp", &from, &copied.to_string_lossy()]))?;
    ensure!(std::fs::read_to_string(&copied)? == "made\n");
    home.succeeds(&mut home.command(&["cleanup", "--yes", "--force"]))?;
    home.is_empty()
}

#[test]
fn a_bottle_that_is_stopped_or_made_nothing_leaves_nothing() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    let mut bottle = home.start("sleep 600")?;
    home.succeeds(&mut home.command(&["stop", &bottle.identity]))?;
    bottle.launcher.wait()?;
    home.is_empty()
}

/// Up to where the machine is started: each of these is the same for every backend, but for what `smolvm` has made.
#[test]
fn a_launch_that_goes_wrong_leaves_no_machine() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    for step in ["start-gateway", "start-sandbox", "prepare-files", "connect-gateway", "wait-for-gateway"] {
        for moment in ["before", "after"] {
            let failing = format!("fail-{moment}:{step}");
            let failed = home.run(&[], "true").env("BOT_BOTTLE_FAULT", &failing).output()?;
            ensure!(failed.status.code() == Some(1), "{failing}: {}", described(&failed));
            home.is_empty()?;
            let killed =
                home.run(&[], "true").env("BOT_BOTTLE_FAULT", format!("{moment}:{step}")).output()?;
            ensure!(!killed.status.success(), "{moment} {step}: {}", described(&killed));
            eventually("nothing is left", || {
                home.succeeds(&mut home.command(&["cleanup", "--yes", "--force"]))?;
                Ok(home.is_empty().is_ok())
            })?;
        }
    }
    Ok(())
}

/// The same once the machine runs.
#[test]
fn a_launch_that_goes_wrong_in_its_machine_leaves_none() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    let failed = home.run(&[], "true").env("BOT_BOTTLE_FAULT", "fail-after:initialise-sandbox").output()?;
    ensure!(failed.status.code() == Some(1), "{}", described(&failed));
    home.is_empty()?;
    let killed = home.run(&[], "true").env("BOT_BOTTLE_FAULT", "before:attach").output()?;
    ensure!(!killed.status.success(), "{}", described(&killed));
    eventually("nothing is left", || {
        home.succeeds(&mut home.command(&["cleanup", "--yes", "--force"]))?;
        Ok(home.is_empty().is_ok())
    })
}

/// The network devices that a process sees, proc_pid_net(5); `None` if it has ended.
fn network_devices(process: u32) -> Option<String> {
    let table = std::fs::read_to_string(format!("/proc/{process}/net/dev")).ok()?;
    // Two lines are the heads of columns.
    let names = table.lines().skip(2).filter_map(|line| line.split_once(':'));
    Some(names.map(|(name, _)| name.trim()).collect::<Vec<_>>().join(" "))
}
