//! Makes a virtual machine a bottle: the first program of ours that runs in it beside [`super::watch`].
//!
//! It is root's, in the image's file system, and gives that up for good before any program of the image runs. Nothing
//! that the image brings has run by then but what smolvm's own agent is.

use std::{
    fs, io,
    net::TcpListener,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
};

use bot_bottle_core::{
    error::{IoContext, IoError},
    plan::PROXY_ADDRESS,
};
use rustix::{
    fs::{Gid, Uid, chown},
    process::{DumpableBehavior, Signal, geteuid, getpid, set_child_subreaper, set_dumpable_behavior},
};
use serde::{Deserialize, Serialize};

use crate::{
    channel::Channel,
    init::{
        self, Init,
        confine::{self, AgentUser},
        link_process::LinkProcess,
        protocol::FromInit,
        spec::Confinement,
        system_files::SystemFiles,
    },
    sys,
};

use super::names::LIFE_SOCKET;

/// The first message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MachineSetup {
    /// Folders that are the agent's, made where they are missing.
    pub(super) folders: Vec<PathBuf>,
    /// How each program is confined.
    pub(super) confinement: Confinement,
}

/// Runs as that program, with the process that holds the link beside it, and another one that `forward`s connections
/// to the proxy's address to the machine's network card. Returns its exit status.
///
/// # Errors
/// When a process cannot be made.
pub fn run(
    carry: impl FnOnce(io::Result<UnixStream>) -> i32,
    forward: impl FnOnce(TcpListener) -> i32,
) -> io::Result<i32> {
    let (link, control) = LinkProcess::start_in_machine(carry)?;
    let status = init::serve(&Channel::new(control.into()), |channel| prepare(channel, forward));
    // As the agent's user: all of its programs end, and nothing of root's. As root, before there is any, it would end the
    // process that still has to carry the reason. ESRCH: none runs.
    if !geteuid().is_root() {
        let _ = sys::kill_all();
    }
    link.finish();
    Ok(status)
}

/// Makes the bottle. Dropping capabilities and becoming undumpable come last. A change of the user makes a process
/// dumpable again, prctl(2), so it comes before.
fn prepare<'a>(channel: &'a Channel, forward: impl FnOnce(TcpListener) -> i32) -> Result<Init<'a>, IoError> {
    let (setup, _) = channel.next::<MachineSetup>("reading the setup")?;
    // Whose parent has ended would be smolvm's to reap, and would outlive this program.
    set_child_subreaper(Some(getpid())).io_context(|| "becoming the one who reaps")?;
    start_forwarding(forward)?;
    close_life_socket().io_context(|| format!("closing {LIFE_SOCKET} to the agent"))?;
    let (files, _) = channel.next::<SystemFiles>("reading the files")?;
    files.install(setup.confinement.user)?;
    for folder in &setup.folders {
        make_folder(folder, setup.confinement.user).io_context(|| format!("making {}", folder.display()))?;
    }
    init::limit(&setup.confinement)?;
    let signals = sys::signal_descriptor(&[Signal::CHILD]).io_context(|| "waiting for signals")?;
    confine::become_user(setup.confinement.user).io_context(|| "becoming the agent's user")?;
    confine::drop_capabilities().io_context(|| "giving up capabilities")?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).io_context(|| "closing its memory")?;
    channel.send(&FromInit::Ready { notes: Vec::new() }, &[]).io_context(|| "reporting")?;
    Ok(Init::new(channel, setup.confinement, AgentUser::Own, None, signals))
}

/// Programs that know the proxy connect to an address of the loopback device, as in every bottle.
fn start_forwarding(forward: impl FnOnce(TcpListener) -> i32) -> Result<(), IoError> {
    let listening = || format!("listening at {PROXY_ADDRESS}");
    let listener = TcpListener::bind(PROXY_ADDRESS).io_context(listening)?;
    let confined = || {
        confine::drop_capabilities()?;
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        Ok::<_, io::Error>(())
    };
    sys::fork(|| if confined().is_ok() { forward(listener) } else { 1 }).io_context(listening)?;
    Ok(())
}

/// The workload is connected to the launcher's socket. Nobody else is to be.
fn close_life_socket() -> io::Result<()> {
    let folder = Path::new(LIFE_SOCKET).parent().unwrap_or(Path::new(LIFE_SOCKET));
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
}

/// Makes a folder the agent's, with those above it root's.
fn make_folder(folder: &Path, user: u32) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    // Not through a link of the image's: it could lead to a folder of root's.
    let real = fs::canonicalize(folder)?;
    if real != folder {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the image has a link there"));
    }
    Ok(chown(folder, Some(Uid::from_raw(user)), Some(Gid::from_raw(user)))?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn a_folder_is_made_the_agents_and_not_through_a_link() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = fs::canonicalize(folder.path()).expect("its path");
        let own = rustix::process::geteuid().as_raw();
        make_folder(&root.join("home/agent"), own).expect("made");
        assert_eq!(fs::metadata(root.join("home/agent")).expect("there").uid(), own);
        make_folder(&root.join("home/agent"), own).expect("it is there already");
        symlink("/etc", root.join("linked")).expect("linked");
        make_folder(&root.join("linked"), own).expect_err("it leads elsewhere");
    }
}
