//! The first process of a container, and the process beside it that holds the link to the launcher.
//!
//! The link is the container's standard input and output. A process of its own carries it, so that the first one
//! has a local socket to the launcher and one thread, as that of a native bottle. It stays root without any
//! capability: the agent's user can neither signal nor trace it.

use std::{
    collections::BTreeSet,
    ffi::{CString, OsString},
    io,
    net::SocketAddr,
    os::{
        fd::AsFd,
        unix::{ffi::OsStringExt, net::UnixStream},
    },
    path::PathBuf,
    time::{Duration, Instant},
};

use bot_bottle_core::limits::ByteSize;
use bot_bottle_engine::EngineAddress;

use rustix::{
    fs::{Mode, OFlags, open},
    process::{
        DumpableBehavior, Pid, Signal, WaitOptions, getpid, kill_process, set_dumpable_behavior, waitpid,
    },
    stdio::{dup2_stdin, dup2_stdout},
    thread::{capabilities, set_no_new_privs},
};

use crate::{init::confine::drop_capabilities, sys};

/// How long the link may take to carry the rest once the first process has nothing more to say.
const LINK_TIMEOUT: Duration = Duration::from_secs(10);

/// How often it is looked whether the link has ended.
const LINK_PAUSE: Duration = Duration::from_millis(5);

/// The process on the host that holds the link to a container: `bot-bottle container-link`. It attaches to the
/// container, starts it, and ends with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkCommand {
    /// Whose container.
    pub engine: EngineAddress,
    /// Its name.
    pub container: String,
    /// What its local socket carries.
    pub carries: Carries,
    /// Where receipts go, and the bytes that they may take.
    pub receipts: Option<(PathBuf, Option<ByteSize>)>,
    /// Addresses of the host's loopback that the container may have dialled.
    pub dials: BTreeSet<SocketAddr>,
}

/// What the local socket of a link carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carries {
    /// Messages with descriptors, for the first process of a sandbox.
    Messages,
    /// A stream of bytes, for a gateway.
    Bytes,
}

impl LinkCommand {
    /// The command line, whose control socket is descriptor 3.
    pub(crate) fn arguments(&self) -> io::Result<Vec<CString>> {
        let carries = match self.carries {
            Carries::Messages => "messages",
            Carries::Bytes => "bytes",
        };
        let mut arguments: Vec<OsString> = vec![
            "bot-bottle".into(),
            "container-link".into(),
            "--control-fd=3".into(),
            format!("--engine={}", self.engine).into(),
            format!("--container={}", self.container).into(),
            format!("--carries={carries}").into(),
        ];
        if let Some((path, bytes)) = &self.receipts {
            arguments.extend(["--receipts".into(), path.clone().into_os_string()]);
            arguments.extend(bytes.map(|bytes| format!("--receipts-bytes={}", bytes.0).into()));
        }
        arguments.extend(self.dials.iter().map(|address| format!("--dial={address}").into()));
        arguments.into_iter().map(|text| Ok(CString::new(text.into_vec())?)).collect()
    }
}

/// The process that holds the link, as the first process of a container sees it.
#[derive(Debug)]
pub struct Link {
    process: Pid,
}

impl Link {
    /// Starts it, and gives this process's end of its local socket. `carry` gets the other end, or why it cannot be
    /// held safely, and its result is the exit status of that process; it has the container's standard input and
    /// output, and this process has them no longer.
    ///
    /// # Errors
    /// When this is not the first process of a pid namespace, or no process can be made.
    pub fn start(carry: impl FnOnce(io::Result<UnixStream>) -> i32) -> io::Result<(Self, UnixStream)> {
        // What follows ends every process that it can.
        if getpid() != Pid::INIT {
            let why = "this is what the first process of a container runs, and nothing else";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        sys::reset_signals();
        let (ours, theirs) = UnixStream::pair()?;
        let process = sys::fork(|| carry(close().map(|()| theirs)))?;
        let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        dup2_stdin(null.as_fd())?;
        dup2_stdout(null.as_fd())?;
        Ok((Self { process }, ours))
    }

    /// Waits until it has carried everything. To be called when the local socket is closed.
    pub fn finish(self) {
        let deadline = Instant::now() + LINK_TIMEOUT;
        while matches!(waitpid(Some(self.process), WaitOptions::NOHANG), Ok(None)) {
            if Instant::now() >= deadline {
                // ESRCH: it has ended already.
                let _ = kill_process(self.process, Signal::KILL);
            }
            std::thread::sleep(LINK_PAUSE);
        }
    }
}

/// Takes every privilege from this process.
fn close() -> io::Result<()> {
    // Without any, the bounding set cannot be emptied, and nothing could be gained by it: the engine has set
    // `no_new_privs`.
    if !capabilities(None)?.permitted.is_empty() {
        drop_capabilities()?;
    }
    set_no_new_privs(true)?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}
