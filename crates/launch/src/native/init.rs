//! Makes a native bottle, in its first process.

use std::os::fd::{AsFd, OwnedFd, RawFd};

use bot_bottle_core::error::{IoContext, IoError};
use rustix::process::{DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal};

use crate::{
    channel::Channel,
    init::{
        self, Init, MemoryWatch,
        confine::{self, AgentUser},
        listen::{Listening, listen},
        protocol::FromInit,
        shares,
    },
    sys,
};

use super::{rootfs, spec::NativeSpec, usage};

/// Runs as the bottle's first process; `control` is the descriptor of the launcher's socket.
pub(super) fn run(control: RawFd) -> i32 {
    init::run(control, prepare)
}

/// Makes the bottle. The order is part of the confinement:
///
/// 1. The parent-death signal is set before anything that could block.
/// 2. Network, sockets and `/proc/sys` settings come while the host's `/proc` is mounted and writable.
/// 3. The trees of the host are opened before `pivot_root`, after which no path leads to them.
/// 4. Resource limits precede the agent's user namespace: the kernel copies them when it is made.
/// 5. The mount of `/proc` for counting memory needs CAP_SYS_ADMIN, so it precedes dropping capabilities.
/// 6. Dropping capabilities and becoming undumpable come last, and before any program of the bottle can run.
/// 7. The parent-death signal is set once more: a change of credentials can clear it, prctl(2).
fn prepare(channel: &Channel) -> Result<Init<'_>, IoError> {
    sys::reset_signals();
    set_parent_process_death_signal(Some(Signal::KILL)).io_context(|| "asking to end with the launcher")?;
    let (spec, trees) = channel.next::<NativeSpec>("reading the spec")?;
    let not_redirected = hand_over(channel, listen(&spec.network)?)?;
    // Through the host's /proc, which is still there: that of the bottle has its settings read-only.
    let unbounded = shares::apply(&spec.shares).join(", ");
    let trees = take_trees(&spec, trees)?;
    let mut notes = rootfs::build(&spec, &trees)?;
    notes.extend(not_redirected);
    if !unbounded.is_empty() {
        notes.push(format!("this kernel does not let a bottle have less than the host of: {unbounded}"));
    }
    drop(trees);
    rustix::system::sethostname(spec.hostname.as_bytes()).io_context(|| "naming the host")?;
    init::limit(&spec.confinement)?;
    let user_namespace =
        confine::agent_namespace(spec.confinement.user).io_context(|| "making the agent's user namespace")?;
    let memory = spec.memory_watch.map(watch).transpose();
    let memory = memory.io_context(|| "mounting the processes whose memory is watched")?;
    let signals = sys::signal_descriptor(&[Signal::CHILD]).io_context(|| "waiting for signals")?;
    confine::drop_capabilities().io_context(|| "giving up capabilities")?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).io_context(|| "closing its memory")?;
    set_parent_process_death_signal(Some(Signal::KILL)).io_context(|| "asking to end with the launcher")?;
    channel.send(&FromInit::Ready { notes }, &[]).io_context(|| "reporting")?;
    Ok(Init::new(channel, spec.confinement, AgentUser::In(user_namespace), memory, signals))
}

/// Sends the launcher the sockets that are for the gateway. Gives the note on what is not redirected.
fn hand_over(channel: &Channel, listening: Listening) -> Result<Option<String>, IoError> {
    let descriptors: Vec<_> = listening.sockets.iter().map(AsFd::as_fd).collect();
    channel
        .send(&FromInit::Listening { listeners: listening.kinds }, &descriptors)
        .io_context(|| "handing the listeners over")?;
    Ok(listening.note)
}

fn watch(limit: u64) -> rustix::io::Result<MemoryWatch> {
    let processes = usage::Processes::mount()?;
    Ok(MemoryWatch { limit, measure: Box::new(move || processes.memory()) })
}

/// Opens the trees of the host, unless the launcher has: it does where it is root, because the bottle's user
/// may not be able to walk to them.
fn take_trees(spec: &NativeSpec, taken: Vec<OwnedFd>) -> Result<Vec<OwnedFd>, IoError> {
    if !taken.is_empty() {
        return Ok(taken);
    }
    spec.trees.iter().map(rootfs::take_tree).collect()
}
