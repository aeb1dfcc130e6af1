//! Starts copies of this binary: the bottle's first process here, the gateway in [`crate::gateway_process`].

use std::{
    ffi::{CStr, CString},
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    },
    path::Path,
    time::Duration,
};

use bot_bottle_core::error::IoError;
use rustix::{
    fs::{Mode, OFlags, open},
    pipe::{PipeFlags, pipe_with},
    process::Pid,
};

use crate::{
    channel::Channel,
    host::user::HostUser,
    resource::{ProcessIdentity, Resource, Resources},
    sys::{self, Go},
};

use super::{
    cgroup::{self, Group},
    error::LaunchError,
    protocol::FromInit,
};

/// How long the gateway or the sandbox may take for one answer while the bottle starts.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Every namespace but that of time, which nothing here needs.
const NAMESPACES: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWCGROUP;

/// This program's file.
pub(crate) struct Executable {
    file: File,
    path: CString,
}

impl Executable {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, path: CString::new(path.as_os_str().as_bytes())? })
    }
}

/// A copy of this binary that is about to start.
pub(crate) struct ChildProgram<'a> {
    pub(crate) executable: &'a Executable,
    pub(crate) arguments: &'a [&'a CStr],
    /// `CLONE_NEW*` for the bottle's first process; 0 for a process of the host.
    pub(crate) namespaces: libc::c_int,
    pub(crate) control: BorrowedFd<'a>,
    pub(crate) log: &'a Path,
}

/// Starts a child that waits at its gate until `before_exec` has returned, so that it runs with its cgroups and
/// user map in place.
///
/// A process can be recorded only after clone(2) has told its number. That is done while the child waits: it has
/// executed nothing yet, and exits when the launcher dies and the gate closes. So no process runs unrecorded.
pub(crate) fn spawn(
    child: &ChildProgram<'_>,
    resources: &mut Resources,
    before_exec: impl FnOnce(Pid) -> io::Result<Go>,
) -> io::Result<OwnedFd> {
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(child.log)?;
    let (gate, opener) = pipe_with(PipeFlags::CLOEXEC)?;
    let is_sandbox = child.namespaces != 0;
    let (pid, process) = sys::spawn(&sys::Spawn {
        executable: child.executable.file.as_fd(),
        sealed: is_sandbox.then_some(&child.executable.path),
        arguments: child.arguments,
        namespaces: child.namespaces,
        become_root: is_sandbox,
        descriptors: [null.as_fd(), log.as_fd(), log.as_fd(), child.control],
        gate: gate.as_fd(),
        opener: opener.as_fd(),
    })?;
    let identity = ProcessIdentity::of(pid.as_raw_pid()).ok_or(io::ErrorKind::NotFound)?;
    resources.add(Resource::Process(identity))?;
    let go = before_exec(pid)?;
    rustix::io::write(&opener, &[go.byte()])?;
    Ok(process)
}

/// The bottle's first process.
pub(super) struct Sandbox {
    pub(super) channel: Channel,
    pub(super) process: OwnedFd,
}

impl Sandbox {
    /// Starts the bottle's first process, in namespaces of its own.
    pub(super) fn start(
        executable: &Executable,
        user: HostUser,
        groups: &[Group],
        log: &Path,
        resources: &mut Resources,
    ) -> io::Result<Self> {
        let (ours, theirs) = Channel::pair()?;
        ours.set_timeout(Some(ANSWER_TIMEOUT))?;
        let arguments = [c"bot-bottle", c"sandbox-init", c"3"];
        let control = theirs.as_fd();
        let child = ChildProgram { executable, arguments: &arguments, namespaces: NAMESPACES, control, log };
        let process = spawn(&child, resources, |pid| {
            groups.iter().try_for_each(|group| cgroup::fs::enter(group, pid))?;
            user.map(pid)
        })?;
        Ok(Self { channel: ours, process })
    }

    /// The next message, which has to come while the bottle starts.
    pub(super) fn expect(&self) -> Result<(FromInit, Vec<OwnedFd>), LaunchError> {
        let lost = |source| LaunchError::Sandbox(IoError::new("waiting for the first process", source));
        match self.channel.receive().map_err(lost)? {
            Some((FromInit::Failed { doing, errno: 0 }, _)) => {
                Err(LaunchError::Sandbox(IoError::new(doing, io::Error::other("unexpected"))))
            }
            Some((FromInit::Failed { doing, errno }, _)) => {
                Err(LaunchError::Sandbox(IoError::new(doing, io::Error::from_raw_os_error(errno))))
            }
            Some(message) => Ok(message),
            None => Err(lost(io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        path::PathBuf,
        thread,
        time::{Duration, Instant},
    };

    use super::*;

    /// Starts a child that writes a file when it runs.
    fn start(folder: &Path, resources: &mut Resources) -> (PathBuf, io::Result<OwnedFd>) {
        let executable = Executable::open(Path::new("/bin/sh")).expect("a shell");
        let marker = folder.join("ran");
        let script = CString::new(format!("echo ran > '{}'", marker.display())).expect("a path");
        let control = File::open("/dev/null").expect("opened");
        let child = ChildProgram {
            executable: &executable,
            arguments: &[c"sh", c"-c", &script],
            namespaces: 0,
            control: control.as_fd(),
            log: &folder.join("log"),
        };
        let spawned = spawn(&child, resources, |_| Ok(Go::On));
        (marker, spawned)
    }

    fn eventually(what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !holds() {
            assert!(Instant::now() < deadline, "not in time: {what}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_child_that_cannot_be_recorded_executes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut resources = Resources::new(folder.path());
        let (marker, spawned) = start(folder.path(), &mut resources);
        spawned.expect("started");
        eventually("a child that is recorded runs", || marker.exists());
        assert!(resources.release().is_empty());

        let folder = tempfile::tempdir().expect("a folder");
        let mut resources = Resources::new(&folder.path().join("missing"));
        let (marker, spawned) = start(folder.path(), &mut resources);
        spawned.expect_err("it cannot be recorded");
        eventually("the child ends", || resources.running().is_empty());
        assert!(!marker.exists());
    }
}
