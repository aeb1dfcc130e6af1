//! Runs in the state directory that another version of bot-bottle made.

use std::{
    fs::{self, File},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{FAILED, home::Home};

/// A process, and its start as the state of a run records it: field 22 of `/proc/PID/stat`.
fn sleeping() -> Result<(std::process::Child, String)> {
    let child = Command::new("sleep").arg("600").spawn()?;
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id()))?;
    let (_, fields) = stat.rsplit_once(") ").context("a name in parentheses")?;
    let started = fields.split(' ').nth(19).context("22 fields")?;
    let recorded = format!("{{\"pid\":{},\"started\":{started}}}", child.id());
    Ok((child, recorded))
}

#[test]
fn a_run_of_an_older_version_is_told_apart_and_removed() -> Result<()> {
    let home = Home::new()?;
    let (mut child, process) = sleeping()?;
    fs::create_dir_all(home.path("state/old-aaaaa"))?;
    home.write("state/old-aaaaa/lock", "")?
        .write("state/old-aaaaa/processes.json", format!("[{process}]"))?
        .write("state/old-aaaaa/groups.json", "[]")?;
    let lock = File::options().write(true).open(home.path("state/old-aaaaa/lock"))?;
    lock.lock()?;
    let active = String::from_utf8(home.command(&["list", "active"]).output()?.stdout)?;
    ensure!(active == "old-aaaaa  made by another version of bot-bottle\n", "{active:?}");
    let none = String::from_utf8(home.command(&["cleanup", "--yes"]).output()?.stdout)?;
    ensure!(none == "nothing is left of any bottle\n", "it lives: {none:?}");
    drop(lock);
    // A process that another test was just starting may have inherited the lock, until it executes.
    let mut text = none.clone();
    for _ in 0..500 {
        if text != none {
            break;
        }
        let output = home.command(&["cleanup", "--yes"]).output()?;
        text = String::from_utf8(output.stdout)?;
        ensure!(output.status.success(), "{text}");
    }
    ensure!(text.ends_with("/state/old-aaaaa (new, made by another version of bot-bottle)\n"), "{text:?}");
    ensure!(child.wait()?.code().is_none(), "its process was killed");
    ensure!(home.left() == [".lock"], "{:?}", home.left());
    Ok(())
}

#[test]
fn a_run_of_a_newer_version_is_left_to_it() -> Result<()> {
    let home = Home::new()?;
    let (mut child, process) = sleeping()?;
    let id = child.id();
    for name in ["state/new-aaaaa", "state/old-aaaaa"] {
        fs::create_dir_all(home.path(name))?;
    }
    home.write("state/new-aaaaa/lock", "")?.write("state/new-aaaaa/format", "9\n")?.write(
        "state/new-aaaaa/resources.json",
        format!("[{{\"machine\":\"m\"}},{{\"process\":{process}}}]"),
    )?;
    home.write("state/old-aaaaa/lock", "")?;
    for _ in 0..2 {
        let output = home.command(&["cleanup", "--yes"]).output()?;
        let text = String::from_utf8(output.stderr)?;
        ensure!(output.status.code() == Some(FAILED), "{:?}", output.status);
        let told =
            format!("made by another version of bot-bottle, newer than this one; still running: {id})");
        ensure!(text.contains("not removed: ") && text.contains(&told), "{text}");
        ensure!(text.contains("run `cleanup` of that version"), "{text}");
        ensure!(child.try_wait()?.is_none(), "its process is left alone");
        let mut left = home.left();
        left.sort();
        ensure!(left == [".lock", "new-aaaaa"], "{left:?}");
    }
    child.kill()?;
    child.wait()?;
    Ok(())
}
