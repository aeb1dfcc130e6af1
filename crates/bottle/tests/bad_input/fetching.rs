//! What an agent made comes out: `diff`, `pull`, `cp`, on work that is honest and on work that is hostile.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use bot_bottle_testkit::{find_program, has_user_namespaces, require};

use super::{FAILED, home::Home};

/// A home whose project is a repository with one commit, a change that is not committed and an untracked file.
pub(crate) fn with_repository() -> Result<Option<Home>> {
    if !require("userns", has_user_namespaces()) || !require("git", find_program("git").is_some()) {
        return Ok(None);
    }
    let home = Home::new()?;
    git(&home, "init -q -b main")?;
    for (name, text) in [("a", "one\n"), ("b", "two\n")] {
        fs::write(home.project().join(name), text)?;
    }
    git(&home, "add .")?;
    git(&home, "commit -q -m first")?;
    fs::write(home.project().join("b"), "two\nof the operator\n")?;
    fs::write(home.project().join("untracked"), "of the operator\n")?;
    Ok(Some(home))
}

/// The operator's own git, in the project.
pub(crate) fn git(home: &Home, arguments: &str) -> Result<String> {
    let mut command = Command::new("git");
    home.environment(&mut command);
    command.args(["-c", "user.name=operator", "-c", "user.email=operator@localhost"]);
    let output = command.args(arguments.split(' ')).output()?;
    ensure!(output.status.success(), "git {arguments}: {output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

/// Lets an agent work on the project. The name of its run, and the closing lines.
pub(crate) fn work(home: &Home, script: &str) -> Result<(String, String)> {
    let script = format!("git config user.name agent; git config user.email agent@localhost; {script}");
    let output = home.command(&["run", "--cwd", "--", "sh", "-c", &script]).output()?;
    let told = String::from_utf8(output.stderr)?;
    ensure!(output.status.success(), "{told}");
    let runs = home.left().into_iter().filter(|name| name != ".lock").collect::<Vec<_>>();
    let [run] = &runs[..] else { anyhow::bail!("{runs:?} {told}") };
    Ok((run.clone(), told))
}

/// What a command that has to succeed writes.
pub(crate) fn succeeds(home: &Home, arguments: &[&str]) -> Result<String> {
    let output = home.command(arguments).output()?;
    ensure!(output.status.success(), "{arguments:?}: {output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

const COMMITS: &str = "echo more >> a; git commit -q -a -m 'by the agent'; git checkout -q -b side; echo s > side; \
                       git add side; git commit -q -m side; echo late >> a; echo new > new";

#[test]
fn commits_and_all_else_come_back_and_nothing_of_the_operators_changes() -> Result<()> {
    let Some(home) = with_repository()? else { return Ok(()) };
    let before = (git(&home, "status --short")?, git(&home, "rev-parse HEAD")?);
    // The operator's change to `b` was there at the start, so `commit -a` of the agent has it.
    let (run, told) = work(&home, COMMITS)?;
    ensure!(told.contains("kept: 2 commits, 1 file not committed, 1 file new"), "{told}");
    ensure!(told.contains(&format!("`bot-bottle pull {run}` fetches it")), "{told}");

    let diff = succeeds(&home, &["diff", &run])?;
    for line in ["+more", "+late", "+s", "+new"] {
        ensure!(diff.lines().any(|found| found == line), "{line}: {diff}");
    }
    ensure!(!diff.contains("of the operator"), "what was so before is not the agent's: {diff}");
    ensure!(succeeds(&home, &["diff", &run, "--name-only"])? == "a\nnew\nside\n");
    ensure!(succeeds(&home, &["diff", &run, "--stat"])?.contains("3 files changed"));
    let json: serde_json::Value = serde_json::from_str(&succeeds(&home, &["diff", &run, "--json"])?)?;
    ensure!(json["repositories"][0]["commits"] == 2, "{json}");
    ensure!(succeeds(&home, &["list", "runs"])?.contains("never fetched"), "a look is no fetching");

    let pulled = succeeds(&home, &["pull", &run])?;
    let name = format!("refs/bottle/{run}");
    ensure!(pulled.lines().count() == 3 && pulled.contains(&format!("{name}/uncommitted")), "{pulled}");
    ensure!(git(&home, &format!("show {name}/heads/main:a"))? == "one\nmore\n");
    ensure!(git(&home, &format!("show {name}/uncommitted:new"))? == "new\n");
    ensure!(git(&home, "for-each-ref refs/heads --format=%(refname)")? == "refs/heads/main\n");
    ensure!((git(&home, "status --short")?, git(&home, "rev-parse HEAD")?) == before);
    ensure!(!home.project().join(".git/FETCH_HEAD").exists());
    ensure!(git(&home, "fsck --strict").is_ok());

    succeeds(&home, &["pull", &run, "--branch", "from-agent"])?;
    ensure!(git(&home, "show from-agent:new")? == "new\n");
    home.refuses_but_keeps(&["pull", &run, "--branch", "from-agent"], FAILED, &["from-agent", "exists"])?;
    let patch = home.folder.path().join("work.patch");
    succeeds(&home, &["pull", &run, "--patch", &patch.to_string_lossy()])?;
    git(&home, &format!("apply {}", patch.display()))?;
    ensure!(fs::read_to_string(home.project().join("a"))? == "one\nmore\nlate\n");
    ensure!(fs::read_to_string(home.project().join("b"))? == "two\nof the operator\n");

    ensure!(succeeds(&home, &["list", "runs"])?.contains("  fetched"));
    ensure!(succeeds(&home, &["cleanup", "--yes"])?.contains(&run) && home.left() == [".lock"]);
    ensure!(home.folder.path().join(".bot-bottle/quarantine").read_dir()?.next().is_none(), "all is cleared");
    Ok(())
}

#[test]
fn files_come_out_and_go_in_without_git() -> Result<()> {
    if !require("userns", has_user_namespaces()) {
        return Ok(());
    }
    let home = Home::new()?;
    fs::write(home.project().join("data"), "of the operator\n")?;
    let script = "mkdir -p out/deep; echo made > out/deep/file; echo changed >> data; ln -s /etc/passwd link; \
                  echo said > ~/notes; chmod 4755 out/deep/file";
    let output = home.command(&["run", "--cwd", "--", "sh", "-c", script]).output()?;
    let told = String::from_utf8(output.stderr)?;
    let run = home.left().into_iter().find(|name| name != ".lock").context("a run")?;
    ensure!(told.contains(&format!("`bot-bottle cp {run}:. FOLDER` copies it")), "{told}");
    let listed = succeeds(&home, &["diff", &run])?;
    ensure!(listed == "M data\nA link\nA out/deep/file\n", "{listed}");
    home.refuses_but_keeps(&["pull", &run], FAILED, &["git repository"])?;

    let target = home.folder.path().join("target");
    let to = target.to_string_lossy().into_owned();
    let copied = home.command(&["cp", &format!("{run}:."), &to]).output()?;
    let told = String::from_utf8(copied.stderr)?;
    ensure!(copied.status.success() && told.contains("link"), "{told}");
    ensure!(fs::read_to_string(target.join("out/deep/file"))? == "made\n");
    ensure!(fs::metadata(target.join("out/deep/file"))?.permissions().mode() & 0o7000 == 0);
    ensure!(target.join("link").symlink_metadata().is_err(), "it leads out of what was copied");
    let from_home = home.folder.path().join("notes");
    succeeds(&home, &["cp", &format!("{run}:/home/agent/notes"), &from_home.to_string_lossy()])?;
    ensure!(fs::read_to_string(&from_home)? == "said\n");
    home.refuses_but_keeps(&["cp", &format!("{run}:data"), &to], FAILED, &["data"])?;

    // In again, where the agent has put a link in the way.
    let source = home.folder.path().join("source");
    fs::write(&source, "from outside\n")?;
    succeeds(&home, &["cp", &source.to_string_lossy(), &format!("{run}:out")])?;
    let back = home.folder.path().join("back");
    succeeds(&home, &["cp", &format!("{run}:out/source"), &back.to_string_lossy()])?;
    ensure!(fs::read_to_string(&back)? == "from outside\n");
    for wrong in [["a", "b"], ["run-aaaaa:x", "run-bbbbb:y"]] {
        home.refuses_but_keeps(&["cp", wrong[0], wrong[1]], super::USAGE, &["ID:PATH"])?;
    }
    home.refuses_but_keeps(&["cp", "run-aaaaa:x", "y"], FAILED, &["no run called run-aaaaa"])?;
    home.clean_up()
}

/// Keys of git's configuration that name a program, from git-config(1) and the manual of each command.
const PROGRAM_KEYS: &[&str] = &[
    "alias.diff",
    "alias.log",
    "alias.status",
    "browser.x.cmd",
    "core.alternateRefsCommand",
    "core.askPass",
    "core.editor",
    "core.fsmonitor",
    "core.gitProxy",
    "core.pager",
    "core.sshCommand",
    "credential.helper",
    "diff.external",
    "diff.x.command",
    "diff.x.textconv",
    "difftool.x.cmd",
    "filter.x.clean",
    "filter.x.smudge",
    "gpg.program",
    "gpg.ssh.defaultKeyCommand",
    "gpg.ssh.program",
    "gpg.x509.program",
    "guitool.x.cmd",
    "interactive.diffFilter",
    "man.x.cmd",
    "merge.x.driver",
    "mergetool.x.cmd",
    "pager.diff",
    "pager.log",
    "remote.origin.receivepack",
    "remote.origin.uploadpack",
    "sequence.editor",
    "sendemail.sendmailCmd",
    "submodule.x.update",
    "tar.x.command",
    "trailer.x.cmd",
    "trailer.x.command",
    "uploadpack.packObjectsHook",
    "web.browser",
];

/// Makes the repository in the current directory run a program whenever git looks at it.
fn hostile(canary: &Path) -> String {
    let canary = canary.display();
    let keys = PROGRAM_KEYS.join(" ");
    format!(
        "for key in {keys}; do case $key in alias.*|submodule.*) sign=!;; *) sign=;; esac; \
           git config $key \"${{sign}}touch {canary}; cat\"; done; \
         git config core.hooksPath .hooks; mkdir -p .hooks; for hook in $(ls /usr/share/git-core/templates/hooks 2>/dev/null) \
           post-checkout post-index-change reference-transaction post-commit pre-auto-gc fsmonitor-watchman; do \
           hook=${{hook%.sample}}; printf '#!/bin/sh\\ntouch {canary}\\n' > .hooks/$hook; chmod 755 .hooks/$hook; \
           cp .hooks/$hook .git/hooks/; done; \
         git config log.showSignature true; git config uploadpack.allowAnySHA1InWant true; \
         printf '[diff]\\nexternal = touch {canary}\\n' > .git/included; git config include.path included; \
         echo '* diff=x filter=x merge=x' > .git/info/attributes; \
         mkdir -p .bin; for program in git less sh cat tar ssh gpg; do printf '#!/bin/sh\\ntouch {canary}\\n' > .bin/$program; \
           chmod 755 .bin/$program; done; git config --unset-all core.pager; git config core.pager 'touch {canary}; cat'; "
    )
}

#[test]
fn a_hostile_repository_runs_nothing_on_the_host() -> Result<()> {
    let Some(home) = with_repository()? else { return Ok(()) };
    let outside = tempfile::tempdir()?;
    fs::set_permissions(outside.path(), fs::Permissions::from_mode(0o777))?;
    let canary = outside.path().join("canary");
    let hostile = hostile(&canary);
    let commits = format!("{COMMITS}; {hostile} echo last >> a; git init -q below; true");

    // The same on the host does run something, at every careless command.
    let careless = outside.path().join("careless");
    let copied = Command::new("cp").arg("-r").arg(home.project()).arg(&careless).status()?;
    ensure!(copied.success());
    let mut shell = Command::new("sh");
    home.environment(&mut shell);
    let identity = "git config user.name agent; git config user.email agent@localhost;";
    let made = shell.args(["-c", &format!("{identity} {commits}")]).current_dir(&careless).output()?;
    ensure!(made.status.success(), "{made:?}");
    for command in ["status", "diff", "log -p -1", "checkout -q main"] {
        let _ = fs::remove_file(&canary);
        let mut git = Command::new("git");
        home.environment(&mut git);
        git.args(command.split(' ')).current_dir(&careless).output()?;
        ensure!(canary.exists(), "git {command} runs nothing: the test sees nothing");
    }
    fs::remove_file(&canary)?;

    let (run, _) = work(&home, &commits)?;
    let patch = outside.path().join("patch").to_string_lossy().into_owned();
    let folder = outside.path().join("copy").to_string_lossy().into_owned();
    let whole = format!("{run}:.");
    for arguments in [
        &["diff", &run][..],
        &["diff", &run, "--stat"],
        &["diff", &run, "--name-only"],
        &["pull", &run],
        &["pull", &run, "--branch", "work"],
        &["pull", &run, "--patch", &patch],
        &["cp", &whole, &folder],
        &["list", "runs"],
        &["cleanup", "--dry-run"],
    ] {
        let output = home.command(arguments).output()?;
        ensure!(output.status.success(), "{arguments:?}: {output:?}");
        ensure!(!canary.exists(), "{arguments:?} ran the agent's program");
    }
    ensure!(fs::read_to_string(&patch)?.contains("+last"));
    // What was copied is no repository, and what was pulled can be looked at.
    let mut looks =
        vec![(PathBuf::from(&folder), "status"), (PathBuf::from(&folder).join("below"), "status")];
    looks.extend(["status", "log -p --all", "diff main work"].map(|command| (home.project(), command)));
    for (folder, command) in looks {
        let mut git = Command::new("git");
        home.environment(&mut git);
        git.args(command.split(' ')).current_dir(folder).output()?;
        ensure!(!canary.exists(), "git {command} ran the agent's program");
    }
    home.clean_up()?;
    ensure!(!canary.exists());
    Ok(())
}

#[test]
fn names_and_contents_cannot_act_on_the_terminal() -> Result<()> {
    let Some(home) = with_repository()? else { return Ok(()) };
    let name = "$(printf 'x\\033]0;title\\007y')";
    let script = format!(
        "echo new > \"{name}\"; printf '\\033[2J\\342\\200\\256\\n' > escape; git checkout -q -b main2"
    );
    let (run, told) = work(&home, &script)?;
    ensure!(!told.contains('\u{1b}'), "{told:?}");
    for arguments in [&["diff", &run][..], &["diff", &run, "--stat"], &["diff", &run, "--name-only"]] {
        let shown = succeeds(&home, arguments)?;
        ensure!(shown.chars().all(|shown| shown == '\n' || !shown.is_control()), "{shown:?}");
        ensure!(!shown.contains('\u{202e}') && shown.contains("title"), "{shown:?}");
    }
    ensure!(succeeds(&home, &["diff", &run])?.contains("+\\u{1b}[2J\\u{202e}"));
    let _ = name;
    home.clean_up()
}

#[test]
fn work_is_fetched_while_the_bottle_runs_and_counts_as_fetched_in_part() -> Result<()> {
    let Some(home) = with_repository()? else { return Ok(()) };
    let mut command = Command::new(&home.program);
    command.args([
        "run",
        "--cwd",
        "--",
        "sh",
        "-c",
        "echo first > new; echo ready; read -r line; echo second > new",
    ]);
    home.environment(&mut command);
    let mut running = command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let mut reader = std::io::BufReader::new(running.stdout.take().context("piped")?);
    std::io::BufRead::read_line(&mut reader, &mut line)?;
    ensure!(line == "ready\n", "{line:?}");
    let run = home.left().into_iter().find(|name| name != ".lock").context("a run")?;
    ensure!(succeeds(&home, &["list", "runs"])?.contains("running"));
    succeeds(&home, &["pull", &run])?;
    ensure!(git(&home, &format!("show refs/bottle/{run}/uncommitted:new"))? == "first\n");
    drop(running.stdin.take());
    ensure!(running.wait()?.success());
    ensure!(succeeds(&home, &["list", "runs"])?.contains("fetched before it ended"));
    // Again, to where the first one went.
    succeeds(&home, &["pull", &run])?;
    ensure!(git(&home, &format!("show refs/bottle/{run}/uncommitted:new"))? == "second\n");
    ensure!(succeeds(&home, &["list", "runs"])?.contains("  fetched"));
    home.clean_up()
}

#[test]
fn an_agent_that_changed_nothing_leaves_nothing_to_fetch() -> Result<()> {
    let Some(home) = with_repository()? else { return Ok(()) };
    let output =
        home.command(&["run", "--cwd", "--", "git", "--no-optional-locks", "status", "--short"]).output()?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(text == " M b\n?? untracked\n", "{text}");
    ensure!(home.left() == [".lock"], "a copy that is as it was is not kept: {:?}", home.left());
    Ok(())
}
