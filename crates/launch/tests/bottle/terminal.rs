//! The operator's terminal, as the agent and commands beside it have it.

use std::{
    fs,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};
use bot_bottle_launch::request::Terminal;
use libtest_mimic::Trial;
use rustix::{
    pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{LocalModes, OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize},
};

use crate::fixture::{Fixture, ORDINARY, User, trial};

pub(crate) fn trials(user: User) -> Vec<Trial> {
    vec![
        trial(user, "a_terminal_works_as_outside", terminal),
        trial(user, "a_bottle_does_not_outlive_its_terminal", terminal_goes),
        trial(user, "the_terminal_comes_back_as_it_was", terminal_afterwards),
        trial(user, "the_terminal_comes_back_without_input_from_it", output_afterwards),
        trial(user, "exec_gets_a_terminal_of_its_own", exec_terminal),
        trial(user, "a_terminal_that_nobody_reads_holds_nothing_up", unread_terminal),
    ]
}

/// A terminal of the operator's, with a program on it.
pub(crate) struct Operator {
    controller: OwnedFd,
    line: OwnedFd,
    pub(crate) child: std::process::Child,
    seen: String,
}

impl Operator {
    pub(crate) fn start(
        fixture: &Fixture,
        command: &Command,
        rows: u16,
        columns: u16,
    ) -> anyhow::Result<Self> {
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
        if fixture.user != User::Own {
            on_terminal.uid(ORDINARY).gid(ORDINARY);
            // As login(1) does.
            rustix::fs::fchown(&line, Some(rustix::fs::Uid::from_raw(ORDINARY)), None)?;
        }
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

    pub(crate) fn expect(&mut self, text: &str) -> anyhow::Result<()> {
        while !self.seen.contains(text) {
            let mut waits = [rustix::event::PollFd::new(&self.controller, rustix::event::PollFlags::IN)];
            let limit = rustix::event::Timespec { tv_sec: 60, tv_nsec: 0 };
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
    let mut operator = Operator::start(&fixture, &launcher, 30, 100)?;
    // The first one is kept for `exec`.
    operator.expect("size 30 100 /dev/pts/1")?;
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

/// Nobody reads what the agent writes: the terminal of a laptop that sleeps, or a screen in copy mode. Limits
/// hold, and so does the wish to end.
fn unread_terminal(user: User) -> anyhow::Result<()> {
    for limited in [true, false] {
        let mut fixture = Fixture::shell(user, "echo ready; exec yes");
        fixture.order.terminal = Terminal::Pty;
        if limited {
            fixture.order.plan.limits.time = Some(bot_bottle_core::limits::WallTime(2));
        }
        let launcher = fixture.launcher();
        let mut operator = Operator::start(&fixture, &launcher, 30, 100)?;
        operator.expect("ready")?;
        if !limited {
            let home = fixture.order.home.to_string_lossy().into_owned();
            let output = fixture.part(&["stop-order", &home, "test-aaaaa"]).output()?;
            ensure!(output.status.success(), "{output:?}");
        }
        // The launcher itself then waits for whoever reads its last words.
        crate::fixture::eventually("the bottle ends", || !fixture.run().exists())?;
        operator.child.kill()?;
        operator.child.wait()?;
    }
    Ok(())
}

/// The operator closes the window.
fn terminal_goes(user: User) -> anyhow::Result<()> {
    for script in [
        // The agent hears it and may put its things in order.
        "trap 'echo heard > heard; exit 0' HUP; echo ready; while :; do sleep 0.05; done",
        // This one does not listen, and a child of its own has another session.
        "trap '' HUP TERM INT; (setsid sleep 1000 &); echo ready; while :; do sleep 0.05; done",
    ] {
        let mut fixture = Fixture::shell(user, script);
        let project = fixture.folder.path().join("project");
        fs::create_dir(&project)?;
        fixture.order.plan.workspace = Some(project);
        fixture.order.terminal = Terminal::Pty;
        let launcher = fixture.launcher();
        let mut operator = Operator::start(&fixture, &launcher, 30, 100)?;
        operator.expect("ready")?;
        let processes = fixture.recorded();
        ensure!(processes.len() == 2, "{processes:?}");
        let Operator { controller, line, mut child, .. } = operator;
        drop((controller, line));
        child.wait()?;
        let workspace = fixture.agent_folder().join("workspace");
        ensure!(workspace.join("heard").exists() == script.contains("heard"), "the agent was told");
        fixture.expect_clean(&processes)?;
    }
    Ok(())
}

fn exec_terminal(user: User) -> anyhow::Result<()> {
    let fixture = Fixture::shell(user, "echo ready; exec sleep 100");
    let _running = fixture.start()?;
    let home = fixture.order.home.to_string_lossy().into_owned();
    let client = fixture.part(&["exec-order", &home, "test-aaaaa", "pty", "bash", "-c", ON_A_TERMINAL]);
    let mut operator = Operator::start(&fixture, &client, 20, 90)?;
    operator.expect("size 20 90 /dev/pts/1")?;
    operator.type_in("there\r")?;
    operator.expect("got:there")?;
    operator.expect("ready")?;
    operator.type_in("\x03")?;
    operator.expect("interrupted")?;
    ensure!(operator.child.wait()?.code() == Some(5));
    Ok(())
}

/// The program asks the terminal something at its end, and leaves modes behind.
fn terminal_afterwards(user: User) -> anyhow::Result<()> {
    afterwards(user, Terminal::Pty)
}

/// The same where standard input is no terminal: the answers are there for the shell all the same.
fn output_afterwards(user: User) -> anyhow::Result<()> {
    afterwards(user, Terminal::Pipes)
}

fn afterwards(user: User, terminal: Terminal) -> anyhow::Result<()> {
    let script = r"printf '\033[?1049h\033[?2004h\033[?1003h\033[>1u\033[6n\033]0;unfinished'";
    let mut late = 0;
    loop {
        let mut fixture = Fixture::shell(user, script);
        fixture.order.terminal = terminal;
        let launcher = fixture.launcher();
        let mut without_input = Command::new("sh");
        without_input.args(["-c", "exec \"$@\" </dev/null", "sh"]);
        without_input.arg(launcher.get_program()).args(launcher.get_args());
        let command = if terminal == Terminal::Pty { &launcher } else { &without_input };
        let mut operator = Operator::start(&fixture, command, 30, 100)?;
        operator.expect("\x1b[6n")?;
        operator.expect("unfinished")?;
        for reset in ["\x18\x1b\\", "\x1b[?1049l", "\x1b[?1003l", "\x1b[?2004l", "\x1b[?25h", "\x1b[<99u"] {
            operator.expect(reset)?;
        }
        let asked = std::time::Instant::now();
        operator.expect("\x1b[5n")?;
        operator.type_in("\x1b[12;40R\x1b[0n\r")?;
        ensure!(operator.child.wait()?.success());
        let mut modes = tcgetattr(&operator.line)?;
        ensure!(modes.local_modes.contains(LocalModes::ICANON | LocalModes::ECHO), "as before");
        // Counts what is not a whole line too.
        modes.make_raw();
        tcsetattr(&operator.line, OptionalActions::Now, &modes)?;
        let pending = rustix::io::ioctl_fionread(&operator.line)?;
        if pending == 0 {
            return Ok(());
        }
        // This terminal is the test, which has a busy machine to excuse it.
        ensure!(
            asked.elapsed() > std::time::Duration::from_millis(900) && late < 5,
            "{pending} bytes are left"
        );
        late += 1;
    }
}
