//! The gateway's process, as the launcher sees it: started first, handed its listeners and secrets, then
//! waited for.

use std::{
    ffi::CString,
    fs,
    io::{self, BufRead, BufReader, Read},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStringExt, net::UnixStream},
    },
    path::{Path, PathBuf},
};

use bot_bottle_core::{
    error::IoContext,
    gateway_config::{GatewayReady, GatewayStart},
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{
    backend::{Gateway, GatewayListeners},
    channel::Channel,
    child_process::{ANSWER_TIMEOUT, ChildProgram, spawn},
    error::LaunchError,
    resource::Resources,
    steps::allocate::Run,
    sys::Go,
};

/// How long a gateway that has closed its control socket may take to end.
const EXIT_TIMEOUT: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// Longest answer of the gateway, in bytes.
const MAX_READY_BYTES: u64 = 256 << 10;

/// How much of the end of a log is shown when its process failed, in bytes.
const LOG_TAIL_BYTES: usize = 2000;

/// The gateway's process.
pub(crate) struct GatewayProcess {
    control: UnixStream,
    channel: Channel,
    process: OwnedFd,
    log: PathBuf,
}

impl GatewayProcess {
    pub(crate) fn start(run: &Run, resources: &mut Resources) -> Result<Self, LaunchError> {
        let log = run.path("gateway.log");
        let mut start = || {
            let (control, theirs) = UnixStream::pair()?;
            let config = CString::new(run.gateway_config().into_os_string().into_vec())?;
            let child = ChildProgram {
                executable: &run.executable,
                arguments: &[c"bot-bottle", c"gateway", c"--control-fd", c"3", c"--config", &config],
                namespaces: 0,
                control: theirs.as_fd(),
                log: &log,
            };
            let process = spawn(&child, resources, |_| Ok(Go::On))?;
            control.set_read_timeout(Some(ANSWER_TIMEOUT))?;
            control.set_write_timeout(Some(ANSWER_TIMEOUT))?;
            Ok((Channel::new(control.try_clone()?.into()), control, process))
        };
        let started: io::Result<_> = start();
        let (channel, control, process) = started.io_context(|| "starting the gateway")?;
        Ok(Self { control, channel, process, log })
    }
}

impl Gateway for GatewayProcess {
    fn hand_over(&self, mut start: GatewayStart, listeners: GatewayListeners) -> io::Result<()> {
        let (kinds, sockets) = listeners.into_sockets()?;
        start.listeners = kinds;
        let descriptors: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
        self.channel.send(&start, &descriptors)
    }

    fn ready(&self) -> Result<GatewayReady, LaunchError> {
        let mut line = String::new();
        let read = BufReader::new((&self.control).take(MAX_READY_BYTES)).read_line(&mut line);
        let failed = |why: String| LaunchError::Gateway { why };
        match read {
            Ok(_) if line.ends_with('\n') => serde_json::from_str(&line)
                .map_err(|error| failed(format!("its answer is unreadable: {error}"))),
            // The socket closes before the process has written its error to the log.
            Ok(_) => {
                let _ = poll(&mut [PollFd::new(&self.process, PollFlags::IN)], Some(&EXIT_TIMEOUT));
                Err(failed(self.log_tail()))
            }
            Err(error) => Err(failed(format!("no answer ({error})"))),
        }
    }

    fn process(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }

    fn log_tail(&self) -> String {
        tail(&self.log)
    }
}

/// The end of a log, or a sentence that says that it is empty.
fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(LOG_TAIL_BYTES)..]).trim().to_owned();
    if text.is_empty() { "it ended without a word".to_owned() } else { text }
}
