//! However a launcher ends, nothing of its bottle goes on.

use std::{
    fs,
    io::{BufRead, Read, Write},
    os::unix::process::ExitStatusExt,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};
use bot_bottle_core::limits::ByteSize;
use bot_bottle_launch::request::{FaultKind, FaultMoment, Step};
use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};

use crate::fixture::{Fixture, Running, User, eventually, trial};

pub(crate) fn trials(user: User) -> Vec<Trial> {
    vec![
        trial(user, "kill_at_every_step_leaves_no_process", kill_at_every_step),
        trial(user, "an_error_at_every_step_undoes_everything", fail_at_every_step),
        trial(user, "kill_while_the_agent_runs_leaves_no_process", kill_while_running),
        trial(user, "signals_end_the_bottle_in_order", signals),
        trial(user, "stop_ends_the_bottle", stop),
        trial(user, "background_processes_do_not_hold_the_bottle", background),
        trial(user, "a_dead_gateway_ends_the_bottle", dead_gateway),
        trial(user, "a_dead_first_process_ends_the_bottle", dead_first_process),
        trial(user, "an_occupied_state_directory_is_left_alone", occupied),
        trial(user, "an_exec_client_that_goes_takes_its_command_along", exec_client_goes),
        trial(user, "an_exec_client_ends_though_everything_is_stopped", exec_of_a_stopped_command),
        trial(user, "what_a_removal_needs_cannot_be_taken_by_the_bottle", hostile_folders),
        trial(user, "what_cannot_be_removed_is_told", not_removed),
        trial(user, "a_full_disk_is_an_error_that_leaves_nothing", full_disk),
        trial(user, "exec_ends_though_something_holds_its_streams", held_streams),
    ]
}

fn long_running(user: User) -> Fixture {
    let fixture = Fixture::shell(user, "");
    let marker = format!("bottle-test-marker {}", fixture.order.home.display());
    let script =
        format!("(trap '' HUP; exec -a '{marker}' sleep 1000) & echo ready; exec -a '{marker}' sleep 1000");
    let mut fixture = fixture;
    fixture.order.plan.program.command = vec!["bash".into(), "-c".into(), script];
    // Where control groups can be had, there is one to remove.
    fixture.order.plan.limits.memory = Some(ByteSize(1 << 30));
    fixture
}

/// The control groups of a launcher's bottle.
fn groups(launcher: u32) -> anyhow::Result<String> {
    let name = format!("bot-bottle-test-aaaaa-{launcher}");
    let output = Command::new("find").args(["/sys/fs/cgroup", "-name", &name]).output()?;
    Ok(String::from_utf8(output.stdout)?)
}

/// Whether this user can make groups that limit memory: root, where there is a tree for it as of the first
/// version. With the second it depends on who started the tests.
fn can_group(user: User) -> bool {
    user == User::Own
        && crate::fixture::is_root()
        && fs::exists("/sys/fs/cgroup/memory/cgroup.procs").unwrap_or(false)
}

/// Every point at which a launch can be told to go wrong.
fn points() -> impl Iterator<Item = (Step, FaultMoment)> {
    Step::ALL.into_iter().flat_map(|step| [FaultMoment::Before, FaultMoment::After].map(|when| (step, when)))
}

fn kill_at_every_step(user: User) -> anyhow::Result<()> {
    for (step, when) in points() {
        let fixture = long_running(user).fault(step, when, FaultKind::Kill);
        let mut launcher = fixture.launcher();
        launcher.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = launcher.spawn()?;
        let status = child.wait()?;
        ensure!(status.signal() == Some(9), "{when:?} {step:?}: {status:?}");
        let has_groups = !groups(child.id())?.is_empty();
        let begun = step > Step::StartSandbox || (step, when) == (Step::StartSandbox, FaultMoment::After);
        ensure!(has_groups == (begun && can_group(user)), "{when:?} {step:?}: {:?}", groups(child.id())?);
        fixture.expect_clean(&fixture.recorded()).with_context(|| format!("{when:?} {step:?}"))?;
        ensure!(groups(child.id())?.is_empty(), "{when:?} {step:?}: {:?}", groups(child.id())?);
    }
    Ok(())
}

fn fail_at_every_step(user: User) -> anyhow::Result<()> {
    for (step, when) in points() {
        let mut fixture = long_running(user).fault(step, when, FaultKind::Fail);
        // A folder that was copied in is not kept where no agent ran.
        let project = fixture.folder.path().join("project");
        fs::create_dir(&project)?;
        fs::write(project.join("file"), "x")?;
        fixture.order.plan.workspace = Some(project);
        let child = fixture.launcher().stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let launcher = child.id();
        let output = child.wait_with_output()?;
        let text = String::from_utf8(output.stderr)?;
        ensure!(groups(launcher)?.is_empty(), "{when:?} {step:?}: {:?}", groups(launcher)?);
        let expected = format!("error: the step `{}` was told to fail\n", step.name());
        ensure!(text == expected && output.status.code() == Some(70), "{when:?} {step:?}: {text}");
        // At once, without `cleanup`: what a launch began it has undone when it comes back.
        fixture.expect_nothing_on_disk().with_context(|| format!("{when:?} {step:?}"))?;
        let left = fixture.processes();
        ensure!(left.is_empty(), "{when:?} {step:?}: {left:?}");
    }
    Ok(())
}

fn kill_while_running(user: User) -> anyhow::Result<()> {
    let fixture = long_running(user);
    let mut running = fixture.start()?;
    let processes = fixture.recorded();
    ensure!(processes.len() == 2, "{processes:?}");
    eventually("the test sees what it looks for", || fixture.processes().len() >= 3)?;
    running.child.kill()?;
    running.child.wait()?;
    fixture.expect_clean(&processes)
}

fn signal(running: &Running, signal: Signal) -> anyhow::Result<()> {
    let pid = Pid::from_raw(running.child.id().cast_signed()).context("a process")?;
    Ok(kill_process(pid, signal)?)
}

fn signals(user: User) -> anyhow::Result<()> {
    let fixture =
        Fixture::shell(user, "trap 'echo asked; exit 3' TERM; echo ready; while :; do sleep 0.05; done");
    let mut running = fixture.start()?;
    signal(&running, Signal::TERM)?;
    let mut text = String::new();
    running.reader.read_to_string(&mut text)?;
    ensure!(text == "asked\n", "{text}");
    ensure!(running.child.wait()?.code() == Some(3));
    ensure!(!fixture.run().exists(), "nothing is left");

    // One that does not listen is killed.
    let fixture = Fixture::shell(user, "trap '' INT TERM HUP; echo ready; while :; do sleep 0.05; done");
    let mut running = fixture.start()?;
    let processes = fixture.recorded();
    signal(&running, Signal::HUP)?;
    std::thread::sleep(Duration::from_millis(100));
    signal(&running, Signal::HUP)?;
    ensure!(running.child.wait()?.code() == Some(137));
    ensure!(!fixture.run().exists(), "nothing is left");
    fixture.expect_clean(&processes)
}

fn stop(user: User) -> anyhow::Result<()> {
    let fixture = Fixture::shell(user, "trap 'exit 4' TERM; echo ready; while :; do sleep 0.05; done");
    let mut running = fixture.start()?;
    let processes = fixture.recorded();
    let home = fixture.order.home.to_string_lossy().into_owned();
    let output = fixture.part(&["stop-order", &home, "test-aaaaa"]).output()?;
    ensure!(output.status.success(), "{output:?}");
    ensure!(!fixture.run().exists(), "when stop comes back, all is gone");
    ensure!(running.child.wait()?.code() == Some(4));
    fixture.expect_clean(&processes)?;
    let output = fixture.part(&["stop-order", &home, "test-aaaaa"]).output()?;
    ensure!(String::from_utf8(output.stderr)? == "error: no bottle `test-aaaaa` is running\n");
    Ok(())
}

fn background(user: User) -> anyhow::Result<()> {
    let fixture = Fixture::shell(user, "(setsid sleep 1000 &) ; echo done");
    let started = std::time::Instant::now();
    let text = fixture.success()?;
    ensure!(text == "done\n" && started.elapsed() < Duration::from_secs(100), "{text}");
    Ok(())
}

fn dead_gateway(user: User) -> anyhow::Result<()> {
    let fixture = long_running(user);
    let mut running = fixture.start()?;
    let processes = fixture.recorded();
    let gateway = Pid::from_raw(*processes.first().context("the gateway")?).context("a process")?;
    kill_process(gateway, Signal::KILL)?;
    ensure!(running.child.wait()?.code() == Some(137));
    let mut text = String::new();
    running.child.stderr.take().context("piped")?.read_to_string(&mut text)?;
    ensure!(text.starts_with("ended by GatewayEnded"), "{text}");
    fixture.expect_nothing_on_disk()?;
    fixture.expect_clean(&processes)
}

fn dead_first_process(user: User) -> anyhow::Result<()> {
    let fixture = long_running(user);
    let mut running = fixture.start()?;
    let processes = fixture.recorded();
    let first = Pid::from_raw(*processes.last().context("the first process")?).context("a process")?;
    kill_process(first, Signal::KILL)?;
    ensure!(running.child.wait()?.code() == Some(137));
    let mut text = String::new();
    running.child.stderr.take().context("piped")?.read_to_string(&mut text)?;
    ensure!(text == "ended by SandboxEnded\n", "{text}");
    fixture.expect_nothing_on_disk()?;
    fixture.expect_clean(&processes)
}

fn occupied(user: User) -> anyhow::Result<()> {
    let fixture = Fixture::shell(user, "echo ready");
    fs::create_dir_all(fixture.run())?;
    fs::write(fixture.run().join("file"), "x")?;
    let output = fixture.output();
    let text = String::from_utf8(output.stderr)?;
    ensure!(text.starts_with("error: the state directory ") && text.contains("exists already"), "{text}");
    ensure!(fixture.run().join("file").exists());
    Ok(())
}

fn exec_client_goes(user: User) -> anyhow::Result<()> {
    let fixture = Fixture::shell(user, "echo ready; exec sleep 100");
    let _running = fixture.start()?;
    let home = fixture.order.home.to_string_lossy().into_owned();
    let mut client = fixture
        .part(&["exec-order", &home, "test-aaaaa", "pipes", "sh", "-c", "echo begun; exec sleep 77"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    std::io::BufReader::new(client.stdout.take().context("piped")?).read_line(&mut line)?;
    ensure!(line == "begun\n", "{line}");
    client.kill()?;
    client.wait()?;
    eventually("the command ends", || {
        let output = fixture.exec(&["pgrep", "-f", "sleep 77"]);
        output.status.code() == Some(1)
    })
}

fn children(pid: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

fn is_stopped(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}

/// Signals from the operator end a client in the same way as the launcher, whatever the command makes of
/// them.
fn exec_of_a_stopped_command(user: User) -> anyhow::Result<()> {
    let stop_all = "$| = 1; print \"ready\\n\"; while (1) { kill 'STOP', -1 }";
    let fixture = Fixture::new(user, &["perl", "-e", stop_all]);
    let mut running = fixture.start()?;
    let first = *fixture.recorded().last().context("the first process")?;
    let home = fixture.order.home.to_string_lossy().into_owned();
    for (number, count) in [(Signal::TERM, 1), (Signal::INT, 2), (Signal::HUP, 2)] {
        let before = children(first);
        let mut client = fixture
            .part(&["exec-order", &home, "test-aaaaa", "pipes", "sleep", "1000"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let pid = Pid::from_raw(client.id().cast_signed()).context("a process")?;
        // Once it is stopped nothing lets it go on, so that no signal but SIGKILL reaches it.
        eventually("the command is stopped", || {
            children(first).iter().any(|child| !before.contains(child) && is_stopped(*child))
        })?;
        for _ in 0..count {
            kill_process(pid, number)?;
            // Two of a kind at once are one, signal(7).
            std::thread::sleep(Duration::from_millis(200));
        }
        let mut code = None;
        eventually("the client ends", || {
            code = client.try_wait().ok().flatten();
            code.is_some()
        })
        .inspect_err(|_| drop(client.kill()))?;
        // Killed; or it was stopped before it had begun, and the first process gave it up sooner than the
        // client.
        ensure!(matches!(code.and_then(|code| code.code()), Some(137 | 70)), "{number:?}: {code:?}");
    }
    let output = fixture.part(&["stop-order", &home, "test-aaaaa"]).output()?;
    ensure!(output.status.success(), "{output:?}");
    running.child.wait()?;
    fixture.expect_clean(&[])
}

/// An agent makes folders under names that a removal could want, and folders deeper than any path.
fn hostile_folders(user: User) -> anyhow::Result<()> {
    let script = "cd; for number in $(seq 0 99); do mkdir -p .bot-bottle-deep-$number/in; done; \
        for chain in 1 2 3; do perl -e 'mkdir \"c$ARGV[0]\"; chdir \"c$ARGV[0]\"; \
        for (1..3000) { mkdir \"ab\" or die; chdir \"ab\" or die }' $chain || exit 1; done; echo made";
    let mut fixture = Fixture::shell(user, script);
    let project = fixture.folder.path().join("project");
    fs::create_dir(&project)?;
    fixture.order.plan.workspace = Some(project);
    ensure!(fixture.success()? == "made\n");
    ensure!(!fixture.agent_folder().exists(), "its workspace is as it was");
    ensure!(!fixture.events().contains("NotRemoved"), "{}", fixture.events());
    ensure!(!fixture.events().contains("Kept("), "{}", fixture.events());
    fixture.expect_clean(&[])
}

/// Something that is mounted in the home from outside cannot be removed.
fn not_removed(user: User) -> anyhow::Result<()> {
    if !crate::fixture::is_root() {
        return crate::fixture::skip("root", "what cannot be removed: only root can mount something there");
    }
    if user != User::Own {
        return Ok(());
    }
    let mut fixture = Fixture::shell(user, "echo ready; read -r line");
    let project = fixture.folder.path().join("project");
    fs::create_dir(&project)?;
    fixture.order.plan.workspace = Some(project);
    let mut running = fixture.start()?;
    let mounted_on = fixture.agent_folder().join("home/mounted");
    fs::create_dir(&mounted_on)?;
    ensure!(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&mounted_on).status()?.success());
    fs::write(mounted_on.join("foreign"), "x")?;
    drop(running.child.stdin.take());
    running.child.wait()?;
    let events = fixture.events();
    let is_whole = mounted_on.join("foreign").exists();
    ensure!(Command::new("umount").arg(&mounted_on).status()?.success());
    ensure!(is_whole, "what was mounted there is not the bottle's");
    ensure!(events.contains("NotRemoved") && events.contains("test-aaaaa"), "{events}");
    fixture.expect_clean(&[])
}

fn full_disk(user: User) -> anyhow::Result<()> {
    if !crate::fixture::is_root() {
        return crate::fixture::skip("root", "a full disk: only root can mount a small one");
    }
    let mut fixture = Fixture::shell(user, "echo ready");
    let project = fixture.folder.path().join("project");
    fs::create_dir(&project)?;
    fs::File::create(project.join("large"))?.write_all(&vec![1; 3 << 20])?;
    fixture.order.plan.workspace = Some(project);
    let home = fixture.order.home.clone();
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m,mode=777", "none"]).arg(&home).status()?;
    ensure!(mounted.success());
    let output = fixture.output();
    let left: Vec<_> = fs::read_dir(home.join("state"))?.flatten().map(|entry| entry.file_name()).collect();
    let unmounted = Command::new("umount").arg(&home).status()?;
    let text = String::from_utf8(output.stderr)?;
    ensure!(text.contains("No space left on device"), "{text}");
    ensure!(left.iter().all(|name| name == ".lock"), "{left:?}");
    ensure!(unmounted.success(), "nothing holds the disk");
    Ok(())
}

/// A command leaves a program behind that has its streams open; what it wrote itself arrives whole.
fn held_streams(user: User) -> anyhow::Result<()> {
    let fixture = Fixture::shell(user, "echo ready; exec sleep 600");
    let _running = fixture.start()?;
    let started = std::time::Instant::now();
    let output = fixture.exec(&["sh", "-c", "sleep 600 & head -c 3000000 /dev/zero; exit 3"]);
    ensure!(output.status.code() == Some(3), "{:?}", output.status);
    ensure!(output.stdout.len() == 3_000_000, "{}", output.stdout.len());
    ensure!(started.elapsed() < Duration::from_secs(300), "{:?}", started.elapsed());
    Ok(())
}
