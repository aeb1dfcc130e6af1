//! A throw-away bottle over what an agent made.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    process::{Output, Stdio},
};

use anyhow::{Context, ensure};
use libtest_mimic::Trial;

use crate::fixture::{Fixture, User, give_to, trial};

pub(crate) fn trials(user: User) -> Vec<Trial> {
    // The only root of a container passes every mode, and owns what its bottles write.
    let careless = (user != User::OnlyRoot)
        .then(|| trial(user, "a_repository_in_kept_work_runs_nothing_on_the_host", careless_git));
    let mut trials = vec![
        trial(user, "work_is_read_in_a_bottle_without_network", read),
        trial(user, "work_is_looked_at_while_its_bottle_runs", while_it_runs),
        trial(user, "something_is_put_into_the_work", write),
        trial(user, "a_look_that_writes_without_end_is_ended", bounded),
    ];
    trials.extend(careless);
    trials
}

/// Runs a script in a throw-away bottle over the fixture's run.
fn look(fixture: &Fixture, access: &str, script: &str, input: &str) -> anyhow::Result<Output> {
    let home = fixture.order.home.to_string_lossy().into_owned();
    let mut child = fixture
        .part(&["inspect-order", &home, "test-aaaaa", access, script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("piped")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(!fixture.order.home.join("state/look-aaaaa").exists(), "the throw-away bottle left something");
    Ok(output)
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A run that has ended and whose agent worked on a copy of a folder.
fn worked(user: User, script: &str) -> anyhow::Result<Fixture> {
    let mut fixture = Fixture::shell(user, script);
    let folder = fixture.folder.path().join("project");
    fs::create_dir(&folder)?;
    fs::write(folder.join("data"), "of the operator\n")?;
    fixture.order.plan.workspace = Some(folder);
    fixture.success()?;
    ensure!(fixture.events().contains("Kept("), "{}", fixture.events());
    Ok(fixture)
}

fn read(user: User) -> anyhow::Result<()> {
    let fixture = worked(
        user,
        "echo made > result; chmod 600 result; ln -s /etc/shadow link; echo seen > ~/conversation",
    )?;
    let mode = fs::metadata(fixture.run().join("agent"))?.permissions().mode() & 0o777;
    ensure!(mode == 0, "{mode:o}");
    let script = "cat data result /mnt/home/conversation; echo x > result || echo read-only; cat link || echo closed; \
        echo x > /mnt/home/x || echo home too; (exec 3<>/dev/tcp/127.0.0.1/3128) 2>/dev/null && echo connected; \
        echo scratch > ~/file && cat ~/file; cat; id -u; exit 3";
    // `/dev/tcp` is bash's.
    let script = format!("bash -c '{script}' 2>/dev/null");
    let output = look(&fixture, "read", &script, "from outside\n")?;
    let expected = "of the operator\nmade\nseen\nread-only\nclosed\nhome too\nscratch\nfrom outside\n1000\n";
    ensure!(String::from_utf8_lossy(&output.stdout) == expected, "{}", text(&output));
    ensure!(output.status.code() == Some(3), "{output:?}");
    let home = fixture.order.home.to_string_lossy().into_owned();
    let refused = fixture.part(&["inspect-order", &home, "none-aaaaa", "read", "true"]).output()?;
    ensure!(text(&refused).contains("there is no run called none-aaaaa"), "{}", text(&refused));
    fixture.expect_clean(&[])
}

fn while_it_runs(user: User) -> anyhow::Result<()> {
    let fixture = Fixture::shell(user, "echo first > result; echo ready; exec sleep 600");
    let mut running = fixture.start()?;
    let output = look(&fixture, "read", "cat result", "")?;
    ensure!(text(&output) == "first\n\n", "{}", text(&output));
    ensure!(fixture.exec(&["sh", "-c", "echo second > result"]).status.success(), "the bottle is as before");
    let output = look(&fixture, "read", "cat result", "")?;
    ensure!(text(&output) == "second\n\n", "{}", text(&output));
    running.child.kill()?;
    running.child.wait()?;
    fixture.expect_clean(&[])
}

fn write(user: User) -> anyhow::Result<()> {
    // Links that the agent put in the way lead nowhere on the host.
    let outside = tempfile::tempdir()?;
    give_to(outside.path(), user);
    fs::set_permissions(outside.path(), fs::Permissions::from_mode(0o777))?;
    let target = outside.path().join("written").display().to_string();
    let fixture = worked(user, &format!("ln -s {target} link; echo x > file"))?;
    let output = look(&fixture, "write", "cat > link; cat link; echo more >> file", "through the link\n")?;
    ensure!(!outside.path().join("written").exists(), "written on the host: {}", text(&output));
    let output = look(&fixture, "read", "cat file", "")?;
    ensure!(text(&output) == "x\nmore\n\n", "{}", text(&output));
    fixture.expect_clean(&[])
}

fn bounded(user: User) -> anyhow::Result<()> {
    let fixture = worked(user, "echo x > file")?;
    let output = look(
        &fixture,
        "read",
        "while :; do head -c 400000000 /dev/zero > ~/$((n = n + 1)) || exit 0; done",
        "",
    )?;
    ensure!(text(&output).contains("`limits.disk"), "{}", text(&output));
    fixture.expect_clean(&[])
}

/// The agent leaves repositories that run a program when git looks at them. On the host nobody gets that far.
fn careless_git(user: User) -> anyhow::Result<()> {
    let outside = tempfile::tempdir()?;
    fs::set_permissions(outside.path(), fs::Permissions::from_mode(0o777))?;
    let canary = outside.path().join("canary");
    let hostile = format!(
        "for folder in . below/deep; do git init -q $folder; git -C $folder config core.fsmonitor 'touch {canary}; false'; \
         git -C $folder config core.pager 'touch {canary}; cat'; git -C $folder config diff.external 'touch {canary}; true'; \
         echo x > $folder/file; git -C $folder add file; \
         git -C $folder -c user.name=a -c user.email=a@b commit -q -m x; echo y > $folder/file; done; \
         git clone -q --bare . bare; git -C bare config core.fsmonitor 'touch {canary}; false'; rm -f {canary}",
        canary = canary.display()
    );
    // git does not ask who owns a repository that it is pointed at, so root alone gets there, and not by
    // accident.
    let explicit = |folder: &str| match user {
        User::Own => String::new(),
        _ => format!("git --git-dir={folder}/.git --work-tree={folder} $command;"),
    };
    let look = |fixture: &Fixture, top: &std::path::Path| -> anyhow::Result<bool> {
        for folder in ["", "below/deep", "bare"] {
            let folder = top.join(folder);
            let script = format!(
                "PATH=/usr/bin:/bin; for command in status 'log -p' diff 'rev-parse --abbrev-ref HEAD'; do \
                 git -C {0} $command; (cd {0} && git $command); {explicit} done \
                 > /dev/null 2>&1",
                folder.display(),
                explicit = explicit(&folder.to_string_lossy()),
            );
            fixture.part(&["shell", &script]).stdin(Stdio::null()).status()?;
        }
        Ok(canary.exists())
    };
    let fixture = worked(user, &hostile)?;
    // The same in a folder of the operator's does run it.
    let careless = fixture.folder.path().join("careless");
    fs::create_dir(&careless)?;
    give_to(&careless, user);
    let script = format!("PATH=/usr/bin:/bin; cd {} && {{ {hostile}; }}", careless.display());
    ensure!(fixture.part(&["shell", &script]).env("HOME", &careless).status()?.success());
    ensure!(look(&fixture, &careless)?, "the test sees nothing");
    fs::remove_file(&canary)?;

    ensure!(!look(&fixture, &fixture.run().join("agent/workspace"))?, "git ran the agent's program");
    fixture.expect_clean(&[])
}
