//! What the operator keeps out of the copy of a workspace.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use bot_bottle_testkit::{find_program, has_user_namespaces, require};

use super::{FAILED, home::Home};

#[test]
fn what_is_excluded_is_not_copied_and_not_deleted_by_a_commit() -> Result<()> {
    if !require("userns", has_user_namespaces()) || !require("git", find_program("git").is_some()) {
        return Ok(());
    }
    let home = Home::new()?;
    home.write("bottles/small.md", "---\nworkspace: {exclude: [data/, \"*.iso\"]}\n---\n")?;
    let git = |script: &str| -> Result<String> {
        let mut shell = Command::new("sh");
        home.environment(&mut shell);
        let output = shell.args(["-ec", script]).output()?;
        ensure!(output.status.success(), "{script}: {output:?}");
        Ok(String::from_utf8(output.stdout)?)
    };
    git(
        "git config --global user.name o; git config --global user.email o@localhost; git init -q -b main; \
         mkdir -p data deep/data; echo x > data/big; echo x > deep/data/big; echo x > a.iso; echo one > a; \
         echo secret > .env; printf '/.env*\\n' > .bottleignore; echo login > deep/.netrc; git add -f .; git commit -q -m first; \
         rm deep/data/big; git checkout -q deep; echo gone > b; git add b; git commit -q -m b; rm b",
    )?;
    let script = "ls -A | sort | tr '\\n' ' '; git status --short; echo two >> a; git config user.name a; \
                  git config user.email a@localhost; git commit -q -a -m second; git show --stat --format= HEAD";
    let output = home.command(&["run", "--cwd", "--bottle", "small", "--", "sh", "-ec", script]).output()?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    // The operator's own deletion is a deletion.
    let expected = ".bottleignore .git a deep  D b\n a | 1 +\n b | 1 -\n 2 files changed, 1 insertion(+), 1 deletion(-)\n";
    ensure!(text == expected, "{text}");
    let run = home.left().into_iter().find(|name| name != ".lock").context("a run")?;
    ensure!(home.command(&["pull", &run]).output()?.status.success());
    let kept = git(&format!("git ls-tree -r --name-only refs/bottle/{run}/heads/main"))?;
    ensure!(kept == ".bottleignore\n.env\na\na.iso\ndata/big\ndeep/.netrc\ndeep/data/big\n", "{kept}");
    let shown = String::from_utf8(home.command(&["diff", &run, "--name-only"]).output()?.stdout)?;
    ensure!(shown == "a\n", "{shown}");
    home.clean_up()
}

#[test]
fn everything_that_cannot_be_read_is_named_together_with_the_way_out() -> Result<()> {
    if !require("userns", has_user_namespaces()) {
        return Ok(());
    }
    let home = Home::new()?;
    let closed = ["data", "one", "two"].map(|name| home.project().join(name));
    fs::create_dir(&closed[0])?;
    fs::write(&closed[1], "x")?;
    fs::write(&closed[2], "x")?;
    fs::write(home.project().join("open"), "open\n")?;
    let mut command = home.command(&["run", "--cwd", "--", "cat", "open"]);
    home.as_ordinary_user(&mut command)?;
    for path in &closed {
        fs::set_permissions(path, fs::Permissions::from_mode(0o000))?;
        if rustix::process::geteuid().is_root() {
            chown(path, Some(0), Some(0))?;
        }
    }
    let output = home.refused(&mut command, FAILED, &["cannot be read by you: ", "data", "one", "two"])?;
    let told = String::from_utf8(output.stderr)?;
    ensure!(told.contains("a line `/") && told.contains(".bottleignore"), "{told}");
    fs::write(home.project().join(".bottleignore"), "/data\n/one\n/two\n")?;
    let output = command.output()?;
    ensure!(output.status.success() && output.stdout == b"open\n", "{output:?}");
    for path in &closed {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

#[test]
fn a_pattern_that_is_none_is_refused_before_anything_starts() -> Result<()> {
    let home = Home::new()?;
    home.write("bottles/bad.md", "---\nworkspace: {exclude: [\"a{b\"]}\n---\n")?;
    let words = ["workspace.exclude: `a{b` is no pattern", "gitignore(5)"];
    home.refuses(&["run", "--cwd", "--bottle", "bad", "--dry-run", "--", "true"], FAILED, &words)?;
    home.write("bottles/live.md", "---\nworkspace: {mode: live, path: same}\n---\n")?;
    let words = ["`workspace.mode: live` cannot be enforced", "`workspace.path: same` cannot be enforced"];
    home.refuses(&["run", "--cwd", "--bottle", "live", "--", "true"], FAILED, &words)
}
