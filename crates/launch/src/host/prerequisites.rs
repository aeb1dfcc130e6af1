//! What a native bottle needs from the host, found out by trying it.

use std::{borrow::Cow, fs, io, path::Path};

use bot_bottle_core::error::Hint;
use rustix::process::{WaitOptions, waitpid};
use serde::Serialize;
use thiserror::Error;

use crate::sys;

/// Something that a bottle needs from the host and that the host lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Error)]
#[error("{problem}")]
pub struct Prerequisite {
    /// One sentence.
    pub problem: String,
    /// The command that mends it.
    pub remedy: String,
}

impl Prerequisite {
    /// What an error of a backend that is not there says; `remedy` if it gives no advice itself.
    pub(crate) fn of(error: &impl Hint, remedy: &str) -> Self {
        let remedy = error.hint().map_or_else(|| remedy.to_owned(), Cow::into_owned);
        Self { problem: error.to_string(), remedy }
    }
}

impl Hint for Prerequisite {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some((&self.remedy).into())
    }
}

/// What a native bottle needs from the host and does not get.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct HostReport {
    /// Prerequisites without which no bottle starts here.
    pub missing: Vec<Prerequisite>,
    /// What the host could not give and that a bottle does without, one sentence each.
    pub notes: Vec<String>,
}

/// Switches of the kernel that say why there are no user namespaces.
#[derive(Debug, Default)]
struct Switches {
    clone: Option<String>,
    most: Option<String>,
    apparmor: Option<String>,
}

impl Switches {
    fn read() -> Self {
        let read = |name: &str| {
            fs::read_to_string(Path::new("/proc/sys").join(name)).ok().map(|text| text.trim().to_owned())
        };
        Self {
            clone: read("kernel/unprivileged_userns_clone"),
            most: read("user/max_user_namespaces"),
            apparmor: read("kernel/apparmor_restrict_unprivileged_userns"),
        }
    }

    /// Why a user namespace could not be made.
    fn explain(&self, error: &io::Error) -> Prerequisite {
        let says = |value: &Option<String>, expected: &str| value.as_deref() == Some(expected);
        let (problem, remedy) = if says(&self.most, "0") {
            (
                "user namespaces are switched off: user.max_user_namespaces is 0",
                "sudo sysctl -w user.max_user_namespaces=15000",
            )
        } else if says(&self.clone, "0") {
            (
                "user namespaces are switched off for users: kernel.unprivileged_userns_clone is 0",
                "sudo sysctl -w kernel.unprivileged_userns_clone=1",
            )
        } else if says(&self.apparmor, "1") {
            (
                "AppArmor keeps this program from using user namespaces: \
                 kernel.apparmor_restrict_unprivileged_userns is 1",
                "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
            )
        } else {
            return Prerequisite {
                problem: format!("the kernel gives no user namespace: {error}"),
                remedy:
                    "inside a container, allow it user namespaces; or choose another backend with `--backend`"
                        .to_owned(),
            };
        };
        Prerequisite { problem: problem.to_owned(), remedy: remedy.to_owned() }
    }
}

/// The prerequisite whose lack explains that clone(2) with new namespaces failed; `None` for any other
/// reason.
pub(crate) fn explain(error: &io::Error) -> Option<Prerequisite> {
    let errnos = [libc::EPERM, libc::ENOSPC, libc::EINVAL, libc::EUSERS, libc::EACCES];
    error.raw_os_error().is_some_and(|errno| errnos.contains(&errno)).then(|| Switches::read().explain(error))
}

/// Looks at the host. Starts processes for a moment; to be called while this process has one thread.
#[must_use]
pub fn check() -> HostReport {
    let mut report = HostReport::default();
    if let Err(error) = try_user_namespace() {
        report.missing.push(Switches::read().explain(&error));
    }
    if fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").is_err() {
        report.missing.push(Prerequisite {
            problem: "the kernel has no seccomp filters".to_owned(),
            remedy: "boot a kernel with CONFIG_SECCOMP_FILTER=y, or choose another backend with `--backend`"
                .to_owned(),
        });
    }
    if !fs::read_to_string("/proc/filesystems")
        .is_ok_and(|text| text.lines().any(|line| line.ends_with("\toverlay")))
    {
        report.notes.push(
            "the kernel has no overlay file system loaded: folders of the host are bound instead, if no \
             service listens there (`sudo modprobe overlay` loads it)"
                .to_owned(),
        );
    }
    report
}

/// Makes a user namespace and changes a mount in it: AppArmor may allow the first and deny the second.
fn try_user_namespace() -> io::Result<()> {
    let child = sys::fork(|| {
        let tried =
            sys::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWNET).and_then(|()| {
                let flags =
                    rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
                rustix::mount::mount_change("/", flags).map_err(io::Error::from)
            });
        tried.err().map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO))
    })?;
    match waitpid(Some(child), WaitOptions::empty())?.and_then(|(_, status)| status.exit_status()) {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(errno)),
        None => Err(io::ErrorKind::Interrupted.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_switch_has_its_command() {
        let denied = io::Error::from_raw_os_error(libc::EPERM);
        let text = |text: &str| Some(text.to_owned());
        for (switches, remedy) in [
            (
                Switches { most: text("0"), ..Switches::default() },
                "sudo sysctl -w user.max_user_namespaces=15000",
            ),
            (
                Switches { clone: text("0"), ..Switches::default() },
                "sudo sysctl -w kernel.unprivileged_userns_clone=1",
            ),
            (
                Switches { apparmor: text("1"), most: text("9000"), ..Switches::default() },
                "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
            ),
        ] {
            assert_eq!(switches.explain(&denied).remedy, remedy);
        }
        assert!(Switches::default().explain(&denied).problem.contains("not permitted"));
    }
}
