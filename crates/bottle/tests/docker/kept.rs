//! What an agent made stays in the engine, and `diff`, `pull` and `cp` bring it out, while the run goes on and
//! afterwards.

use std::{fs, process::Command};

use anyhow::{Context, Result, ensure};
use bot_bottle_engine::ContainerStatus;

use crate::fixture::{Home, eventually};

/// The run that the home has.
fn only_run(home: &Home) -> Result<String> {
    let identities = home.identities();
    let [identity] = &identities[..] else { anyhow::bail!("{identities:?} are there") };
    Ok(identity.clone())
}

/// Kinds of what the engine has of a run, by the last part of their names.
fn kinds(home: &Home, identity: &str) -> Result<Vec<String>> {
    let objects = home.objects(identity)?;
    let mut kinds: Vec<String> =
        objects.iter().filter_map(|name| name.rsplit('-').next()).map(str::to_owned).collect();
    kinds.sort();
    Ok(kinds)
}

/// No throw-away bottle is left.
fn no_look_is_left(home: &Home, identity: &str) -> Result<()> {
    ensure!(home.identities() == [identity], "{:?}", home.identities());
    // Of this run: other tests look at theirs meanwhile.
    let images = home.engine.images(&format!("bot-bottle.run={identity}"))?;
    ensure!(images.iter().all(|image| !image.tags.iter().any(|tag| tag.contains("look-"))), "{images:?}");
    Ok(())
}

#[test]
fn a_run_that_wrote_nothing_leaves_nothing_and_another_its_work() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    only_work_is_kept(&home)
}

/// What a run leaves.
pub(crate) fn only_work_is_kept(home: &Home) -> Result<()> {
    fs::write(home.project().join("file"), "x")?;
    for idle in ["cat file", "touch ~/only-in-home", "exit 3"] {
        home.run(&["--cwd"], idle).status()?;
        home.is_empty().with_context(|| idle.to_owned())?;
    }
    for work in ["echo y > new", "rm file", "chmod 600 file"] {
        home.succeeds(&mut home.run(&["--cwd"], work))?;
        let identity = only_run(home).with_context(|| work.to_owned())?;
        let kinds = kinds(home, &identity)?;
        ensure!(kinds == ["agent", "listeners", "program", "workspace"], "{work}: {kinds:?}");
        let containers = home.engine.containers(&format!("bot-bottle.run={identity}"))?;
        eventually("the container has ended", || {
            let containers = home.engine.containers(&format!("bot-bottle.run={identity}"))?;
            Ok(containers.iter().all(|container| container.status == ContainerStatus::Exited))
        })?;
        ensure!(containers.len() == 1, "{containers:?}");
        let kept = home.command(&["cleanup", "--yes"]).output()?;
        ensure!(String::from_utf8_lossy(&kept.stderr).contains("nowhere else"), "{kept:?}");
        ensure!(only_run(home)? == identity);
        home.clean_up()?;
        let left = home.objects(&identity)?;
        ensure!(left.is_empty(), "{work}: {left:?}");
    }
    Ok(())
}

#[test]
fn files_come_out_and_go_in_after_the_end() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    files_come_out_and_go_in(&home)
}

/// `cp` and `diff` after the end.
pub(crate) fn files_come_out_and_go_in(home: &Home) -> Result<()> {
    fs::write(home.project().join("file"), "one\n")?;
    let script = "echo two >> file; mkdir sub; echo new > sub/new; echo mine > ~/note";
    home.succeeds(&mut home.run(&["--cwd"], script))?;
    let run = only_run(home)?;
    let out = home.path("out");
    fs::create_dir(&out)?;
    let copy = |from: &str| -> Result<String> {
        home.succeeds(&mut home.command(&["cp", "--force", &format!("{run}:{from}"), &out.to_string_lossy()]))
    };
    for (from, to, content) in [
        ("file", "file", "one\ntwo\n"),
        ("sub", "sub/new", "new\n"),
        ("/home/agent/note", "note", "mine\n"),
        ("../note", "note", "mine\n"),
    ] {
        copy(from).with_context(|| from.to_owned())?;
        ensure!(fs::read_to_string(out.join(to))? == content, "{from}");
    }
    let absent = home.command(&["cp", &format!("{run}:/etc/passwd"), &out.to_string_lossy()]).output()?;
    ensure!(String::from_utf8_lossy(&absent.stderr).contains("is not kept"), "{absent:?}");
    let names = home.succeeds(&mut home.command(&["diff", "--name-only", &run]))?;
    ensure!(names.contains("sub/new") && names.contains("file"), "{names}");

    fs::write(home.path("given"), "from the host\n")?;
    let given = home.path("given").to_string_lossy().into_owned();
    home.succeeds(&mut home.command(&["cp", &given, &format!("{run}:sub/")]))?;
    copy("sub/given")?;
    ensure!(fs::read_to_string(out.join("given"))? == "from the host\n");
    let refused = home.command(&["cp", &given, &format!("{run}:/home/agent/")]).output()?;
    let message = String::from_utf8_lossy(&refused.stderr);
    ensure!(!refused.status.success() && message.contains("hint"), "{refused:?}");
    no_look_is_left(home, &run)?;

    // All of it is on the host now, so nobody is asked.
    copy(".")?;
    home.succeeds(&mut home.command(&["cleanup", "--yes"]))?;
    home.is_empty()
}

#[test]
fn work_is_looked_at_while_the_run_goes_on() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    running_work_is_looked_at(&home)
}

/// `diff` and `cp` of a run that goes on.
pub(crate) fn running_work_is_looked_at(home: &Home) -> Result<()> {
    let script =
        "echo early > early; echo here > ~/note; echo ready > ready; while test ! -e end; do sleep 0.1; done";
    let mut bottle = home.start(&[], script)?;
    let run = bottle.identity.clone();
    eventually("the script has written", || {
        Ok(home
            .command(&["exec", &run, "--", "test", "-e", "/home/agent/workspace/ready"])
            .status()?
            .success())
    })?;
    let out = home.path("out");
    fs::create_dir(&out)?;
    for name in ["early", "/home/agent/note"] {
        let from = format!("{run}:{name}");
        home.succeeds(&mut home.command(&["cp", &from, &out.to_string_lossy()]))?;
    }
    ensure!(fs::read_to_string(out.join("early"))? == "early\n");
    ensure!(fs::read_to_string(out.join("note"))? == "here\n");
    fs::write(home.path("end"), "")?;
    let end = home.path("end").to_string_lossy().into_owned();
    home.succeeds(&mut home.command(&["cp", &end, &format!("{run}:")]))?;
    let status = bottle.launcher.wait()?;
    ensure!(status.success(), "{status:?}");
    no_look_is_left(home, &run)?;
    home.clean_up()
}

#[test]
fn a_launcher_that_was_killed_has_kept_the_work() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    let bottle = home.start(&[], "echo work > work; echo ready; sleep 600")?;
    let run = bottle.identity.clone();
    eventually("the script has written", || {
        Ok(home
            .command(&["exec", &run, "--", "test", "-s", "/home/agent/workspace/work"])
            .status()?
            .success())
    })?;
    let pid = bottle.launcher_pid()?;
    ensure!(Command::new("kill").args(["-KILL", &pid]).status()?.success());
    drop(bottle);
    let out = home.path("out");
    fs::create_dir(&out)?;
    home.succeeds(&mut home.command(&["cp", &format!("{run}:work"), &out.to_string_lossy()]))?;
    ensure!(fs::read_to_string(out.join("work"))? == "work\n");
    let list = home.succeeds(&mut home.command(&["list", "runs"]))?;
    ensure!(list.contains(&run), "{list}");
    let kept = home.command(&["cleanup", "--yes"]).output()?;
    ensure!(String::from_utf8_lossy(&kept.stderr).contains("nowhere else"), "{kept:?}");
    home.clean_up()?;
    let left = home.objects(&run)?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

#[test]
fn commits_are_pulled_where_the_image_has_git_and_it_is_said_where_it_has_not() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    let git = |arguments: &[&str]| -> Result<String> {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]).args(arguments);
        command.current_dir(home.project()).env("HOME", "/nonexistent").env("GIT_CONFIG_NOSYSTEM", "1");
        home.succeeds(&mut command)
    };
    git(&["init", "--quiet", "--initial-branch=main"])?;
    fs::write(home.project().join("file"), "one\n")?;
    git(&["add", "."])?;
    git(&["commit", "--quiet", "--message=start"])?;

    home.succeeds(&mut home.run(&["--cwd"], "echo two >> file"))?;
    let run = only_run(&home)?;
    let refused = home.command(&["pull", &run]).output()?;
    let message = String::from_utf8_lossy(&refused.stderr);
    ensure!(!refused.status.success(), "{refused:?}");
    ensure!(message.contains("git is not installed") && message.contains("in the image"), "{message}");
    let changed = home.succeeds(&mut home.command(&["diff", &run]))?;
    ensure!(changed.contains("file"), "{changed}");
    home.clean_up()?;

    let Some(image) = home.host.distribution() else { return Ok(()) };
    let script = "set -e; echo two >> file; git -c user.name=A -c user.email=a@example.org commit --quiet --all \
                  --message=work; echo three >> file";
    let run = ["run", "--backend", "docker", "--image", &image, "--cwd", "--", "sh", "-c", script];
    home.succeeds(&mut home.command(&run))?;
    let run = only_run(&home)?;
    let diff = home.succeeds(&mut home.command(&["diff", &run]))?;
    ensure!(diff.contains("+two") && diff.contains("+three"), "{diff}");
    home.succeeds(&mut home.command(&["pull", &run]))?;
    let log = git(&["log", "--format=%s", "--all"])?;
    ensure!(log.contains("work"), "{log}");
    home.succeeds(&mut home.command(&["cleanup", "--yes"]))?;
    home.is_empty()
}
