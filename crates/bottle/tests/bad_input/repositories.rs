//! A copy of a workspace is a repository that works by itself, wherever git keeps its metadata; or the start is
//! refused, with the reason.

use std::process::Command;

use anyhow::{Result, ensure};
use bot_bottle_testkit::{find_program, has_user_namespaces, require};

use super::{FAILED, home::Home};

/// A home in whose project this script made repositories with the operator's git.
fn made(script: &str) -> Result<Option<Home>> {
    if !require("userns", has_user_namespaces()) || !require("git", find_program("git").is_some()) {
        return Ok(None);
    }
    let home = Home::new()?;
    let script = format!(
        "git config --global user.name operator; git config --global user.email o@localhost; \
         git config --global protocol.file.allow always; git init -q -b main main; cd main; echo one > a; git add a; \
         git commit -q -m first; git config http.extraheader 'Authorization: basic FAKE'; cd ..; {script}"
    );
    let mut shell = Command::new("sh");
    home.environment(&mut shell);
    let output = shell.args(["-ec", &script]).output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(Some(home))
}

/// What a script in a bottle writes, started in a folder of the project. And what the operator is told.
fn run(home: &Home, folder: &str, options: &[&str], script: &str) -> Result<(String, String)> {
    let arguments = [&["run", "--cwd"], options, &["--", "sh", "-ec", script]].concat();
    let output = home.command(&arguments).current_dir(home.project().join(folder)).output()?;
    let told = String::from_utf8(output.stderr)?;
    ensure!(output.status.success(), "{folder}: {} {told}", String::from_utf8_lossy(&output.stdout));
    Ok((String::from_utf8(output.stdout)?, told))
}

const WORK: &str = "git config user.name agent; git config user.email agent@localhost; git fsck --strict 2>&1; \
                    git status --short; git log --format=%s; echo two >> a; git commit -q -a -m second; \
                    git rev-parse --abbrev-ref HEAD; grep -r FAKE .git || true";

#[test]
fn a_linked_worktree_and_a_submodule_come_whole() -> Result<()> {
    let script = "git -C main worktree add -q -b side ../tree; git init -q super; cd super; \
                  git submodule --quiet add ../main sub; git commit -q -m x; cd ..; echo dirty > tree/new";
    let Some(home) = made(script)? else { return Ok(()) };
    let (text, told) = run(&home, "tree", &[], WORK)?;
    ensure!(text == "?? new\nfirst\nside\n", "{text}");
    ensure!(told.contains(".git/config (http.extraheader)"), "{told}");
    let run_of = |home: &Home| home.left().into_iter().find(|name| name != ".lock").unwrap_or_default();
    let name = run_of(&home);
    let pull = home.command(&["pull", &name]).current_dir(home.project().join("tree")).output()?;
    ensure!(pull.status.success(), "{pull:?}");
    let mut show = Command::new("git");
    home.environment(&mut show);
    let shown = show.args(["-C", "main", "show", &format!("refs/bottle/{name}/heads/side:a")]).output()?;
    ensure!(shown.stdout == b"one\ntwo\n", "{shown:?}");
    let mut status = Command::new("git");
    home.environment(&mut status);
    let status = status.args(["-C", "tree", "status", "--short"]).output()?;
    ensure!(status.stdout == b"?? new\n", "the operator's own is as it was: {status:?}");
    home.clean_up()?;

    let (text, _) = run(&home, "super/sub", &[], WORK)?;
    ensure!(text == "first\nmain\n", "{text}");
    home.clean_up()?;
    // The superproject's copy has its submodules.
    let (text, _) =
        run(&home, "super", &[], "git submodule status | cut -c 42-; git -C sub log --format=%s")?;
    ensure!(text == " sub (heads/main)\nfirst\n" || text == "sub (heads/main)\nfirst\n", "{text}");
    home.clean_up()
}

#[test]
fn a_copy_that_would_be_no_repository_is_refused() -> Result<()> {
    let script = "mkdir main/below; echo x > main/below/x; git clone -q --shared main borrowing; mkdir strange; \
                  printf 'gitdir: ../main/.git\\n' > strange/.git; echo x > strange/x";
    let Some(home) = made(script)? else { return Ok(()) };
    for (folder, words) in [
        ("main/below", &["lies in the git repository", "start in ", "--without-git"][..]),
        ("borrowing", &["borrows objects", "git repack -a -d"]),
        ("strange", &["does not say that it belongs to this folder"]),
    ] {
        let mut command = home.command(&["run", "--cwd", "--", "true"]);
        command.current_dir(home.project().join(folder));
        home.refused(&mut command, FAILED, words)?;
        let listed = run(&home, folder, &["--without-git"], "ls -A")?.0;
        ensure!(!listed.contains(".git"), "{folder}: {listed}");
    }
    Ok(())
}

#[test]
fn a_repository_of_the_whole_home_is_not_the_workspaces() -> Result<()> {
    let Some(home) = made("git init -q ~; mkdir plain; echo x > plain/x")? else { return Ok(()) };
    ensure!(run(&home, "plain", &[], "cat x")?.0 == "x\n");
    Ok(())
}

#[test]
fn signing_is_off_in_a_bottle_and_that_is_said() -> Result<()> {
    let script = "git -C main config commit.gpgsign true; git -C main config tag.gpgSign true";
    let Some(home) = made(script)? else { return Ok(()) };
    let (text, told) = run(&home, "main", &[], WORK)?;
    ensure!(text == "first\nmain\n", "{text}");
    ensure!(told.contains("commit.gpgsign") && told.contains("tag.gpgsign"), "{told}");
    home.clean_up()
}

#[test]
fn a_first_bottle_commits_as_the_operator_does_on_the_host() -> Result<()> {
    let Some(home) = made("git config --global user.name 'Ada \"A\" Lovelace: #1'")? else { return Ok(()) };
    let written = home.command(&["init", "--provider", "claude"]).output()?;
    ensure!(written.status.success(), "{written:?}");
    let script = "echo two >> a; git commit -q -a -m second; git log -1 --format='%an <%ae>'";
    let (text, _) = run(&home, "main", &["--bottle", "claude"], script)?;
    ensure!(text == "Ada \"A\" Lovelace: #1 <o@localhost>\n", "{text}");
    home.clean_up()
}
