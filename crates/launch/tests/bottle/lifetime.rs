//! However a launcher ends, nothing of its bottle goes on.

use std::{
    fs,
    io::{BufRead, Read, Write},
    os::fd::{AsFd, OwnedFd},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};
use bot_bottle_launch::request::{Step, Terminal};
use libtest_mimic::Trial;
use rustix::{
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};

use crate::fixture::{Fixture, Running, User, eventually, trial};

pub(crate) fn trials(user: User) -> Vec<Trial> {
    vec![
        trial(user, "kill_at_every_step_leaves_no_process", kill_at_every_step),
        trial(user, "kill_while_the_agent_runs_leaves_no_process", kill_while_running),
        trial(user, "signals_end_the_bottle_in_order", signals),
        trial(user, "stop_ends_the_bottle", stop),
        trial(user, "background_processes_do_not_hold_the_bottle", background),
        trial(user, "a_dead_gateway_ends_the_bottle", dead_gateway),
        trial(user, "an_occupied_state_directory_is_left_alone", occupied),
        trial(user, "a_terminal_works_as_outside", terminal),
        trial(user, "exec_gets_a_terminal_of_its_own", exec_terminal),
        trial(user, "an_exec_client_that_goes_takes_its_command_along", exec_client_goes),
        trial(user, "a_full_disk_is_an_error_that_leaves_nothing", full_disk),
    ]
}

fn recorded(fixture: &Fixture) -> Vec<i32> {
    let text = fs::read_to_string(fixture.run().join("processes.json")).unwrap_or_default();
    let processes: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap_or_default();
    processes.iter().filter_map(|process| i32::try_from(process["pid"].as_i64()?).ok()).collect()
}

fn is_gone(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

/// Nothing runs that belongs to the fixture, and `cleanup` leaves an empty state directory.
fn clean(fixture: &Fixture, processes: &[i32]) -> anyhow::Result<()> {
    eventually("the recorded processes end", || processes.iter().all(|pid| is_gone(*pid)))?;
    eventually("the bottle's processes end", || fixture.processes().is_empty())
        .with_context(|| format!("{:?}", fixture.processes()))?;
    let home = fixture.order.home.to_string_lossy().into_owned();
    let output = fixture.part(&["cleanup-order", &home]).output()?;
    ensure!(output.status.success(), "{output:?}");
    let left: Vec<_> = fs::read_dir(fixture.order.home.join("state"))
        .map(|entries| entries.flatten().map(|entry| entry.file_name()).collect())
        .unwrap_or_default();
    ensure!(left.iter().all(|name| name == ".lock"), "{left:?}");
    Ok(())
}

fn long_running(user: User) -> Fixture {
    let fixture = Fixture::shell(user, "");
    let marker = format!("bottle-test-marker {}", fixture.order.home.display());
    let script =
        format!("(trap '' HUP; exec -a '{marker}' sleep 1000) & echo ready; exec -a '{marker}' sleep 1000");
    let mut fixture = fixture;
    fixture.order.plan.program.command = vec!["bash".into(), "-c".into(), script];
    fixture
}

fn kill_at_every_step(user: User) -> anyhow::Result<()> {
    for step in Step::ALL {
        for after in [false, true] {
            let fixture = long_running(user).fault(step, after);
            let mut child = fixture
                .launcher()
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            let status = child.wait()?;
            ensure!(
                std::os::unix::process::ExitStatusExt::signal(&status) == Some(9),
                "{step:?} {after}: {status:?}"
            );
            clean(&fixture, &recorded(&fixture)).with_context(|| format!("{step:?}, after: {after}"))?;
        }
    }
    Ok(())
}

fn kill_while_running(user: User) -> anyhow::Result<()> {
    let fixture = long_running(user);
    let mut running = fixture.start()?;
    let processes = recorded(&fixture);
    ensure!(processes.len() == 2, "{processes:?}");
    eventually("the test sees what it looks for", || fixture.processes().len() >= 3)?;
    running.child.kill()?;
    running.child.wait()?;
    clean(&fixture, &processes)
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
    let processes = recorded(&fixture);
    signal(&running, Signal::HUP)?;
    std::thread::sleep(Duration::from_millis(100));
    signal(&running, Signal::HUP)?;
    ensure!(running.child.wait()?.code() == Some(137));
    ensure!(!fixture.run().exists(), "nothing is left");
    clean(&fixture, &processes)
}

fn stop(user: User) -> anyhow::Result<()> {
    let fixture = Fixture::shell(user, "trap 'exit 4' TERM; echo ready; while :; do sleep 0.05; done");
    let mut running = fixture.start()?;
    let processes = recorded(&fixture);
    let home = fixture.order.home.to_string_lossy().into_owned();
    let output = fixture.part(&["stop-order", &home, "test-aaaaa"]).output()?;
    ensure!(output.status.success(), "{output:?}");
    ensure!(!fixture.run().exists(), "when stop comes back, all is gone");
    ensure!(running.child.wait()?.code() == Some(4));
    clean(&fixture, &processes)?;
    let output = fixture.part(&["stop-order", &home, "test-aaaaa"]).output()?;
    ensure!(String::from_utf8(output.stderr)? == "error: no bottle `test-aaaaa` is running\n");
    Ok(())
}

fn background(user: User) -> anyhow::Result<()> {
    let fixture = Fixture::shell(user, "(setsid sleep 1000 &) ; echo done");
    let started = std::time::Instant::now();
    let text = fixture.success()?;
    ensure!(text == "done\n" && started.elapsed() < Duration::from_secs(5), "{text}");
    Ok(())
}

fn dead_gateway(user: User) -> anyhow::Result<()> {
    let fixture = long_running(user);
    let mut running = fixture.start()?;
    let processes = recorded(&fixture);
    let gateway = Pid::from_raw(*processes.first().context("the gateway")?).context("a process")?;
    kill_process(gateway, Signal::KILL)?;
    ensure!(running.child.wait()?.code() == Some(137));
    let mut text = String::new();
    running.child.stderr.take().context("piped")?.read_to_string(&mut text)?;
    ensure!(text == "ended by GatewayEnded\n", "{text}");
    clean(&fixture, &processes)
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

/// A terminal of the operator's, with a program on it.
struct Operator {
    controller: OwnedFd,
    line: OwnedFd,
    child: std::process::Child,
    seen: String,
}

impl Operator {
    fn start(command: Command, rows: u16, columns: u16) -> anyhow::Result<Self> {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        unlockpt(&controller)?;
        let line =
            ioctl_tiocgptpeer(&controller, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        let this = |controller: &OwnedFd| {
            tcsetwinsize(controller, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })
        };
        this(&controller)?;
        let mut on_terminal = Command::new("setsid");
        on_terminal.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        on_terminal.env_clear().env("PATH", "/usr/bin:/bin").current_dir("/");
        for (stream, name) in [(0, "in"), (1, "out"), (2, "error")] {
            let copy = Stdio::from(line.try_clone().context(name)?);
            match stream {
                0 => on_terminal.stdin(copy),
                1 => on_terminal.stdout(copy),
                _ => on_terminal.stderr(copy),
            };
        }
        Ok(Self { child: on_terminal.spawn()?, controller, line, seen: String::new() })
    }

    fn expect(&mut self, text: &str) -> anyhow::Result<()> {
        while !self.seen.contains(text) {
            let mut waits = [rustix::event::PollFd::new(&self.controller, rustix::event::PollFlags::IN)];
            let limit = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
            ensure!(rustix::event::poll(&mut waits, Some(&limit))? > 0, "no {text:?} in {:?}", self.seen);
            let mut buffer = [0; 4096];
            let count = rustix::io::read(&self.controller, &mut buffer)?;
            self.seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        let at = self.seen.find(text).context("found")? + text.len();
        self.seen.drain(..at);
        Ok(())
    }

    fn type_in(&self, text: &str) -> anyhow::Result<()> {
        rustix::io::write(self.controller.as_fd(), text.as_bytes())?;
        Ok(())
    }
}

const ON_A_TERMINAL: &str = "test -t 0 && test -t 1 && test -t 2 && echo size $(stty size) $(tty); \
    read -r line; echo got:$line; trap 'echo resized $(stty size)' WINCH; trap 'echo interrupted; exit 5' INT; \
    echo ready; while :; do sleep 0.05; done";

fn terminal(user: User) -> anyhow::Result<()> {
    let mut fixture = Fixture::shell(user, ON_A_TERMINAL);
    fixture.order.terminal = Terminal::Pty;
    let launcher = fixture.launcher();
    if user == User::Ordinary {
        // setsid(1) is started as root and would make the bottle root's.
        return Ok(());
    }
    let mut operator = Operator::start(launcher, 30, 100)?;
    operator.expect("size 30 100 /dev/pts/0")?;
    operator.type_in("hello\r")?;
    operator.expect("got:hello")?;
    operator.expect("ready")?;
    ensure!(!tcgetattr(&operator.line)?.local_modes.contains(LocalModes::ICANON), "raw while it runs");
    tcsetwinsize(&operator.controller, Winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 })?;
    operator.expect("resized 40 120")?;
    operator.type_in("\x03")?;
    operator.expect("interrupted")?;
    ensure!(operator.child.wait()?.code() == Some(5));
    let modes = tcgetattr(&operator.line)?.local_modes;
    ensure!(modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG), "as before: {modes:?}");
    ensure!(!fixture.run().exists(), "nothing is left");
    Ok(())
}

fn exec_terminal(user: User) -> anyhow::Result<()> {
    if user == User::Ordinary {
        return Ok(());
    }
    let fixture = Fixture::shell(user, "echo ready; exec sleep 100");
    let _running = fixture.start()?;
    let home = fixture.order.home.to_string_lossy().into_owned();
    let client = fixture.part(&["exec-order", &home, "test-aaaaa", "pty", "bash", "-c", ON_A_TERMINAL]);
    let mut operator = Operator::start(client, 20, 90)?;
    operator.expect("size 20 90 /dev/pts/0")?;
    operator.type_in("there\r")?;
    operator.expect("got:there")?;
    operator.expect("ready")?;
    operator.type_in("\x03")?;
    operator.expect("interrupted")?;
    ensure!(operator.child.wait()?.code() == Some(5));
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
