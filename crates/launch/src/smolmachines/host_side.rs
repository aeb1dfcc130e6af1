//! The process on the host in whose network smolvm runs.
//!
//! It has a user namespace and a network namespace of its own. The network has a loopback device alone, with the
//! sockets that the gateway serves: the interceptor's, and those for DNS, because smolvm sends every question of its
//! guest to its name server by itself, past the interceptor. A smolvm without interceptor connects by itself to where
//! its guest wants to go: that is this namespace too, whatever the address, and such connections are redirected to the
//! gateway as those of a native bottle are. The sockets' descriptors go to the launcher. Then smolvm starts the machine in
//! here, and this process holds the link to the first program of ours in it: the standard streams of `smolvm machine
//! exec`.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    os::fd::{AsFd, OwnedFd, RawFd},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use bot_bottle_core::{
    error::{Hint, IoContext, IoError},
    gateway_config::{InterceptorToken, ListenerKind},
    plan::BOTTLE_ADDRESS,
};
use bot_bottle_smolvm::{EgressControl, ExecSpec, Interceptor, MachineName};
use rustix::process::{getegid, geteuid};
use serde::{Deserialize, Serialize};

use crate::{
    channel::Channel,
    error::LaunchError,
    init::{
        self,
        listen::Listening,
        network,
        spec::{NAME_SERVER, NetworkSpec},
    },
    sys,
};

use super::names::PROGRAM;

/// How long the image's file system may take to be there once smolvm says that the machine runs.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// What it is told first. The launcher's socket to the machine's first program of ours comes along.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct HostSetup {
    /// smolvm's program.
    pub(super) program: PathBuf,
    /// Where it keeps the machine.
    pub(super) state_dir: PathBuf,
    /// The machine, which exists.
    pub(super) machine: String,
}

/// What it is told once the gateway serves its sockets.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StartMachine {
    /// What the connections of smolvm's interceptor begin with.
    pub(super) token: InterceptorToken,
}

/// What it says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromHostSide {
    /// It listens; the sockets come along.
    Listening {
        /// What each of them is for.
        kinds: Vec<ListenerKind>,
        /// Which connections do not reach the gateway, and nothing else either.
        note: Option<String>,
    },
    /// The machine runs, and a program can be started in it: the link is up.
    Started,
    /// It does not.
    Failed {
        /// Why.
        why: String,
        /// What to do.
        hint: Option<String>,
    },
}

/// Runs as that process; `control` is the descriptor of the launcher's socket. `carry` gets the command whose standard
/// input and output are the link to the machine, and the launcher's socket for it, and returns when the link has
/// ended. Returns the exit status of the process.
pub fn run(control: RawFd, carry: impl FnOnce(Command, OwnedFd) -> i32) -> i32 {
    let channel = Channel::new(sys::take_control(control));
    match serve(&channel) {
        Ok((command, link)) => match channel.send(&FromHostSide::Started, &[]) {
            Ok(()) => carry(command, link),
            // The launcher has ended.
            Err(_) => 1,
        },
        Err(error) => {
            let hint = error.hint().map(|hint| hint.into_owned());
            // Fails only if the launcher has ended.
            let _ = channel.send(&FromHostSide::Failed { why: error.to_string(), hint }, &[]);
            1
        }
    }
}

fn serve(channel: &Channel) -> Result<(Command, OwnedFd), LaunchError> {
    let (setup, mut link) = channel.next::<HostSetup>("reading which machine to start")?;
    let link = link.pop().ok_or_else(|| IoError::new("taking the link", io::ErrorKind::InvalidData))?;
    enter_namespaces().io_context(|| "making a network for smolvm")?;
    let smolvm = super::open(&setup.program, setup.state_dir)?;
    // Whatever address smolvm connects to is this namespace's own, and nobody listens there but the gateway.
    let (interceptor, listening) = match smolvm.version().egress_control() {
        EgressControl::Interceptor => {
            let (address, listening) = listen().io_context(|| "listening for the machine's connections")?;
            (Some(address), listening)
        }
        EgressControl::AllowList => (None, init::listen::listen(&NetworkSpec::of_machine())?),
    };
    let Listening { kinds, sockets, note } = listening;
    let descriptors: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
    channel
        .send(&FromHostSide::Listening { kinds, note }, &descriptors)
        .io_context(|| "handing the listeners over")?;
    let (StartMachine { token }, _) = channel.next("waiting for the gateway")?;
    drop(sockets);
    let machine = MachineName::new(setup.machine)?;
    let interceptor = interceptor.map(|address| Interceptor::new(address, token)).transpose()?;
    smolvm.start(&machine, interceptor.as_ref())?;
    // This binary: the image need not have any program, and its `PATH` may be anything.
    smolvm.wait_until_ready(&machine, &ExecSpec::new([PROGRAM, "--version"]), READY_TIMEOUT)?;
    // Interactive: smolvm collects the output of others, or cuts it off after 11 MiB.
    let init = ExecSpec { interactive: true, ..ExecSpec::new([PROGRAM, "machine-init"]) };
    Ok((smolvm.exec(&machine, &init)?, link))
}

/// Makes a user namespace, in which this user has the same number, and a network namespace of it. What this process
/// starts is this user without any capability, unless that is root: execve(2).
fn enter_namespaces() -> io::Result<()> {
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    sys::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET)?;
    // Without it no group can be mapped, user_namespaces(7). The process keeps those that it has: that of /dev/kvm is
    // one of them.
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{user} {user} 1\n"))?;
    fs::write("/proc/self/gid_map", format!("{group} {group} 1\n"))
}

/// Brings the namespace's network up. Returns the interceptor's address, and all sockets.
fn listen() -> io::Result<(SocketAddr, Listening)> {
    network::bring_up(BOTTLE_ADDRESS)?;
    let interceptor = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = interceptor.local_addr()?;
    let questions = UdpSocket::bind(NAME_SERVER)?;
    let long_questions = TcpListener::bind(NAME_SERVER)?;
    let kinds = vec![ListenerKind::Interceptor, ListenerKind::DnsUdp, ListenerKind::DnsTcp];
    let sockets = vec![interceptor.into(), questions.into(), long_questions.into()];
    Ok((address, Listening { kinds, sockets, note: None }))
}
