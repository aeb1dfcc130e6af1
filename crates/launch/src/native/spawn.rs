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

use rustix::{
    fs::{Mode, OFlags, open},
    pipe::{PipeFlags, pipe_with},
    process::Pid,
};

use crate::{
    channel::Channel,
    host::user::HostUser,
    sys::{self, Go},
};

use super::{
    cgroup::{self, Group},
    error::LaunchError,
    protocol::FromInit,
    undo::{Undo, UndoStack},
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

/// Starts a child that waits until `before_exec` has returned, so that it runs with its cgroups and user map
/// in place. Its undo is registered before that; should the launcher die in between, the child's gate closes
/// and it exits.
pub(crate) fn spawn(
    child: &ChildProgram<'_>,
    undo: &mut UndoStack,
    before_exec: impl FnOnce(Pid) -> io::Result<Go>,
) -> io::Result<(Pid, OwnedFd)> {
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
    undo.push(Undo::Process(pid, process.try_clone()?));
    let go = before_exec(pid)?;
    rustix::io::write(&opener, &[go.byte()])?;
    Ok((pid, process))
}

/// The bottle's first process.
pub(super) struct Sandbox {
    pub(super) channel: Channel,
    pub(super) process: OwnedFd,
    pub(super) pid: Pid,
}

impl Sandbox {
    /// Starts the bottle's first process, in namespaces of its own.
    pub(super) fn start(
        executable: &Executable,
        user: HostUser,
        groups: &[Group],
        log: &Path,
        undo: &mut UndoStack,
    ) -> io::Result<Self> {
        let (ours, theirs) = Channel::pair()?;
        ours.set_timeout(Some(ANSWER_TIMEOUT))?;
        let arguments = [c"bot-bottle", c"sandbox-init", c"3"];
        let control = theirs.as_fd();
        let child = ChildProgram { executable, arguments: &arguments, namespaces: NAMESPACES, control, log };
        let (pid, process) = spawn(&child, undo, |pid| {
            groups.iter().try_for_each(|group| cgroup::fs::enter(group, pid))?;
            user.map(pid)
        })?;
        Ok(Self { channel: ours, process, pid })
    }

    /// The next message, which has to come while the bottle starts.
    pub(super) fn expect(&self) -> Result<(FromInit, Vec<OwnedFd>), LaunchError> {
        let lost =
            |source| LaunchError::Sandbox { doing: "waiting for the first process".to_owned(), source };
        match self.channel.receive().map_err(lost)? {
            Some((FromInit::Failed { doing, errno: 0 }, _)) => {
                Err(LaunchError::Sandbox { doing, source: io::Error::other("unexpected") })
            }
            Some((FromInit::Failed { doing, errno }, _)) => {
                Err(LaunchError::Sandbox { doing, source: io::Error::from_raw_os_error(errno) })
            }
            Some(message) => Ok(message),
            None => Err(lost(io::ErrorKind::UnexpectedEof.into())),
        }
    }
}
