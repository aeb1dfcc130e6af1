//! Asks for a secret where `settings.yml` says that it comes from.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use bot_bottle_core::{bottle::SecretSource, secret::SecretRef};
use rustix::process::{Pid, Signal, kill_process_group};
use zeroize::Zeroizing;

use crate::exit::CommandError;

/// How long a command may take: a password manager may ask its owner.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// Longest output of a command, and longest file, in bytes.
const MAX_BYTES: u64 = 64 << 10;

/// The one line that a source has, without the line end.
pub(super) fn ask(name: &SecretRef, source: &SecretSource) -> Result<Zeroizing<String>, CommandError> {
    ask_within(source, COMMAND_LIMIT).and_then(|bytes| only_line(&bytes)).map_err(|why| {
        CommandError::failed(format!("the secret `{name}` comes from {source}: {why}")).with_hint(format!(
            "settings.yml, `secrets.{name}`: the source has to give the value alone, on one line"
        ))
    })
}

fn ask_within(source: &SecretSource, limit: Duration) -> Result<Zeroizing<Vec<u8>>, String> {
    match source {
        SecretSource::File(path) => read(path).map_err(|error| error.to_string()),
        SecretSource::Command(words) => run(words, limit),
    }
}

fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    bounded(file)
}

fn bounded(source: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    source.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > MAX_BYTES {
        true => Err(io::Error::other(format!("it has more than {MAX_BYTES} bytes"))),
        false => Ok(bytes),
    }
}

/// Runs a command to its end, with what it has started: whatever of that still has the output open at the limit is
/// killed. Its errors go to the operator's terminal.
fn run(words: &[String], limit: Duration) -> Result<Zeroizing<Vec<u8>>, String> {
    let [program, arguments @ ..] = words else { return Err("it names no program".to_owned()) };
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("it cannot be started: {error}"))?;
    let mut group = Group(child);
    let output = group.0.stdout.take().ok_or("it has no output")?;
    let (sender, receiver) = mpsc::channel();
    let reader = thread::spawn(move || {
        // The receiver is gone when the limit has passed.
        let _ = sender.send(bounded(output));
    });
    let read = receiver.recv_timeout(limit);
    if read.is_err() || matches!(read, Ok(Err(_))) {
        group.kill();
    }
    // The output is at its end, or closed with the last process that had it.
    let _ = reader.join();
    let bytes = match read {
        Ok(read) => read.map_err(|error| error.to_string())?,
        Err(_) => return Err(format!("it took longer than {} s, and was ended", limit.as_secs())),
    };
    let status = group.0.wait().map_err(|error| error.to_string())?;
    if status.success() { Ok(bytes) } else { Err(format!("it failed ({status})")) }
}

/// A child process and what it started, which end with this.
struct Group(Child);

impl Group {
    fn kill(&self) {
        // ESRCH: it has ended.
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !matches!(self.0.try_wait(), Ok(Some(_))) {
            self.kill();
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
    use std::{fs, time::Instant};

    use super::*;

    fn shell(script: &str) -> SecretSource {
        SecretSource::Command(["sh", "-c", script].map(str::to_owned).into())
    }

    fn asked(source: &SecretSource) -> Result<String, String> {
        let bytes = ask_within(source, Duration::from_secs(60))?;
        only_line(&bytes).map(|line| line.to_string())
    }

    #[test]
    fn a_source_gives_one_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        for (content, given) in [("abc\n", "abc"), ("abc", "abc"), ("abc\r\n", "abc"), ("a b", "a b")] {
            fs::write(&path, content).expect("written");
            assert_eq!(asked(&SecretSource::File(path.clone())).as_deref(), Ok(given));
        }
        assert_eq!(asked(&shell("cat; echo value; echo to the operator >&2")).as_deref(), Ok("value"));
    }

    #[test]
    fn what_is_no_value_says_why_and_not_what() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("large");
        fs::write(&path, "x".repeat(70_000)).expect("written");
        let file = |path: &Path| SecretSource::File(path.to_owned());
        for (source, why) in [
            (shell("echo value; exit 3"), "it failed (exit status: 3)"),
            (shell("kill -9 $$"), "it failed (signal: 9 (SIGKILL))"),
            (shell(""), "it gave nothing"),
            (shell("echo"), "it gave nothing"),
            (shell("echo value; echo value"), "it gave several lines"),
            (shell("printf '\\377'"), "what it gave is no text"),
            (shell("yes value"), "it has more than 65536 bytes"),
            (
                SecretSource::Command(vec!["/no/such/program".to_owned()]),
                "it cannot be started: No such file",
            ),
            (file(&path), "it has more than 65536 bytes"),
            (file(folder.path()), "it is no regular file"),
            (file(&folder.path().join("none")), "No such file"),
        ] {
            let said = asked(&source).expect_err(why);
            assert!(said.starts_with(why) && !said.contains("value"), "{said}");
        }
    }

    #[test]
    fn what_hangs_is_ended_with_what_it_started() {
        let folder = tempfile::tempdir().expect("a folder");
        let alive = folder.path().join("alive");
        let script = format!("(while :; do touch {0}; sleep 0.1; done) & sleep 1000", alive.display());
        let began = Instant::now();
        let said = ask_within(&shell(&script), Duration::from_secs(2)).expect_err("it hangs");
        assert!(said.contains("longer than 2 s") && began.elapsed() < Duration::from_secs(500), "{said}");
        fs::remove_file(&alive).expect("it ran");
        thread::sleep(Duration::from_millis(500));
        assert!(!alive.exists(), "something of it runs on");
    }
}
