//! How git is run.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, Write},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use bot_bottle_core::error::IoContext as _;

use crate::InspectError;

/// One place in which git is run, with the environment and options of every command there.
#[derive(Debug, Clone)]
pub(crate) struct Git {
    folder: PathBuf,
    scratch: PathBuf,
    environment: Vec<(&'static str, OsString)>,
    options: Vec<OsString>,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The exit code; `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    /// What it wrote to standard error.
    pub(crate) complaints: Vec<String>,
}

/// For every command: nothing is asked of a person, fetched or replaced, and messages are in English.
///
/// Replacement objects (`git-replace(1)`) would make a tree look otherwise than what a bundle then contains.
const ENVIRONMENT: &[(&str, &str)] = &[
    ("GIT_NO_LAZY_FETCH", "1"),
    ("GIT_NO_REPLACE_OBJECTS", "1"),
    ("GIT_OPTIONAL_LOCKS", "0"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("LC_ALL", "C.UTF-8"),
];

impl Git {
    /// Git in a folder. Its standard error and input go through files in `scratch`.
    pub(crate) fn new(
        folder: &Path,
        scratch: &Path,
        environment: Vec<(&'static str, OsString)>,
        options: Vec<OsString>,
    ) -> Self {
        Self { folder: folder.to_owned(), scratch: scratch.to_owned(), environment, options }
    }

    /// Runs a command to its end, and copies what it writes.
    pub(crate) fn run(
        &self,
        arguments: &[&str],
        input: &[u8],
        output: &mut dyn Write,
    ) -> Result<Ended, InspectError> {
        // Files, not pipes: nobody has to read one stream so that git goes on with the other.
        let complaints = self.scratch.join("stderr");
        let wanted = self.scratch.join("stdin");
        fs::write(&wanted, input).io_context(|| format!("writing {}", wanted.display()))?;
        let opened =
            |path: &Path, file: io::Result<File>| file.io_context(|| format!("opening {}", path.display()));
        let mut command = Command::new("git");
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_bytes().starts_with(b"GIT_")) {
            command.env_remove(name);
        }
        command
            .env_remove("XDG_CONFIG_HOME")
            .envs(ENVIRONMENT.iter().copied())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .args(["--no-pager", "--literal-pathspecs"])
            .args(&self.options)
            .args(arguments)
            .current_dir(&self.folder)
            .stdin(opened(&wanted, File::open(&wanted))?)
            .stdout(Stdio::piped())
            .stderr(opened(&complaints, File::create(&complaints))?);
        let mut child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound if self.folder.exists() => InspectError::NoGit,
            _ => bot_bottle_core::error::IoError::new("running git", error).into(),
        })?;
        let copied = child.stdout.take().map_or(Ok(0), |mut from| io::copy(&mut from, output));
        let status = child.wait().io_context(|| "waiting for git")?;
        copied.io_context(|| "copying what git writes")?;
        let text = fs::read(&complaints).io_context(|| format!("reading {}", complaints.display()))?;
        let text = String::from_utf8_lossy(&text);
        Ok(Ended { code: status.code(), complaints: text.lines().map(str::to_owned).collect() })
    }

    /// Runs a command that has to succeed, and copies what it writes.
    pub(crate) fn stream(
        &self,
        arguments: &[&str],
        input: &[u8],
        output: &mut dyn Write,
    ) -> Result<(), InspectError> {
        let ended = self.run(arguments, input, output)?;
        if ended.code == Some(0) {
            return Ok(());
        }
        // The text before is often advice and always longer; the reason comes last, marked as fatal.
        let mut lines = ended.complaints.iter().rev();
        let fatal = lines.clone().find(|line| line.starts_with("fatal: ") || line.starts_with("error: "));
        let why = fatal.or_else(|| lines.next()).cloned();
        let why = why.unwrap_or_else(|| match ended.code {
            Some(code) => format!("exit code {code}"),
            None => "ended by a signal".to_owned(),
        });
        let command = arguments.first().copied().unwrap_or_default().to_owned();
        Err(InspectError::Git { command, why })
    }

    /// What a command writes that has to succeed.
    pub(crate) fn read(&self, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, InspectError> {
        let mut output = Vec::new();
        self.stream(arguments, input, &mut output)?;
        Ok(output)
    }

    /// The one line that a command writes that has to succeed.
    pub(crate) fn line(&self, arguments: &[&str], input: &[u8]) -> Result<String, InspectError> {
        let output = self.read(arguments, input)?;
        Ok(String::from_utf8_lossy(&output).trim_end_matches('\n').to_owned())
    }

    /// The one line of a command that may fail, as one that looks for something does.
    pub(crate) fn try_line(&self, arguments: &[&str]) -> Result<Option<String>, InspectError> {
        match self.line(arguments, b"") {
            Ok(line) if !line.is_empty() => Ok(Some(line)),
            Ok(_) | Err(InspectError::Git { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The options that set keys of the configuration, above all of its files.
pub(crate) fn settings<V: AsRef<OsStr>>(keys: impl IntoIterator<Item = (&'static str, V)>) -> Vec<OsString> {
    let option = |(key, value): (&str, V)| {
        let mut setting = OsString::from(format!("{key}="));
        setting.push(value);
        [OsString::from("-c"), setting]
    };
    keys.into_iter().flat_map(option).collect()
}
