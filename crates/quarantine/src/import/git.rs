//! Runs git: with an environment of ours, bounded, and with nothing that git would run by itself.

use std::{
    env,
    ffi::OsString,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    os::unix::{ffi::OsStrExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    thread,
};

use bot_bottle_core::printable::{git_quoted, printable};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

use super::{ImportBounds, error::ImportError};

/// What is kept of git's messages, in bytes. The first name the reason, the last only the consequence.
const MAX_MESSAGES: u64 = 16 << 10;

/// Configuration that the operator's own is overridden by: the keys with which git, at one of our commands,
/// would run a program, use the network, or tidy up. git-config(1).
const NOTHING_ELSE_RUNS: [&str; 7] = [
    // The reference-transaction and post-index-change hooks.
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.alternateRefsCommand=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "protocol.allow=never",
    "credential.helper=",
];

/// How git is called: in which repository, with whose configuration.
#[derive(Debug, Clone)]
pub(super) struct Git {
    program: OsString,
    place: Place,
    /// Memory and processor time, where git reads objects of the bottle.
    limits: Option<(u64, u64)>,
}

#[derive(Debug, Clone)]
enum Place {
    /// A bare repository that is ours, with no configuration but its own.
    Ours { git_dir: PathBuf, alternate: Option<PathBuf> },
    /// A folder of the operator, in whose repository git runs if it is one that git opens.
    Folder { folder: PathBuf },
    /// The operator's repository, with the operator's configuration.
    Operators { git_dir: PathBuf, hooks: Vec<String> },
}

/// What git reads from its standard input.
pub(super) enum Input {
    Nothing,
    Text(Vec<u8>),
    /// From the file's offset on.
    File(File),
}

impl Input {
    fn write_to(self, mut pipe: ChildStdin) -> io::Result<u64> {
        match self {
            Self::Nothing => Ok(0),
            Self::Text(text) => io::copy(&mut text.as_slice(), &mut pipe),
            Self::File(mut file) => io::copy(&mut file, &mut pipe),
        }
    }
}

/// How a command ended that could be run.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    /// The beginning of what it wrote to its standard error, made printable line by line.
    pub(super) messages: Vec<String>,
}

impl Git {
    /// Git in a bare repository that is ours, or that will be one.
    pub(super) fn ours(git_dir: &Path, bounds: &ImportBounds) -> Self {
        Self {
            program: "git".into(),
            place: Place::Ours { git_dir: git_dir.to_owned(), alternate: None },
            limits: Some((bounds.memory, bounds.processor_seconds)),
        }
    }

    /// Git in a folder of the operator, to find the repository.
    pub(super) fn in_folder(folder: &Path) -> Self {
        Self { program: "git".into(), place: Place::Folder { folder: folder.to_owned() }, limits: None }
    }

    /// Git in the operator's repository.
    ///
    /// For a folder that [`Self::in_folder`] found: whoever names the folder with GIT_DIR vouches for its owner.
    ///
    /// `hooks` are those that its configuration names, which do not run: from git 2.54 on there are hooks beside
    /// the files in `core.hooksPath`, git-hook(1).
    pub(super) fn operators(git_dir: PathBuf, hooks: Vec<String>) -> Self {
        Self { program: "git".into(), place: Place::Operators { git_dir, hooks }, limits: None }
    }

    /// The same, that also sees the objects of another repository.
    pub(super) fn with_alternate(&self, objects: &Path) -> Self {
        let mut git = self.clone();
        if let Place::Ours { alternate, .. } = &mut git.place {
            *alternate = Some(objects.to_owned());
        }
        git
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        // GIT_DIR, GIT_CONFIG_PARAMETERS, GIT_SSH_COMMAND and many more change what git does: none is passed on.
        command.env_clear();
        keep(&mut command, &["PATH"]);
        command
            .env("LC_ALL", "C")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_OPTIONAL_LOCKS", "0")
            // An object that is missing in a partial clone is an error, and not fetched.
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_ALLOW_PROTOCOL", "")
            // What is checked is what is stored, whatever refs/replace says.
            .env("GIT_NO_REPLACE_OBJECTS", "1");
        match &self.place {
            Place::Ours { git_dir, alternate } => {
                command
                    .env("HOME", git_dir)
                    .env("GIT_DIR", git_dir)
                    .env("GIT_CONFIG_NOSYSTEM", "1")
                    .env("GIT_CONFIG_GLOBAL", "/dev/null")
                    .current_dir("/");
                if let Some(objects) = alternate {
                    command
                        .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", git_quoted(objects.as_os_str().as_bytes()));
                }
            }
            Place::Folder { folder } => {
                command.arg("-C").arg(folder);
                with_operators_configuration(&mut command);
            }
            Place::Operators { git_dir, hooks } => {
                // Not in a folder of the repository: there, `git index-pack` takes a relative path of it for one
                // from that folder, and writes the pack to the wrong place.
                command.env("GIT_DIR", git_dir).current_dir("/");
                // Not by `-c`, which takes the first `=` for the end of the key.
                command.env("GIT_CONFIG_COUNT", hooks.len().to_string());
                for (number, hook) in hooks.iter().enumerate() {
                    command.env(format!("GIT_CONFIG_KEY_{number}"), format!("hook.{hook}.enabled"));
                    command.env(format!("GIT_CONFIG_VALUE_{number}"), "false");
                }
                with_operators_configuration(&mut command);
            }
        }
        command.args(arguments);
        command
    }

    /// Runs git and hands its standard output to `read`.
    ///
    /// When `read` fails, git is ended, and the error is that of `read`.
    pub(super) fn stream<T>(
        &self,
        arguments: &[&str],
        input: Input,
        read: impl FnOnce(&mut dyn BufRead) -> Result<T, ImportError>,
    ) -> Result<(T, Ended), ImportError> {
        let stdin = if matches!(input, Input::Nothing) { Stdio::null() } else { Stdio::piped() };
        let mut child = self
            .command(arguments)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => ImportError::GitMissing,
                _ => ImportError::io("starting git", error),
            })?;
        // Before it gets any input: what the bottle sent is read within the limits from the first byte on.
        self.limit(&child);
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        thread::scope(|scope| {
            // Git that ends early closes its input; its exit status is what tells.
            scope.spawn(move || stdin.map(|pipe| input.write_to(pipe)));
            let messages = scope.spawn(move || stderr.map_or_else(Vec::new, first_lines));
            let mut stdout = BufReader::new(
                stdout.ok_or_else(|| ImportError::io("starting git", io::ErrorKind::BrokenPipe))?,
            );
            let read = read(&mut stdout);
            if read.is_err() {
                // Already ended, or ended now.
                let _ = child.kill();
            }
            drop(stdout);
            let status = child.wait().map_err(|error| ImportError::io("waiting for git", error))?;
            let messages = messages.join().unwrap_or_default();
            Ok((read?, Ended { status, messages }))
        })
    }

    /// Runs git, and returns its standard output of at most `max` bytes.
    pub(super) fn output(
        &self,
        arguments: &[&str],
        input: Input,
        max: u64,
    ) -> Result<(Vec<u8>, Ended), ImportError> {
        self.stream(arguments, input, |stdout| {
            let mut output = Vec::new();
            let read = stdout.take(max + 1).read_to_end(&mut output);
            read.map_err(|error| ImportError::io("reading from git", error))?;
            if output.len() as u64 > max {
                return Err(ImportError::too_large("bytes in an answer of git", max));
            }
            Ok(output)
        })
    }

    /// Bounds what objects of the bottle can make git use. Only writable private memory is counted, so that
    /// large packs of the operator can still be mapped: getrlimit(2), RLIMIT_DATA.
    fn limit(&self, child: &Child) {
        let Some((memory, seconds)) = self.limits else { return };
        let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return };
        // At the lower limit of time it gets SIGXCPU, which tells why it ended; at the upper one SIGKILL.
        let seconds = Rlimit { current: Some(seconds), maximum: Some(seconds.saturating_add(1)) };
        let memory = Rlimit { current: Some(memory), maximum: Some(memory) };
        for (resource, limit) in [(Resource::Data, memory), (Resource::Cpu, seconds)] {
            // Fails if git has ended already.
            let _ = prlimit(Some(pid), resource, limit);
        }
    }
}

impl Ended {
    /// An error of git where nothing of the bottle can be the reason.
    pub(super) fn expect_success(self, command: &'static str) -> Result<(), ImportError> {
        if self.status.success() { Ok(()) } else { Err(ImportError::Git { command, message: self.reason() }) }
    }

    /// An error of git that the objects of the bottle are the reason of.
    pub(super) fn expect_accepted(self, bounds: &ImportBounds) -> Result<(), ImportError> {
        if self.status.success() {
            return Ok(());
        }
        let says = |text: &str| self.messages.iter().any(|line| line.contains(text));
        if self.status.signal() == Some(Signal::XCPU.as_raw()) {
            return Err(ImportError::too_large("seconds of work for git", bounds.processor_seconds));
        }
        if says("ut of memory") || says("annot allocate memory") || says("unable to create thread") {
            return Err(ImportError::too_large("bytes of memory for git", bounds.memory));
        }
        Err(ImportError::Refused(self.reason()))
    }

    /// The first message that tells why.
    pub(super) fn reason(&self) -> String {
        let told = self.messages.iter().find_map(|line| {
            ["error: ", "fatal: "].iter().find_map(|prefix| line.strip_prefix(prefix)).map(str::to_owned)
        });
        told.or_else(|| self.messages.first().cloned()).unwrap_or_else(|| self.status.to_string())
    }
}

fn with_operators_configuration(command: &mut Command) {
    // Git opens another user's repository only where `safe.directory` in the operator's own or the system's
    // configuration allows it; after sudo it accepts those of SUDO_UID, git-config(1).
    keep(command, &["HOME", "XDG_CONFIG_HOME", "SUDO_UID"]);
    for setting in NOTHING_ELSE_RUNS {
        command.args(["-c", setting]);
    }
}

fn keep(command: &mut Command, names: &[&str]) {
    for name in names {
        if let Some(value) = env::var_os(name) {
            command.env(name, value);
        }
    }
}

/// Reads to the end, so that git does not wait, and keeps the beginning.
fn first_lines(mut stderr: impl Read) -> Vec<String> {
    let mut kept = Vec::new();
    // A failure ends the messages; the exit status tells.
    let _ = stderr.by_ref().take(MAX_MESSAGES).read_to_end(&mut kept);
    let _ = io::copy(&mut stderr, &mut io::sink());
    String::from_utf8_lossy(&kept).lines().map(printable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_git_is_told_so() {
        let mut git = Git::in_folder(Path::new("/"));
        git.output(&["version"], Input::Nothing, 1000).expect("git runs");
        git.program = "git-that-is-not-installed".into();
        let error = git.output(&["version"], Input::Nothing, 1000).expect_err("no git");
        assert!(matches!(error, ImportError::GitMissing), "{error}");
    }

    #[test]
    fn what_exceeds_the_time_is_an_error_that_names_it() {
        let bounds = ImportBounds { processor_seconds: 1, ..ImportBounds::default() };
        let folder = tempfile::tempdir().expect("a folder");
        let mut git = Git::ours(folder.path(), &bounds);
        // Uses the processor until it is ended; git would need an object of gigabytes for that.
        git.program = "sh".into();
        let (_, ended) =
            git.output(&["-c", "while :; do :; done"], Input::Nothing, 1000).expect("the shell runs");
        let error = ended.expect_accepted(&bounds).expect_err("too long");
        assert!(error.to_string().contains("seconds"), "{error}");
    }

    #[test]
    fn what_exceeds_the_memory_is_an_error_that_names_it() {
        let bounds = ImportBounds { memory: 64 << 20, ..ImportBounds::default() };
        let folder = tempfile::tempdir().expect("a folder");
        // From a pipe, git reads the whole object into memory.
        let hash = |size: usize| {
            let git = Git::ours(folder.path(), &bounds);
            let (_, ended) =
                git.output(&["hash-object", "--stdin"], Input::Text(vec![0; size]), 1000).expect("git runs");
            ended.expect_accepted(&bounds)
        };
        hash(1 << 20).expect("a small object");
        let error = hash(96 << 20).expect_err("a large object");
        assert!(error.to_string().contains("memory"), "{error}");
    }
}
