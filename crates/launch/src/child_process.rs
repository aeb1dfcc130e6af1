//! Starts copies of this binary: the gateway, and the first process of a native bottle.

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
    resource::{ProcessIdentity, Resource, Resources},
    sys::{self, Go},
};

/// How long the gateway or the sandbox may take for one answer while the bottle starts.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// This program's file.
#[derive(Debug)]
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

/// Starts a child that waits at its gate until `before_exec` has returned, so that it runs with its cgroups
/// and user map in place.
///
/// A process can be recorded only after clone(2) has told its number. That is done while the child waits: it
/// has executed nothing yet, and exits when the launcher dies and the gate closes. So no process runs
/// unrecorded.
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
