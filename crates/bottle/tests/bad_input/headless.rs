//! A headless run never waits for input from the terminal.

use std::{
    fs,
    io::Read,
    os::fd::OwnedFd,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bot_bottle_testkit::{find_program, has_user_namespaces, require};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};

use crate::{CLAUDE, home::Home};

/// Reads to the end, as agents do whose standard input is not theirs alone.
const PROGRAM: &str = r#"
#include <stdio.h>
int main(void) { while (getchar() != EOF) {} puts("at the end"); }
"#;

#[test]
fn the_input_of_a_headless_run_on_a_terminal_is_empty() -> Result<()> {
    let can_compile = require("cc", find_program("cc").is_some());
    if !(can_compile && require("userns", has_user_namespaces())) {
        return Ok(());
    }
    let home = Home::new()?;
    home.write("bottles/claude.md", CLAUDE)?;
    home.write("agents/writer.md", "---\nbottle: claude\n---\nWrite.\n")?;
    let tools = home.folder.path().join("tools");
    fs::create_dir(&tools)?;
    fs::write(tools.join("claude.c"), PROGRAM)?;
    // A provider's program has to be an ELF file.
    let compiled =
        Command::new("cc").arg("-o").arg(tools.join("claude")).arg(tools.join("claude.c")).status()?;
    ensure!(compiled.success(), "the program could not be compiled");
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let controller = openpt(flags)?;
    unlockpt(&controller)?;
    let line: OwnedFd = ioctl_tiocgptpeer(&controller, flags)?;
    let mut start = home.command(&["start", "writer", "--headless", "--prompt", "hello"]);
    start.env("PATH", format!("{}:/usr/bin:/bin", tools.display())).env("TOKEN", "x");
    let mut child = start.stdin(Stdio::from(line)).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // Keep the terminal open without any input.
    let deadline = Instant::now() + Duration::from_secs(60);
    while child.try_wait()?.is_none() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    let is_over = child.try_wait()?.is_some();
    // Closing the terminal ends a command that waits for input.
    drop(controller);
    let (mut text, mut errors) = (String::new(), String::new());
    child.stdout.take().context("piped")?.read_to_string(&mut text)?;
    child.stderr.take().context("piped")?.read_to_string(&mut errors)?;
    let status = child.wait()?;
    ensure!(is_over, "it waited for the terminal: {errors}");
    ensure!(status.success() && text == "at the end\n", "{status:?} {text} {errors}");
    Ok(())
}
