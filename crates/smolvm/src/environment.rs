//! How the program is run: where it is, what it is given of the environment, and how long it may take.

use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
    time::Duration,
};

/// The variables of the caller that smolvm gets. Not among them: `SMOLVM_*`, which changes what its options mean
/// (`SMOLVM_MACHINE_NAME` names the machine of a call), `SSH_AUTH_SOCK`, which it can forward into a machine,
/// and `XDG_*`, which outranks `HOME` as the place of its state.
const INHERITED: [&str; 3] = ["PATH", "TERM", "TMPDIR"];

/// How smolvm is run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The program.
    pub program: PathBuf,
    /// Where smolvm keeps machines, images and its database; absolute. It is created, for this user alone.
    /// Sockets lie deep below it, and their paths are limited: see [`Settings::MAX_STATE_DIR`].
    pub state_dir: PathBuf,
    /// What it gets of the caller's environment.
    pub environment: Environment,
    /// Whether the virtual machine keeps root's rights if root starts it (`SMOLVM_VM_UID_DROP=off`).
    pub keeps_uid: bool,
    /// How long calls may take.
    pub limits: Limits,
}

/// The part of the caller's environment that smolvm gets: `PATH`, `TERM` and `TMPDIR`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment(Vec<(OsString, OsString)>);

impl Environment {
    /// Takes what smolvm needs from all variables of the caller, [`std::env::vars_os`].
    pub fn of_caller(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let is_inherited = |name: &OsStr| INHERITED.iter().any(|inherited| name == *inherited);
        Self(variables.into_iter().filter(|(name, _)| is_inherited(name)).collect())
    }
}

/// How long calls may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of a call that needs no machine, and of what `stop` adds to its own timeout.
    pub call: Duration,
    /// Of `start`.
    pub start: Duration,
    /// Of copying one file.
    pub copy: Duration,
    /// For another call on the same machine to end.
    pub lock: Duration,
    /// Of one attempt to run `true` in a machine that is starting.
    pub probe: Duration,
}

/// How long smolvm may take for a call that only reads or writes its database.
const CALL_LIMIT: Duration = Duration::from_secs(60);

/// How long `start` may take: the agent of a machine has 30 s by smolvm itself, and the first start reads the
/// image before that.
const START_LIMIT: Duration = Duration::from_secs(300);

/// How long copying one file may take: smolvm copies at most 4 GiB, and archives of images of 8 GiB.
const COPY_LIMIT: Duration = Duration::from_secs(900);

/// How long a call waits for another one on the same machine: longer than any lifecycle call takes.
const LOCK_LIMIT: Duration = Duration::from_secs(400);

/// How long running `true` may take before the next attempt.
const PROBE_LIMIT: Duration = Duration::from_secs(15);

impl Default for Limits {
    fn default() -> Self {
        Self { call: CALL_LIMIT, start: START_LIMIT, copy: COPY_LIMIT, lock: LOCK_LIMIT, probe: PROBE_LIMIT }
    }
}

impl Settings {
    /// Most bytes of the state directory's path: 107 for a socket's (unix(7)) less those of
    /// `/.cache/smolvm/vms/0123456789abcdef/port-forward.sock`.
    pub const MAX_STATE_DIR: usize = 54;

    /// The whole environment of the program. `HOME` is the state directory, so that a smolvm without
    /// `--state-dir` keeps its state there too, and reads no configuration of the user.
    pub(crate) fn variables(&self) -> Vec<(OsString, OsString)> {
        let mut variables = self.environment.0.clone();
        variables.push(("HOME".into(), self.state_dir.clone().into()));
        if self.keeps_uid {
            variables.push(("SMOLVM_VM_UID_DROP".into(), "off".into()));
        }
        variables
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_smolvm_needs_is_inherited() {
        let variable = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
        let caller = [
            "PATH",
            "HOME",
            "SMOLVM_LIB_DIR",
            "SMOLVM_MACHINE_NAME",
            "SSH_AUTH_SOCK",
            "XDG_CACHE_HOME",
            "AWS_SECRET_ACCESS_KEY",
            "TERM",
        ];
        let mut settings = Settings {
            program: "/smolvm".into(),
            state_dir: "/state".into(),
            environment: Environment::of_caller(caller.map(|name| variable(name, "caller"))),
            keeps_uid: false,
            limits: Limits::default(),
        };
        let plain = [variable("PATH", "caller"), variable("TERM", "caller"), variable("HOME", "/state")];
        assert_eq!(settings.variables(), plain);
        settings.keeps_uid = true;
        let kept = [variable("SMOLVM_VM_UID_DROP", "off")];
        assert_eq!(settings.variables(), [&plain[..], &kept[..]].concat());
    }
}
