//! Untrusted text never reaches the operator's terminal unescaped: in errors, progress, lists and the
//! preflight.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use anyhow::{Result, ensure};
use bot_bottle_testkit::{has_user_namespaces, require};

use crate::home::Home;

/// Sets a title, colours, asks for an answer, reorders, hides, and poses as a line of ours.
const HOSTILE: &str = "evil\u{1b}]0;TITLE\u{7}\u{1b}[31m\u{1b}[6n\u{9b}2J\u{202e}\u{e0041}\nerror: forged";

fn is_hazardous(character: char) -> bool {
    matches!(character, '\u{202e}' | '\u{e0041}') || (character.is_control() && character != '\n')
}

/// Runs a command whose output includes the hostile text, and checks that no control character of it is
/// printed.
fn expect_harmless(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    for stream in [&output.stdout, &output.stderr] {
        let text = String::from_utf8(stream.clone())?;
        ensure!(!text.contains(is_hazardous), "{command:?}: {text:?}");
        ensure!(!text.contains("\nerror: forged"), "{command:?}: {text:?}");
    }
    let all = [output.stdout, output.stderr].concat();
    let all = String::from_utf8_lossy(&all);
    ensure!(all.contains("evil"), "{command:?} does not tell about it: {all:?}");
    Ok(())
}

#[test]
fn names_in_a_repository_are_printable() -> Result<()> {
    let home = Home::new()?;
    let agents = home.project().join(".bot-bottle/agents");
    fs::create_dir_all(&agents)?;
    fs::write(agents.join(format!("{HOSTILE}.md")), "---\nbottle: none\n---\n")?;
    fs::write(
        agents.join("evil.md"),
        format!("---\nbottle: \"evil\\e]0;T\\a\"\n{HOSTILE}: x\n---\n{HOSTILE}\n"),
    )?;
    home.write("bottles/none.md", "---\n---\n")?;
    for arguments in [
        ["list", "agents"].as_slice(),
        &["info", "evil"],
        &["start", "evil", "--yes"],
        &["start", HOSTILE, "--yes"],
    ] {
        expect_harmless(&mut home.command(arguments))?;
    }
    Ok(())
}

#[test]
fn what_the_operator_is_told_to_type_is_printable() -> Result<()> {
    let home = Home::new()?;
    // A line break in an argument is the operator's own.
    let hostile = HOSTILE.lines().next().unwrap_or_default();
    for arguments in [
        ["run", "--bottle", hostile, "--", "true"].as_slice(),
        &["exec", hostile, "--", "true"],
        &["stop", hostile],
        &[hostile],
        &["run", hostile],
        &["run", "--dry-run", "--", hostile],
    ] {
        expect_harmless(&mut home.command(arguments))?;
    }
    Ok(())
}

/// A file of the workspace that cannot be read is named while the bottle is made, and a program that is not
/// there once it is.
#[test]
fn names_in_a_workspace_are_printable() -> Result<()> {
    if !require("userns", has_user_namespaces()) {
        return Ok(());
    }
    let home = Home::new()?;
    let mut missing = home.command(&["run", "--", HOSTILE]);
    expect_harmless(&mut missing)?;
    let folder = home.project().join(HOSTILE);
    fs::create_dir(&folder)?;
    fs::write(folder.join("closed"), b"x")?;
    fs::set_permissions(folder.join("closed"), fs::Permissions::from_mode(0o000))?;
    let mut copied = home.command(&["run", "--cwd", "--", "true"]);
    home.as_ordinary_user(&mut copied)?;
    expect_harmless(&mut copied)
}
