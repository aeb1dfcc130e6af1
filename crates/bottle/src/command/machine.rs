//! The parts that this binary plays for the smolmachines backend: the process of the host in whose network smolvm runs,
//! and our programs in the machine.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::{
        fd::{OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use bot_bottle_core::{
    error::{IoContext, IoError},
    plan::{BOTTLE_ADDRESS, PROXY_PORT},
};
use bot_bottle_launch::smolmachines;
use bot_bottle_link::{ContainerOptions, LauncherOptions, LinkEnd, LocalKind, launcher_end};
use tokio::net::unix::pipe;

use super::container::{carry, link_status, runtime};
use crate::{exit::CommandError, ui::Ui};

mod forward;

/// The process of the host. To be called before anything else, as `sandbox-init` is.
pub(crate) fn host(control: RawFd, ui: &Ui) -> ExitCode {
    let held = |command, local| link_status(hold(command, local), "machine", ui);
    let status = smolmachines::host_side(control, held);
    exit_code(status)
}

/// Holds the launcher's end of the link to a machine, over the standard streams of a program in it.
fn hold(mut command: Command, local: OwnedFd) -> io::Result<LinkEnd> {
    // What it writes to its standard error is in the log of the launcher, which this one's is.
    let mut program = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let piped = || io::Error::other("it has no pipes");
    let stdin = OwnedFd::from(program.stdin.take().ok_or_else(piped)?);
    let stdout = OwnedFd::from(program.stdout.take().ok_or_else(piped)?);
    let local = UnixStream::from(local);
    local.set_nonblocking(true)?;
    let end = runtime()?.block_on(async {
        let stream =
            tokio::io::join(pipe::Receiver::from_owned_fd(stdout)?, pipe::Sender::from_owned_fd(stdin)?);
        let local = tokio::net::UnixStream::from_std(local)?;
        Ok::<_, io::Error>(launcher_end(stream, local, LauncherOptions::new(LocalKind::Messages)).await)
    });
    // Its streams are closed. What it still does nobody sees.
    let _ = program.kill();
    let _ = program.wait();
    end
}

/// Our first program in the machine that starts others. To be called before anything else.
pub(crate) fn init(ui: &Ui) -> Result<ExitCode, CommandError> {
    let carry = |local| carry(local, ContainerOptions::new(LocalKind::Messages), ui);
    let status = smolmachines::machine_init(carry, |listener| forward(listener, ui));
    let status =
        status.io_context(|| "making the bottle in its machine").map_err(CommandError::from_error)?;
    Ok(exit_code(status))
}

fn forward(listener: TcpListener, ui: &Ui) -> i32 {
    let to = SocketAddr::from((BOTTLE_ADDRESS, PROXY_PORT));
    let error = match runtime().map(|runtime| runtime.block_on(forward::forward(listener, to))) {
        Ok(Ok(never)) => match never {},
        Ok(Err(error)) | Err(error) => error,
    };
    ui.warn(&format!("carrying connections to the gateway: {error}"));
    1
}

/// The machine's workload.
pub(super) fn watch() -> Result<ExitCode, CommandError> {
    let watched = smolmachines::machine_watch().io_context(|| "switching the machine off");
    watched.map_err(CommandError::from_error)?;
    Ok(ExitCode::SUCCESS)
}

/// Unpacks the agent's files, as the agent's user.
pub(super) fn unpack() -> Result<ExitCode, CommandError> {
    let mut archive = tar::Archive::new(io::stdin().lock());
    archive.set_preserve_permissions(true);
    archive.set_overwrite(true);
    let unpacked = archive.unpack("/").map_err(|error| IoError::new("unpacking the agent's files", error));
    unpacked.map_err(CommandError::from_error)?;
    Ok(ExitCode::SUCCESS)
}

/// Says which time a file would get that is written now.
pub(super) fn clock(ui: &Ui) -> Result<ExitCode, CommandError> {
    let time = smolmachines::file_time(Path::new("/tmp")).io_context(|| "asking for the time of a file");
    let time = time.map_err(CommandError::from_error)?;
    ui.result(&(), |()| format!("[{},{}]", time.0, time.1));
    Ok(ExitCode::SUCCESS)
}

fn exit_code(status: i32) -> ExitCode {
    ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX))
}
