//! `bot-bottle demo`.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use bot_bottle_testkit::{find_program, has_user_namespaces, require};

fn demo(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bot-bottle"));
    command.args(arguments).env("BOT_BOTTLE_HOME", home).current_dir("/");
    command
}

fn is_empty(folder: &Path) -> Result<bool> {
    Ok(std::fs::read_dir(folder)?.next().is_none())
}

#[test]
fn every_ordinary_step_works_and_every_way_out_is_refused() -> Result<()> {
    if !require("userns", has_user_namespaces()) {
        return Ok(());
    }
    let home = tempfile::tempdir()?;
    let output = demo(home.path(), &["demo", "--json"]).output()?;
    let messages = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.success(),
        "{}\n{messages}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout)
    );
    let told: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    ensure!(told["holds"] == true, "{told:#}");
    let attempts = told["attempts"].as_array().context("there are attempts")?;
    ensure!(
        attempts.len() >= 12 && attempts.iter().all(|attempt| attempt["verdict"] == "blocked"),
        "{told:#}"
    );
    let steps = told["steps"].as_array().context("there are steps")?;
    ensure!(steps.len() >= 5 && steps.iter().all(|step| step["worked"] == true), "{told:#}");
    ensure!(
        told["evidence"].as_array().is_some_and(|all| all.iter().all(|one| one["holds"] == true)),
        "{told:#}"
    );
    ensure!(is_empty(home.path())?, "the demo left something behind");
    Ok(())
}

#[test]
fn the_table_is_for_a_person_and_colour_only_for_a_terminal() -> Result<()> {
    if !require("userns", has_user_namespaces()) {
        return Ok(());
    }
    let home = tempfile::tempdir()?;
    let output = demo(home.path(), &["demo"]).output()?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{}\n{text}", output.status);
    ensure!(text.contains("ways out were refused"), "{text}");
    ensure!(!text.contains('\u{1b}'), "colour without a terminal:\n{text}");
    Ok(())
}

#[test]
fn without_user_namespaces_it_says_how_to_go_on() -> Result<()> {
    if !require("userns", has_user_namespaces() && find_program("unshare").is_some()) {
        return Ok(());
    }
    let home = tempfile::tempdir()?;
    // A user namespace that allows no nested ones, like a host where they are disabled.
    let output = Command::new("unshare")
        .args(["--user", "--map-user=1000", "--map-group=1000", "--keep-caps", "sh", "-c"])
        .arg("echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\" demo")
        .arg(env!("CARGO_BIN_EXE_bot-bottle"))
        .env("BOT_BOTTLE_HOME", home.path())
        .current_dir("/")
        .output()?;
    let messages = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(4), "{}\n{messages}", output.status);
    ensure!(messages.contains("user namespaces") && messages.contains("hint"), "{messages}");
    ensure!(output.stdout.is_empty(), "it told results without having any");
    ensure!(is_empty(home.path())?, "the demo left something behind");
    Ok(())
}
