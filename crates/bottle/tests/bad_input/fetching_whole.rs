//! Whether work counts as fetched, which decides what `cleanup` removes, and whether all that was asked for was
//! written.

use std::{
    fs::{self, File, OpenOptions},
    process::{Command, Stdio},
};

use anyhow::{Result, ensure};
use bot_bottle_testkit::{find_program, require};

use crate::fetching::{git, succeeds, with_repository, work};

#[test]
fn what_a_patch_has_not_is_not_fetched() -> Result<()> {
    let Some(home) = with_repository()? else { return Ok(()) };
    let (run, _) = work(
        &home,
        "git checkout -q -b other; echo o > o; git add o; git commit -q -m o; git checkout -q main; echo n > n",
    )?;
    let patch = home.folder.path().join("patch").to_string_lossy().into_owned();
    let output = home.command(&["pull", &run, "--patch", &patch]).output()?;
    let told = String::from_utf8(output.stderr)?;
    ensure!(output.status.success() && told.contains("1 commit on another branch"), "{told}");
    ensure!(!fs::read_to_string(&patch)?.contains("+o"));
    ensure!(succeeds(&home, &["list", "runs"])?.contains("fetched in part"));
    succeeds(&home, &["cleanup", "--yes"])?;
    ensure!(home.left().contains(&run), "its other branch is nowhere else");
    succeeds(&home, &["pull", &run])?;
    ensure!(git(&home, &format!("show refs/bottle/{run}/heads/other:o"))? == "o\n");
    succeeds(&home, &["cleanup", "--yes"])?;
    ensure!(!home.left().contains(&run));
    Ok(())
}

#[test]
fn what_git_ignores_is_not_fetched_by_a_pull_that_brings_nothing() -> Result<()> {
    let Some(home) = with_repository()? else { return Ok(()) };
    fs::write(home.project().join(".gitignore"), "out\n")?;
    git(&home, "add .gitignore")?;
    git(&home, "commit -q -m ignore")?;
    let (run, _) = work(&home, "mkdir out; echo precious > out/result")?;
    let pulled = succeeds(&home, &["pull", &run])?;
    let advice = format!("`bot-bottle cp {run}:PATH FOLDER` brings files that it ignores");
    ensure!(pulled.contains(&advice), "{pulled}");
    let diff = home.command(&["diff", &run]).output()?;
    ensure!(diff.status.success() && String::from_utf8(diff.stderr)?.contains(&advice));
    ensure!(succeeds(&home, &["list", "runs"])?.contains("never fetched"));
    succeeds(&home, &["cleanup", "--yes"])?;
    succeeds(&home, &["cp", &format!("{run}:out"), &home.folder.path().to_string_lossy()])?;
    ensure!(fs::read_to_string(home.folder.path().join("out/result"))? == "precious\n");
    home.clean_up()
}

#[test]
fn a_stash_of_the_agents_comes_back() -> Result<()> {
    let Some(home) = with_repository()? else { return Ok(()) };
    let (run, told) = work(&home, "echo put aside >> a; git stash push -q -- a")?;
    ensure!(told.contains("commits"), "{told}");
    let pulled = succeeds(&home, &["pull", &run])?;
    ensure!(pulled.contains(&format!("refs/bottle/{run}/heads/stash (")), "{pulled}");
    ensure!(git(&home, &format!("show refs/bottle/{run}/heads/stash:a"))? == "one\nput aside\n");
    home.clean_up()
}

#[test]
fn what_cannot_be_written_is_an_error_and_a_closed_pipe_is_none() -> Result<()> {
    let Some(home) = with_repository()? else { return Ok(()) };
    let (run, _) = work(&home, "seq 100000 > large")?;
    for arguments in [&["diff", &run][..], &["diff", &run, "--json"], &["list", "runs"]] {
        let full = OpenOptions::new().write(true).open("/dev/full")?;
        let output = home.command(arguments).stdout(full).stderr(Stdio::piped()).output()?;
        let told = String::from_utf8(output.stderr)?;
        ensure!(output.status.code() == Some(1), "{arguments:?} {:?} {told}", output.status);
        ensure!(told.contains("No space left on device") && !told.contains("panicked"), "{told}");

        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let output = home.command(arguments).stdout(writer).stderr(Stdio::piped()).output()?;
        ensure!(output.status.success(), "{arguments:?} {output:?}");
        ensure!(!String::from_utf8(output.stderr)?.contains("panicked"));

        let to = home.folder.path().join("shown");
        ensure!(home.command(arguments).stdout(File::create(&to)?).status()?.success());
        ensure!(fs::metadata(&to)?.len() > 0);
    }
    home.clean_up()
}

#[test]
fn a_pager_that_is_not_there_hides_nothing() -> Result<()> {
    if !require("script", find_program("script").is_some()) {
        return Ok(());
    }
    let Some(home) = with_repository()? else { return Ok(()) };
    let (run, _) = work(&home, "echo shown >> a")?;
    let empty = tempfile::tempdir()?;
    let shown = |pager: Option<&str>, path: &str| -> Result<(Option<i32>, String)> {
        // On a terminal of its own.
        let mut command = Command::new("/usr/bin/script");
        home.environment(&mut command);
        command.args(["-qec", &format!("{} diff {run}", home.program.display()), "/dev/null"]);
        command.env("PATH", path).env("SHELL", "/bin/sh").envs(pager.map(|pager| ("PAGER", pager)));
        let output = command.output()?;
        Ok((output.status.code(), String::from_utf8(output.stdout)?))
    };
    let (code, text) = shown(Some("no-such-pager"), "/usr/bin:/bin")?;
    ensure!(
        code == Some(1) && text.contains("the pager that `PAGER` names cannot be run"),
        "{code:?} {text}"
    );
    let (code, text) = shown(Some("tr s S"), "/usr/bin:/bin")?;
    ensure!(code == Some(0) && text.contains("+Shown"), "{code:?} {text}");
    let (code, text) = shown(None, &empty.path().to_string_lossy())?;
    ensure!(code == Some(0) && text.contains("+shown"), "{code:?} {text}");
    home.clean_up()
}
