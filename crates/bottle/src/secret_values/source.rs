//! Asks for a secret where `settings.yml` says that it comes from.

use std::{
    io::{self, Read},
    os::fd::BorrowedFd,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use bot_bottle_core::secret::{SecretOrigin, SecretRef};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, ioctl_fionbio},
    process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open},
};
use zeroize::Zeroizing;

use crate::{exit::CommandError, host_file};

/// How long a command may take: a password manager may ask its owner.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// Longest output of a command, and longest file, in bytes.
const MAX_BYTES: usize = 64 << 10;

/// The one line that a source has, without the line end.
pub(super) fn ask(
    name: &SecretRef,
    origin: &SecretOrigin,
    cancel: Option<BorrowedFd<'_>>,
) -> Result<Zeroizing<String>, CommandError> {
    ask_within(origin, COMMAND_LIMIT, cancel).and_then(|bytes| only_line(&bytes)).map_err(|why| {
        CommandError::failed(format!("the secret `{name}` comes from {origin}: {why}")).with_hint(format!(
            "settings.yml, `secrets.{name}`: the source has to give the value alone, on one line"
        ))
    })
}

fn ask_within(
    origin: &SecretOrigin,
    limit: Duration,
    cancel: Option<BorrowedFd<'_>>,
) -> Result<Zeroizing<Vec<u8>>, String> {
    match origin {
        SecretOrigin::File(path) => host_file::read(path, MAX_BYTES).map_err(|error| error.to_string()),
        SecretOrigin::Command(words) => run(words, limit, cancel),
    }
}

/// Runs a command to its end: at the limit it is killed with what it has started. What it has printed by then is its
/// output, even where a daemon that it started still has that open. Its errors go to the operator's terminal, on which it
/// cannot ask.
fn run(
    words: &[String],
    limit: Duration,
    cancel: Option<BorrowedFd<'_>>,
) -> Result<Zeroizing<Vec<u8>>, String> {
    let [program, arguments @ ..] = words else { return Err("it names no program".to_owned()) };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    bot_bottle_launch::detach(&mut command);
    let child = command.spawn().map_err(|error| format!("it cannot be started: {error}"))?;
    let mut group = Group(child);
    let failed = |error: Errno| format!("it cannot be waited for: {error}");
    let process = pidfd_open(Pid::from_child(&group.0), PidfdFlags::empty()).map_err(failed)?;
    let mut output = Output::of(group.0.stdout.take().ok_or("it has no output")?)?;
    let deadline = Instant::now() + limit;
    loop {
        let mut waits = vec![PollFd::new(&process, PollFlags::IN)];
        waits.extend(cancel.map(|cancel| PollFd::from_borrowed_fd(cancel, PollFlags::IN)));
        waits.extend(output.pipe.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).ok();
        match poll(&mut waits, left.as_ref()) {
            Err(Errno::INTR) => continue,
            Err(error) => return Err(failed(error)),
            Ok(0) => return Err(format!("it took longer than {} s, and was ended", limit.as_secs())),
            Ok(_) => {}
        }
        let is_ready = |number: usize| !waits[number].revents().is_empty();
        let (has_ended, is_cancelled) = (is_ready(0), cancel.is_some() && is_ready(1));
        if is_cancelled {
            return Err("it was ended with the bottle".to_owned());
        }
        output.read()?;
        if has_ended {
            break;
        }
    }
    let status = group.0.wait().map_err(|error| error.to_string())?;
    if status.success() { Ok(output.bytes) } else { Err(format!("it failed ({status})")) }
}

/// What a command has printed so far.
struct Output {
    /// Until its end was read.
    pipe: Option<ChildStdout>,
    bytes: Zeroizing<Vec<u8>>,
}

impl Output {
    fn of(pipe: ChildStdout) -> Result<Self, String> {
        ioctl_fionbio(&pipe, true).map_err(|error| error.to_string())?;
        // Its final size: a buffer that grows leaves copies of the value behind.
        Ok(Self { pipe: Some(pipe), bytes: Zeroizing::new(Vec::with_capacity(MAX_BYTES + 1)) })
    }

    /// Reads what is there. Does not wait.
    fn read(&mut self) -> Result<(), String> {
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        let room = MAX_BYTES + 1 - self.bytes.len();
        match pipe.take(room as u64).read_to_end(&mut self.bytes) {
            Ok(_) if self.bytes.len() > MAX_BYTES => Err(format!("it has more than {MAX_BYTES} bytes")),
            Ok(_) => {
                self.pipe = None;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// A child process and what it started, which end with this.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        if !matches!(self.0.try_wait(), Ok(Some(_))) {
            // ESRCH: it has ended.
            let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
            let _ = self.0.wait();
        }
    }
}

/// The text, if it is one line.
fn only_line(bytes: &[u8]) -> Result<Zeroizing<String>, String> {
    let text = str::from_utf8(bytes).map_err(|_| "what it gave is no text".to_owned())?;
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err("it gave nothing".to_owned());
    }
    if line.contains(['\n', '\r']) {
        return Err("it gave several lines".to_owned());
    }
    Ok(Zeroizing::new(line.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::fd::AsFd, path::Path, thread};

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    fn shell(script: &str) -> SecretOrigin {
        SecretOrigin::Command(["sh", "-c", script].map(str::to_owned).into())
    }

    fn asked(source: &SecretOrigin) -> Result<String, String> {
        let bytes = ask_within(source, Duration::from_secs(60), None)?;
        only_line(&bytes).map(|line| line.to_string())
    }

    #[test]
    fn a_source_gives_one_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        for (content, given) in [("abc\n", "abc"), ("abc", "abc"), ("abc\r\n", "abc"), ("a b", "a b")] {
            fs::write(&path, content).expect("written");
            assert_eq!(asked(&SecretOrigin::File(path.clone())).as_deref(), Ok(given));
        }
        assert_eq!(asked(&shell("cat; echo value; echo to the operator >&2")).as_deref(), Ok("value"));
    }

    #[test]
    fn what_is_no_value_says_why_and_not_what() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("large");
        fs::write(&path, "x".repeat(70_000)).expect("written");
        // To open one would wait for somebody who writes.
        let fifo = folder.path().join("fifo");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a FIFO");
        let file = |path: &Path| SecretOrigin::File(path.to_owned());
        for (source, why) in [
            (shell("echo value; exit 3"), "it failed (exit status: 3)"),
            (shell("kill -9 $$"), "it failed (signal: 9 (SIGKILL))"),
            (shell(""), "it gave nothing"),
            (shell("echo"), "it gave nothing"),
            (shell("echo value; echo value"), "it gave several lines"),
            (shell("printf '\\377'"), "what it gave is no text"),
            (shell("yes value"), "it has more than 65536 bytes"),
            (shell("head -c 65537 /dev/zero | tr '\\0' x"), "it has more than 65536 bytes"),
            (
                SecretOrigin::Command(vec!["/no/such/program".to_owned()]),
                "it cannot be started: No such file",
            ),
            (file(&path), "it has more than 65536 bytes"),
            (file(folder.path()), "it is no regular file"),
            (file(&fifo), "it is no regular file"),
            (file(&folder.path().join("none")), "No such file"),
        ] {
            let said = asked(&source).expect_err(why);
            assert!(said.starts_with(why) && !said.contains("value"), "{said}");
        }
    }

    #[test]
    fn a_daemon_that_keeps_the_output_open_is_not_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let pid = folder.path().join("pid");
        let script = format!("setsid sleep 1000 & echo $! > {}; echo value", pid.display());
        let began = Instant::now();
        assert_eq!(asked(&shell(&script)).as_deref(), Ok("value"));
        assert!(began.elapsed() < Duration::from_secs(50), "it was waited for");
        let pid = fs::read_to_string(&pid).expect("a pid").trim().parse().ok().and_then(Pid::from_raw);
        rustix::process::kill_process(pid.expect("a pid"), Signal::KILL).expect("it goes on, as daemons do");
    }

    #[test]
    fn a_command_has_no_terminal_and_a_session_of_its_own() {
        let script = "(: < /dev/tty) 2> /dev/null && exit 9; [ $(ps -o sid= -p $$) = $$ ] && echo value";
        assert_eq!(asked(&shell(script)).as_deref(), Ok("value"));
    }

    #[test]
    fn what_closes_its_output_and_goes_on_is_ended_too() {
        let began = Instant::now();
        let script = shell("echo value; exec >&-; exec sleep 1000");
        let said = ask_within(&script, Duration::from_secs(2), None).expect_err("it hangs");
        assert!(said.contains("longer than 2 s") && began.elapsed() < Duration::from_secs(500), "{said}");
    }

    #[test]
    fn what_is_cancelled_is_ended() {
        let (cancel, cancelled) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let waiting = thread::spawn(move || {
            ask_within(&shell("exec sleep 1000"), Duration::from_secs(60), Some(cancelled.as_fd()))
        });
        drop(cancel);
        let began = Instant::now();
        let said = waiting.join().expect("no panic").expect_err("it was ended");
        assert!(said.contains("with the bottle") && began.elapsed() < Duration::from_secs(50), "{said}");
    }

    #[test]
    fn what_hangs_is_ended_with_what_it_started() {
        let folder = tempfile::tempdir().expect("a folder");
        let alive = folder.path().join("alive");
        let script = format!("(while :; do touch {0}; sleep 0.1; done) & sleep 1000", alive.display());
        let began = Instant::now();
        let said = ask_within(&shell(&script), Duration::from_secs(2), None).expect_err("it hangs");
        assert!(said.contains("longer than 2 s") && began.elapsed() < Duration::from_secs(500), "{said}");
        fs::remove_file(&alive).expect("it ran");
        thread::sleep(Duration::from_millis(500));
        assert!(!alive.exists(), "something of it runs on");
    }
}
