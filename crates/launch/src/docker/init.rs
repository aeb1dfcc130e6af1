//! Makes the agent's container a bottle, in its first process.
//!
//! The engine gives this process four capabilities, and no program of the image has run when it gives them up:
//! CAP_NET_ADMIN for the network's address, route and redirection, CAP_SETUID and CAP_SETGID to become the
//! agent's user, CAP_SETPCAP to empty the bounding set.

use std::{io, os::unix::net::UnixStream};

use bot_bottle_core::error::{IoContext, IoError};
use rustix::process::{DumpableBehavior, Signal, set_dumpable_behavior};

use crate::{
    channel::Channel,
    init::{
        self, Init,
        confine::{self, AgentUser},
        link_process::LinkProcess,
        listen::listen,
        protocol::FromInit,
        system_files::SystemFiles,
    },
    sys,
};

use super::{hand_over, setup::ContainerSetup};

/// Runs as the first process of an agent's container, with the process that holds the link beside it. Returns its
/// exit status.
///
/// # Errors
/// When this is not the first process of a container.
pub fn run(carry: impl FnOnce(io::Result<UnixStream>) -> i32) -> io::Result<i32> {
    let (link, control) = LinkProcess::start(carry)?;
    let status = init::serve(&Channel::new(control.into()), prepare);
    link.finish();
    Ok(status)
}

/// Makes the bottle. The order is part of the confinement:
///
/// 1. The sockets are made, and handed over, before any program of the image can run.
/// 2. The files of root's are written while this process is root; it needs no capability for that.
/// 3. Dropping capabilities and becoming undumpable come last. A change of the user makes a process dumpable
///    again, prctl(2), so it comes before.
fn prepare(channel: &Channel) -> Result<Init<'_>, IoError> {
    let (setup, _) = channel.next::<ContainerSetup>("reading the setup")?;
    let listening = listen(&setup.network)?;
    if let Some(folder) = &setup.hand_over {
        hand_over::send(folder, &listening.kinds, &listening.sockets)?;
    }
    drop(listening.sockets);
    channel
        .send(&FromInit::Listening { listeners: listening.kinds }, &[])
        .io_context(|| "saying that it listens")?;
    let (files, _) = channel.next::<SystemFiles>("reading the files")?;
    files.install(setup.confinement.user)?;
    init::limit(&setup.confinement)?;
    let signals = sys::signal_descriptor(&[Signal::CHILD]).io_context(|| "waiting for signals")?;
    confine::become_user(setup.confinement.user).io_context(|| "becoming the agent's user")?;
    confine::drop_capabilities().io_context(|| "giving up capabilities")?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).io_context(|| "closing its memory")?;
    channel
        .send(&FromInit::Ready { notes: listening.note.into_iter().collect() }, &[])
        .io_context(|| "reporting")?;
    Ok(Init::new(channel, setup.confinement, AgentUser::Own, None, signals))
}
