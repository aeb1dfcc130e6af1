//! The gateway's process, as the launcher sees it: started first, handed its listeners and secrets, then
//! waited for.

use std::{
    ffi::CString,
    fs,
    io::{self, BufRead, BufReader, Read},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStrExt, net::UnixStream},
    },
    path::Path,
};

use bot_bottle_core::gateway_config::{GatewayReady, GatewayStart};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{
    channel::Channel,
    native::{
        LaunchError,
        spawn::{ANSWER_TIMEOUT, ChildProgram, Executable, spawn},
    },
    resource::Resources,
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
    pub(crate) process: OwnedFd,
}

impl GatewayProcess {
    /// Starts the gateway, which gets its listeners and secrets later.
    pub(crate) fn start(
        executable: &Executable,
        config: &Path,
        log: &Path,
        resources: &mut Resources,
    ) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let config = CString::new(config.as_os_str().as_bytes())?;
        let arguments = [c"bot-bottle", c"gateway", c"--control-fd", c"3", c"--config", &config];
        let child =
            ChildProgram { executable, arguments: &arguments, namespaces: 0, control: theirs.as_fd(), log };
        let process = spawn(&child, resources, |_| Ok(Go::On))?;
        ours.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        ours.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(Self { channel: Channel::new(ours.try_clone()?.into()), control: ours, process })
    }

    /// Hands over the secrets, and the sockets where the gateway listens.
    pub(crate) fn hand_over(&self, start: &GatewayStart, listeners: &[OwnedFd]) -> io::Result<()> {
        let descriptors: Vec<_> = listeners.iter().map(AsFd::as_fd).collect();
        self.channel.send(start, &descriptors)
    }

    /// Waits until the gateway serves.
    pub(crate) fn ready(&self, log: &Path) -> Result<GatewayReady, LaunchError> {
        let mut line = String::new();
        let read = BufReader::new((&self.control).take(MAX_READY_BYTES)).read_line(&mut line);
        let failed = |why: String| LaunchError::Gateway { why };
        match read {
            Ok(_) if line.ends_with('\n') => serde_json::from_str(&line)
                .map_err(|error| failed(format!("its answer is unreadable: {error}"))),
            // The socket closes before the process has written its error to the log.
            Ok(_) => {
                let _ = poll(&mut [PollFd::new(&self.process, PollFlags::IN)], Some(&EXIT_TIMEOUT));
                Err(failed(tail(log)))
            }
            Err(error) => Err(failed(format!("no answer ({error})"))),
        }
    }
}

/// The end of a log, or a sentence that says that it is empty.
pub(crate) fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(LOG_TAIL_BYTES)..]).trim().to_owned();
    if text.is_empty() { "it ended without a word".to_owned() } else { text }
}
