//! `cleanup` finds what the engine has of runs that are gone, and touches nothing of the living or of another home.

use std::{fs, process::Command};

use anyhow::{Context, Result, ensure};

use crate::fixture::{Home, eventually};

#[test]
fn objects_of_a_run_whose_folder_is_gone_are_found_and_no_others() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    let Some(other) = Home::new()? else { return Ok(()) };
    let living = other.start(&[], "sleep 600")?;
    let of_other = other.objects(&living.identity)?;

    let lost = home.start(&[], "sleep 600")?;
    let (run, pid) = (lost.identity.clone(), lost.launcher_pid().context("its number")?);
    ensure!(Command::new("kill").args(["-KILL", &pid]).status()?.success());
    drop(lost);
    let folder = home.path("state").join(&run);
    // Processes of the bottle may be writing there until they notice.
    eventually("the folder is gone", || {
        let removed = fs::remove_dir_all(&folder);
        Ok(removed.is_ok() || !folder.exists())
    })?;
    let objects = home.objects(&run)?;
    ensure!(objects.len() == 6, "{objects:?}");
    let alive = home.start(&[], "sleep 600")?;
    let of_alive = home.objects(&alive.identity)?;

    let plan = home.succeeds(&mut home.command(&["cleanup", "--dry-run"]))?;
    ensure!(objects.iter().all(|name| plan.contains(name)), "{plan}");
    ensure!(of_other.iter().chain(&of_alive).all(|name| !plan.contains(name)), "{plan}");
    eventually("both containers have ended and everything is removed", || {
        home.succeeds(&mut home.command(&["cleanup", "--yes"]))?;
        Ok(home.objects(&run)?.is_empty())
    })?;
    let again = home.succeeds(&mut home.command(&["cleanup", "--dry-run"]))?;
    ensure!(!again.contains(&run), "{again}");
    ensure!(home.objects(&alive.identity)? == of_alive && other.objects(&living.identity)? == of_other);
    for (home, bottle) in [(&home, alive), (&other, living)] {
        home.succeeds(&mut home.command(&["stop", &bottle.identity]))?;
    }
    home.clean_up()?;
    other.clean_up()
}

#[test]
fn of_a_launcher_that_was_killed_only_the_work_stays() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    only_work_stays(&home)
}

/// `cleanup` after a launcher that was killed.
pub(crate) fn only_work_stays(home: &Home) -> Result<()> {
    let bottle = home.start(&[], "touch work; sleep 600")?;
    let (run, pid) = (bottle.identity.clone(), bottle.launcher_pid()?);
    ensure!(Command::new("kill").args(["-KILL", &pid]).status()?.success());
    drop(bottle);
    eventually("what no work needs is removed", || {
        home.succeeds(&mut home.command(&["cleanup", "--yes"]))?;
        let objects = home.objects(&run)?;
        Ok(objects.len() == 4 && !objects.iter().any(|name| name.ends_with("-gateway")))
    })?;
    home.clean_up()?;
    let left = home.objects(&run)?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

#[test]
fn an_engine_that_does_not_answer_is_named_and_the_rest_is_removed() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    home.succeeds(&mut home.run(&[], "touch work"))?;
    let state = home.path("state/gone-aaaaa");
    fs::create_dir_all(&state)?;
    fs::write(state.join("lock"), "")?;
    fs::write(state.join("format"), "3\n")?;
    let mut cleanup = home.command(&["cleanup", "--yes"]);
    let output = cleanup.env("DOCKER_HOST", "unix:///nowhere/docker.sock").output()?;
    let message = String::from_utf8_lossy(&output.stderr);
    ensure!(message.contains("/nowhere/docker.sock") && message.contains("hint"), "{message}");
    ensure!(!state.exists(), "{message}");
    home.clean_up()
}
