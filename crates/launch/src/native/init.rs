//! The bottle's first process: makes the bottle, then starts and reaps programs until the launcher is gone.
//!
//! It has one thread, an empty environment and no secret. Making the bottle needs the capabilities of its
//! user namespace; it drops them before the first program starts.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket},
    os::fd::{AsFd, OwnedFd, RawFd},
    time::{Duration, Instant},
};

use bot_bottle_core::{
    error::{IoContext, IoError},
    gateway_config::ListenerKind,
};
use libc::sock_filter;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{
        DumpableBehavior, Pid, Resource, Signal, WaitOptions, kill_process, kill_process_group,
        set_dumpable_behavior, set_parent_process_death_signal, wait,
    },
};

use crate::{backend::SessionId, channel::Channel, host::shares::CORE_BYTES, request::ProgramStatus, sys};

use super::{
    confine, exec, network,
    protocol::{FromInit, ToInit},
    redirect, rootfs, seccomp,
    shares::{self, lower},
    spec::{Confinement, ListenSocket, NativeSpec, Redirect},
    usage,
};

/// How often memory is measured where no cgroup counts it.
const MEMORY_INTERVAL: Duration = Duration::from_millis(500);

/// How many children are reaped before messages of the launcher are read again.
const MAX_REAPED: usize = 256;

/// Runs as the bottle's first process; `control` is the descriptor of the launcher's socket.
pub(super) fn run(control: RawFd) -> i32 {
    let channel = Channel::new(sys::take_control(control));
    match prepare(&channel) {
        Ok(init) => init.serve(),
        Err(failure) => {
            let errno = failure.source.raw_os_error().unwrap_or(0);
            let doing = if errno == 0 { failure.to_string() } else { failure.context };
            // Fails only if the launcher has ended, and this process ends next in any case.
            let _ = channel.send(&FromInit::Failed { doing, errno }, &[]);
            1
        }
    }
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
    let (message, trees) = channel
        .receive::<ToInit>()
        .io_context(|| "reading the spec")?
        .ok_or_else(|| IoError::new("reading the spec", io::ErrorKind::UnexpectedEof))?;
    let ToInit::Setup(spec) = message else {
        return Err(IoError::new("reading the spec", io::ErrorKind::InvalidData));
    };
    network::bring_up(spec.address).io_context(|| "bringing the loopback device up")?;
    let not_redirected = bind_listen_sockets(channel, &spec)?;
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
    limit(&spec.confinement)?;
    let user_namespace =
        confine::agent_namespace(spec.confinement.user).io_context(|| "making the agent's user namespace")?;
    let filter = seccomp::assemble(&spec.confinement);
    let processes = spec.memory_watch.map(|_| usage::Processes::mount()).transpose();
    let processes = processes.io_context(|| "mounting the processes whose memory is watched")?;
    let signals = sys::signal_descriptor(&[Signal::CHILD]).io_context(|| "waiting for signals")?;
    confine::drop_capabilities().io_context(|| "giving up capabilities")?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).io_context(|| "closing its memory")?;
    set_parent_process_death_signal(Some(Signal::KILL)).io_context(|| "asking to end with the launcher")?;
    channel.send(&FromInit::Ready { notes }, &[]).io_context(|| "reporting")?;
    let terminals = exec::Terminals::new();
    let sessions = BTreeMap::new();
    Ok(Init { channel, spec: *spec, user_namespace, filter, signals, terminals, processes, sessions })
}

/// Binds the listening sockets and sends them to the launcher. The note says which connections are not
/// redirected.
fn bind_listen_sockets(channel: &Channel, spec: &NativeSpec) -> Result<Option<String>, IoError> {
    let Redirect { redirected_to, ports_without_redirection } = &spec.redirect;
    let mut listen_sockets = spec.listen_sockets.clone();
    let redirected = |address| ListenSocket { kind: ListenerKind::Transparent, address };
    let note = match redirect::install(&[spec.address], *redirected_to) {
        Ok(()) => {
            listen_sockets.push(redirected(*redirected_to));
            None
        }
        Err(error) => {
            let everywhere = |port: &u16| redirected(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, *port));
            listen_sockets.extend(ports_without_redirection.iter().map(everywhere));
            let ports: Vec<_> = ports_without_redirection.iter().map(u16::to_string).collect();
            Some(format!(
                "no nftables here ({error}): programs that ignore the proxy variables reach the gateway on ports {} \
                 only, and nothing on others",
                ports.join(" and ")
            ))
        }
    };
    let sockets = listen_sockets
        .iter()
        .map(|socket| match socket.kind {
            ListenerKind::DnsUdp => UdpSocket::bind(socket.address).map(OwnedFd::from),
            ListenerKind::Proxy | ListenerKind::Transparent | ListenerKind::DnsTcp => {
                TcpListener::bind(socket.address).map(OwnedFd::from)
            }
        })
        .collect::<io::Result<Vec<_>>>()
        .io_context(|| "listening")?;
    let descriptors: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
    let listeners = listen_sockets.iter().map(|socket| socket.kind).collect();
    channel
        .send(&FromInit::Listening { listeners }, &descriptors)
        .io_context(|| "handing the listeners over")?;
    Ok(note)
}

/// Opens the trees of the host, unless the launcher has: it does where it is root, because the bottle's user
/// may not be able to walk to them.
fn take_trees(spec: &NativeSpec, taken: Vec<OwnedFd>) -> Result<Vec<OwnedFd>, IoError> {
    if !taken.is_empty() {
        return Ok(taken);
    }
    spec.trees.iter().map(rootfs::take_tree).collect()
}

/// Limits that this process shares with the programs. Before the agent's user namespace is made: the kernel
/// remembers the limit of the one who makes it for all processes in it together (`set_userns_rlimit_max`).
fn limit(confinement: &Confinement) -> Result<(), IoError> {
    lower(Resource::Core, CORE_BYTES).io_context(|| "limiting core dumps")?;
    shares::lower_limits().io_context(|| "lowering resource limits")?;
    if let Some(processes) = confinement.processes {
        // This process counts too.
        lower(Resource::Nproc, processes.saturating_add(1)).io_context(|| "limiting processes")?;
    }
    if let Some(count) = confinement.processors {
        let allowed = rustix::thread::sched_getaffinity(None).io_context(|| "reading the processors")?;
        let mut chosen = rustix::thread::CpuSet::new();
        let usable = (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
        usable.take(count).for_each(|cpu| chosen.set(cpu));
        rustix::thread::sched_setaffinity(None, &chosen).io_context(|| "choosing processors")?;
    }
    Ok(())
}

struct Init<'a> {
    channel: &'a Channel,
    spec: NativeSpec,
    user_namespace: OwnedFd,
    filter: Vec<sock_filter>,
    signals: OwnedFd,
    terminals: exec::Terminals,
    /// Where memory is watched.
    processes: Option<usage::Processes>,
    /// The session of each child, by process id.
    sessions: BTreeMap<i32, SessionId>,
}

impl Init<'_> {
    /// Runs until the launcher closes the socket. The kernel then kills the rest of the pid namespace.
    fn serve(mut self) -> i32 {
        let mut next_measurement = Instant::now() + MEMORY_INTERVAL;
        let mut has_more_children = false;
        loop {
            let wait =
                self.spec.memory_watch.map(|_| next_measurement.saturating_duration_since(Instant::now()));
            let wait = wait.and_then(|wait| Timespec::try_from(wait).ok());
            let wait = if has_more_children { Some(Timespec { tv_sec: 0, tv_nsec: 0 }) } else { wait };
            let (from_launcher, from_children) = {
                let mut sources =
                    [PollFd::new(self.channel, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
                match poll(&mut sources, wait.as_ref()) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(_) => return 1,
                }
                (!sources[0].revents().is_empty(), !sources[1].revents().is_empty())
            };
            if from_children || has_more_children {
                // Signals of one number are merged while pending, signal(7): one SIGCHLD may stand for many
                // children.
                let Ok(more) = self.reap() else { return 1 };
                has_more_children = more;
            }
            if from_launcher {
                match self.channel.receive::<ToInit>() {
                    Ok(Some((message, _))) => {
                        if self.answer(message).is_err() {
                            return 1;
                        }
                    }
                    Ok(None) => return 0,
                    Err(_) => return 1,
                }
            }
            if let Some(limit) = self.spec.memory_watch
                && Instant::now() >= next_measurement
            {
                let used = self.processes.as_ref().and_then(usage::Processes::memory);
                let end = match used {
                    Some(used) if used > limit => Some(FromInit::MemoryExceeded { used }),
                    Some(_) => None,
                    None => Some(FromInit::MemoryUncounted),
                };
                if end.is_some_and(|end| self.channel.send(&end, &[]).is_err()) {
                    return 1;
                }
                next_measurement = Instant::now() + MEMORY_INTERVAL;
            }
        }
    }

    fn answer(&mut self, message: ToInit) -> io::Result<()> {
        match message {
            ToInit::Setup(_) => Err(io::ErrorKind::InvalidData.into()),
            ToInit::Start { session, program } => {
                let confined = exec::Confined {
                    confinement: &self.spec.confinement,
                    user_namespace: &self.user_namespace,
                    filter: &self.filter,
                };
                match exec::start(&program, &confined, &mut self.terminals) {
                    Ok(started) => {
                        let streams: Vec<_> = started.streams.iter().map(AsFd::as_fd).collect();
                        match self.channel.send(&FromInit::Started { session }, &streams) {
                            Ok(()) => {
                                self.sessions.insert(started.pid.as_raw_pid(), session);
                                Ok(())
                            }
                            // Programs of this user hold too many descriptors in flight, unix(7): the command
                            // fails, and not the bottle.
                            Err(error) => {
                                // ESRCH: the program has ended already.
                                let _ = kill_process_group(started.pid, Signal::KILL);
                                let errno = error.raw_os_error().unwrap_or(libc::EIO);
                                let doing = "handing its streams over".to_owned();
                                self.channel.send(&FromInit::NotStarted { session, doing, errno }, &[])
                            }
                        }
                    }
                    Err(failure) => {
                        let errno = failure.source.raw_os_error().unwrap_or(libc::EIO);
                        let answer = FromInit::NotStarted { session, doing: failure.context, errno };
                        self.channel.send(&answer, &[])
                    }
                }
            }
            ToInit::Signal { session, signal } => {
                let pid = self.sessions.iter().find(|(_, known)| **known == session).map(|(pid, _)| *pid);
                if let (Some(pid), Some(signal)) =
                    (pid.and_then(Pid::from_raw), Signal::from_named_raw(signal))
                {
                    // ESRCH: the program has ended already.
                    let _ = match signal {
                        Signal::KILL | Signal::HUP => kill_process_group(pid, signal),
                        _ => kill_process(pid, signal),
                    };
                }
                Ok(())
            }
        }
    }

    /// Reaps children that have ended. Whether more may be waiting.
    fn reap(&mut self) -> io::Result<bool> {
        // Records of `signalfd_siginfo`, 128 bytes each, are discarded: wait(2) says which child has ended.
        let mut records = [0; 128 * 8];
        while matches!((&File::from(self.signals.try_clone()?)).read(&mut records), Ok(1..)) {}
        for _ in 0..MAX_REAPED {
            let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) else { return Ok(false) };
            let Some(session) = self.sessions.get(&pid.as_raw_pid()).copied() else { continue };
            let narrow = |value: i32| u8::try_from(value & 0xFF).unwrap_or(u8::MAX);
            let status = match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => ProgramStatus::Exited(narrow(code)),
                (None, Some(signal)) => ProgramStatus::Signalled(narrow(signal)),
                (None, None) => continue,
            };
            self.sessions.remove(&pid.as_raw_pid());
            self.channel.send(&FromInit::Ended { session, status }, &[])?;
        }
        Ok(true)
    }
}
