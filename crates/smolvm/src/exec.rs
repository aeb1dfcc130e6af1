//! Programs in a machine.

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf, time::Duration};

use crate::{
    SmolvmError, User,
    spec::{guest_path, key_of_pair},
};

/// A program that is to run in a machine. smolvm writes its arguments into a log: nothing secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecSpec {
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// Whether it reads what is written to standard input.
    pub interactive: bool,
    /// Whether it gets a pseudo-terminal.
    pub tty: bool,
    /// Whether its output comes while it runs, and not at its end. A terminal's always does.
    pub stream: bool,
    /// After which it is killed, rounded up to seconds; the exit code is 124 then.
    pub timeout: Option<Duration>,
    /// The folder that it starts in; absolute. The machine's if `None`.
    pub workdir: Option<PathBuf>,
    /// Its user; the machine's if `None`.
    pub user: Option<User>,
    /// Added to the machine's environment.
    pub env: BTreeMap<String, String>,
}

impl ExecSpec {
    /// A program without input.
    pub fn new(command: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self { command: command.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Refuses what smolvm would understand as something else.
    pub(crate) fn check(&self) -> Result<(), SmolvmError> {
        if self.command.first().is_none_or(|program| program.is_empty()) {
            return Err(SmolvmError::invalid("a command", "", "it is empty"));
        }
        if let Some(workdir) = &self.workdir {
            guest_path("the working directory", workdir)?;
        }
        self.env.keys().try_for_each(|key| key_of_pair("a variable", key))
    }
}
