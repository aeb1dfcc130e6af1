//! The machine's workload: switches it off when the launcher is gone.
//!
//! The launcher listens at a socket that smolvm offers in the machine, and accepts one connection: it is open as long as
//! the launcher lives, and ends with it, however it ends. This process is root's; the agent can neither
//! signal nor trace it.

use std::{
    fs, io,
    io::Read,
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use rustix::fs::sync;

use super::names::LIFE_SOCKET;

/// How long the socket may take to be there once this process runs.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// How long to wait before the next attempt.
const CONNECT_PAUSE: Duration = Duration::from_millis(50);

/// How long the kernel may take to switch the machine off.
const OFF_LIMIT: Duration = Duration::from_secs(5);

/// Runs as the machine's workload, and never returns in a machine that can be switched off.
///
/// # Errors
/// When the machine is still on.
pub fn run() -> io::Result<()> {
    if let Ok(mut launcher) = connect() {
        // Nothing is ever sent: any answer is its end.
        let _ = launcher.read(&mut [0; 1]);
    }
    switch_off()
}

fn connect() -> io::Result<UnixStream> {
    let deadline = Instant::now() + CONNECT_LIMIT;
    loop {
        match UnixStream::connect(LIFE_SOCKET) {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => thread::sleep(CONNECT_PAUSE),
        }
    }
}

/// Writes what is in memory to the disks, makes them read-only, and switches the machine off. Not by reboot(2): in a
/// pid namespace other than the machine's own that ends the namespace alone.
fn switch_off() -> io::Result<()> {
    sync();
    // Linux, Documentation/admin-guide/sysrq.rst: `u` remounts read-only, `o` shuts off.
    for key in ["u", "o"] {
        fs::write("/proc/sysrq-trigger", key)?;
    }
    thread::sleep(OFF_LIMIT);
    Err(io::Error::new(io::ErrorKind::TimedOut, "the machine is still on"))
}
