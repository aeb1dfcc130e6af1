//! What an agent made is never lost by mistake.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use bot_bottle_testkit::{has_user_namespaces, require};

use super::{FAILED, home::Home};

/// The workspace in the folder of a run, which a bottle closes; here it is opened.
fn workspace_of(run: &Path) -> PathBuf {
    // There is none any more if nothing was kept.
    let _ = fs::set_permissions(run.join("agent"), fs::Permissions::from_mode(0o700));
    run.join("agent/workspace")
}

/// The folder of the only run.
fn run_of(home: &Home) -> Result<(String, PathBuf)> {
    let left: Vec<_> = home.left().into_iter().filter(|name| name != ".lock").collect();
    let [run] = &left[..] else { anyhow::bail!("one run, not {left:?}") };
    Ok((run.clone(), home.path("state").join(run)))
}

#[test]
fn work_in_a_workspace_of_its_own_is_kept_until_it_is_removed_by_force() -> Result<()> {
    if !require("userns", has_user_namespaces()) {
        return Ok(());
    }
    let home = Home::new()?;
    let nothing = home.command(&["run", "--", "true"]).output()?;
    ensure!(nothing.status.success() && home.left() == [".lock"], "{nothing:?} {:?}", home.left());

    let worked = home.command(&["run", "--", "sh", "-c", "echo x > result.txt"]).output()?;
    let told = String::from_utf8(worked.stderr)?;
    ensure!(worked.status.success() && told.contains("kept: 1 file new; "), "{told}");
    let (run, folder) = run_of(&home)?;
    ensure!(fs::read_to_string(workspace_of(&folder).join("result.txt"))? == "x\n");

    let cleanup = home.command(&["cleanup", "--yes"]).output()?;
    let told = String::from_utf8(cleanup.stderr)?;
    ensure!(cleanup.status.success(), "others are removed all the same: {told}");
    ensure!(
        told.contains(&run) && told.contains(" of work, never fetched)") && told.contains("--force"),
        "{told}"
    );
    ensure!(workspace_of(&folder).join("result.txt").exists());

    let named = home.command(&["cleanup", "--yes", &run]).output()?;
    ensure!(named.status.code() == Some(FAILED), "what was asked for was not done: {named:?}");
    let other = home.command(&["cleanup", "--yes", "--force", "other-aaaaa"]).output()?;
    ensure!(other.status.code() == Some(FAILED), "{other:?}");
    ensure!(String::from_utf8(other.stderr)?.contains("no ended run is called other-aaaaa"));
    ensure!(workspace_of(&folder).join("result.txt").exists());

    let removed = home.command(&["cleanup", "--yes", "--force", &run]).output()?;
    ensure!(removed.status.success() && home.left() == [".lock"], "{removed:?} {:?}", home.left());
    Ok(())
}

#[test]
fn work_survives_a_launcher_that_is_killed() -> Result<()> {
    if !require("userns", has_user_namespaces()) {
        return Ok(());
    }
    let home = Home::new()?;
    let mut command = Command::new(&home.program);
    command.args(["run", "--", "sh", "-c", "echo x > result.txt; exec sleep 600"]);
    home.environment(&mut command);
    let mut launcher = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let result = || run_of(&home).ok().map(|(_, folder)| workspace_of(&folder).join("result.txt"));
    for _ in 0..2000 {
        if result().is_some_and(|result| fs::read(result).is_ok_and(|text| text == b"x\n")) {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    launcher.kill()?;
    ensure!(launcher.wait()?.signal() == Some(9));
    let (run, folder) = run_of(&home)?;
    // The bottle's processes hold the run's lock for the moment that they take to end.
    for _ in 0..500 {
        let cleanup = home.command(&["cleanup", "--yes"]).output()?;
        ensure!(cleanup.status.success(), "{cleanup:?}");
        if String::from_utf8(cleanup.stderr)?.contains(&run) {
            let kept = fs::read_to_string(workspace_of(&folder).join("result.txt"));
            ensure!(kept.context("the work is kept")? == "x\n");
            return home.clean_up();
        }
        thread::sleep(Duration::from_millis(10));
    }
    anyhow::bail!("the run is no leftover")
}

#[test]
fn kept_runs_are_listed_and_only_fetched_work_is_removed_without_force() -> Result<()> {
    if !require("userns", has_user_namespaces()) {
        return Ok(());
    }
    let home = Home::new()?;
    let listed = |home: &Home| -> Result<String> {
        Ok(String::from_utf8(home.command(&["list", "runs"]).output()?.stdout)?)
    };
    ensure!(listed(&home)? == "no agent's work is kept\n", "{}", listed(&home)?);
    ensure!(home.command(&["run", "--", "sh", "-c", "echo x > result.txt"]).output()?.status.success());
    let (run, folder) = run_of(&home)?;
    let line = listed(&home)?;
    let words = ["new", "(none)", "(empty)", "KiB", "never fetched"];
    ensure!(line.starts_with(&run) && words.iter().all(|word| line.contains(word)), "{line}");
    let json: serde_json::Value =
        serde_json::from_slice(&home.command(&["list", "runs", "--json"]).output()?.stdout)?;
    ensure!(json[0]["identity"] == run.as_str() && json[0]["fetched"] == "never", "{json}");

    // What was fetched while the bottle ran may not be all.
    for (state, stays) in [("true", true), ("false", false)] {
        fs::write(folder.join("fetched.json"), format!("{{\"while_running\":{state}}}"))?;
        let younger = home.command(&["cleanup", "--yes", "--older-than", "1h"]).output()?;
        ensure!(younger.status.success() && folder.exists(), "{younger:?}");
        let removed = home.command(&["cleanup", "--yes", "--older-than", "1s"]).output()?;
        ensure!(removed.status.success(), "{removed:?}");
        // One second may not have passed yet.
        let all = home.command(&["cleanup", "--yes"]).output()?;
        ensure!(all.status.success() && folder.exists() == stays, "{state}: {all:?}");
    }
    Ok(())
}

#[test]
fn what_cannot_go_on_says_why() -> Result<()> {
    let home = Home::new()?;
    home.refuses(&["resume", "agent-aaaaa"], FAILED, &["there is no run called agent-aaaaa", "list runs"])?;
    if require("userns", has_user_namespaces()) {
        ensure!(home.command(&["run", "--", "sh", "-c", "echo x > result.txt"]).output()?.status.success());
        let (run, _) = run_of(&home)?;
        home.refuses_but_keeps(&["resume", &run], FAILED, &["no conversation", "bot-bottle diff"])?;
        home.clean_up()?;
    }
    fs::create_dir_all(home.path("state/old-aaaaa/workspace"))?;
    home.write("state/old-aaaaa/lock", "")?.write("state/old-aaaaa/format", "2\n")?;
    for command in ["resume", "diff", "pull"] {
        let words = ["another version of bot-bottle", "state/old-aaaaa/workspace"];
        home.refuses_but_keeps(&[command, "old-aaaaa"], FAILED, &words)?;
    }
    Ok(())
}

#[test]
fn work_that_an_older_version_kept_is_not_removed_without_force() -> Result<()> {
    let home = Home::new()?;
    fs::create_dir_all(home.path("state/old-aaaaa/workspace"))?;
    home.write("state/old-aaaaa/lock", "")?.write("state/old-aaaaa/format", "2\n")?;
    home.write("state/old-aaaaa/workspace/result.txt", "hours of work")?;
    let kept = home.command(&["cleanup", "--yes"]).output()?;
    ensure!(String::from_utf8(kept.stderr)?.contains("old-aaaaa"));
    ensure!(home.path("state/old-aaaaa/workspace/result.txt").exists());
    ensure!(home.command(&["cleanup", "--yes", "--force"]).output()?.status.success());
    ensure!(home.left() == [".lock"], "{:?}", home.left());
    Ok(())
}
