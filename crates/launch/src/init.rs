//! The first process of a sandbox, whatever the backend: starts and reaps programs until the launcher is gone.
//!
//! It has one thread, an empty environment and no secret. A backend prepares the sandbox in it, while it has
//! the privileges that this needs; it has given them all up when it comes here.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    ops::ControlFlow,
    os::fd::{AsFd, OwnedFd, RawFd},
    path::Path,
    time::{Duration, Instant},
};

use bot_bottle_core::{
    error::{IoContext, IoError},
    provider::GuestFile,
};
use libc::sock_filter;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, Resource, Signal, WaitOptions, kill_process, kill_process_group, wait},
};

use crate::{
    backend::{SessionId, StartProgram},
    channel::Channel,
    files::rooted_dir::RootedDir,
    host::shares::CORE_BYTES,
    request::ProgramStatus,
    sys,
};

pub(crate) mod client;
pub(crate) mod confine;
mod exec;
pub mod link_process;
pub(crate) mod listen;
pub(crate) mod network;
pub(crate) mod protocol;
mod redirect;
mod seccomp;
pub(crate) mod shares;
pub(crate) mod spec;
pub(crate) mod system_files;

use confine::AgentUser;
use protocol::{FromInit, ToInit};
pub use seccomp::system_calls_page;
use spec::Confinement;

/// How often memory is measured where no cgroup counts it.
const MEMORY_INTERVAL: Duration = Duration::from_millis(500);

/// How many children are reaped before messages of the launcher are read again.
const MAX_REAPED: usize = 256;

/// Measures the memory of a bottle, where no cgroup limits it.
pub(crate) struct MemoryWatch {
    /// Bytes at which the bottle ends.
    pub(crate) limit: u64,
    /// Gives the bytes in use, or `None` if they cannot be counted in time: the bottle ends then.
    pub(crate) measure: Box<dyn Fn() -> Option<u64>>,
}

/// The first process, ready to start programs.
pub(crate) struct Init<'a> {
    channel: &'a Channel,
    confinement: Confinement,
    user: AgentUser,
    filter: Vec<sock_filter>,
    memory: Option<MemoryWatch>,
    signals: OwnedFd,
    terminals: exec::Terminals,
    /// The session of each child, by process id.
    sessions: BTreeMap<i32, SessionId>,
}

/// Runs as the first process; `control` is the descriptor of the launcher's socket. `prepare` makes the
/// sandbox and gives up every privilege. Returns the exit status of this process.
pub(crate) fn run(
    control: RawFd,
    prepare: impl for<'a> FnOnce(&'a Channel) -> Result<Init<'a>, IoError>,
) -> i32 {
    serve(&Channel::new(sys::take_control(control)), prepare)
}

/// The same for a process that has the socket.
pub(crate) fn serve<'a>(
    channel: &'a Channel,
    prepare: impl FnOnce(&'a Channel) -> Result<Init<'a>, IoError>,
) -> i32 {
    match prepare(channel) {
        Ok(init) => init.run(),
        Err(failure) => {
            let errno = failure.source.raw_os_error().unwrap_or(0);
            let doing = if errno == 0 { failure.to_string() } else { failure.context };
            // Fails only if the launcher has ended, and this process ends next in any case.
            let _ = channel.send(&FromInit::Failed { doing, errno }, &[]);
            1
        }
    }
}

/// Limits that the first process shares with the programs. Before a user namespace is made for them: the
/// kernel remembers the limit of the one who makes it for all processes in it together
/// (`set_userns_rlimit_max`).
pub(crate) fn limit(confinement: &Confinement) -> Result<(), IoError> {
    shares::lower(Resource::Core, CORE_BYTES).io_context(|| "limiting core dumps")?;
    shares::lower_limits().io_context(|| "lowering resource limits")?;
    if let Some(processes) = confinement.processes {
        // This process counts too.
        let most = processes.saturating_add(1);
        shares::lower(Resource::Nproc, most).io_context(|| "limiting processes")?;
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

impl<'a> Init<'a> {
    /// To be called with the last capability given up. `signals` reports SIGCHLD, signalfd(2).
    pub(crate) fn new(
        channel: &'a Channel,
        confinement: Confinement,
        user: AgentUser,
        memory: Option<MemoryWatch>,
        signals: OwnedFd,
    ) -> Self {
        let filter = seccomp::assemble(&confinement);
        let (terminals, sessions) = (exec::Terminals::new(), BTreeMap::new());
        Self { channel, confinement, user, filter, memory, signals, terminals, sessions }
    }

    /// Runs until the launcher closes the socket. The kernel then kills the rest of the pid namespace.
    fn run(mut self) -> i32 {
        let mut next_measurement = Instant::now() + MEMORY_INTERVAL;
        let mut has_more_children = false;
        loop {
            let wait =
                self.memory.as_ref().map(|_| next_measurement.saturating_duration_since(Instant::now()));
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
                    Ok(Some((message, _))) => match self.answer(message) {
                        Ok(ControlFlow::Continue(())) => {}
                        Ok(ControlFlow::Break(())) => return 0,
                        Err(_) => return 1,
                    },
                    Ok(None) => return 0,
                    Err(_) => return 1,
                }
            }
            if let Some(watch) = &self.memory
                && Instant::now() >= next_measurement
            {
                let end = match (watch.measure)() {
                    Some(used) if used > watch.limit => Some(FromInit::MemoryExceeded { used }),
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

    fn answer(&mut self, message: ToInit) -> io::Result<ControlFlow<()>> {
        match message {
            ToInit::Start { session, program } => self.start(session, &program)?,
            ToInit::Signal { session, signal } => self.signal(session, signal),
            ToInit::Replace { home, file } => self.replace(&home, &file)?,
            ToInit::End => {
                // ESRCH: no program runs.
                let _ = sys::kill_all();
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn start(&mut self, session: SessionId, program: &StartProgram) -> io::Result<()> {
        let confined =
            exec::Confined { confinement: &self.confinement, user: &self.user, filter: &self.filter };
        let started = match exec::start(program, &confined, &mut self.terminals) {
            Ok(started) => started,
            Err(failure) => {
                let errno = failure.source.raw_os_error().unwrap_or(libc::EIO);
                let answer = FromInit::NotStarted { session, doing: failure.context, errno };
                return self.channel.send(&answer, &[]);
            }
        };
        let streams: Vec<_> = started.streams.iter().map(AsFd::as_fd).collect();
        match self.channel.send(&FromInit::Started { session }, &streams) {
            Ok(()) => {
                self.sessions.insert(started.pid.as_raw_pid(), session);
                Ok(())
            }
            // Programs of this user hold too many descriptors in flight, unix(7): the command fails, and not the
            // bottle.
            Err(error) => {
                // ESRCH: the program has ended already.
                let _ = kill_process_group(started.pid, Signal::KILL);
                let errno = error.raw_os_error().unwrap_or(libc::EIO);
                let doing = "handing its streams over".to_owned();
                self.channel.send(&FromInit::NotStarted { session, doing, errno }, &[])
            }
        }
    }

    fn signal(&self, session: SessionId, signal: i32) {
        let pid = self.sessions.iter().find(|(_, known)| **known == session).map(|(pid, _)| *pid);
        if let (Some(pid), Some(signal)) = (pid.and_then(Pid::from_raw), Signal::from_named_raw(signal)) {
            // ESRCH: the program has ended already.
            let _ = match signal {
                Signal::KILL | Signal::HUP => kill_process_group(pid, signal),
                _ => kill_process(pid, signal),
            };
        }
    }

    /// Writes a file as the agent's user, whom its folder belongs to. The agent can have put a link, a folder or anything
    /// else in the way; none is followed or opened.
    fn replace(&self, home: &Path, file: &GuestFile) -> io::Result<()> {
        let relative = file.path.strip_prefix(home).map_err(|_| io::ErrorKind::InvalidInput)?;
        let replaced = RootedDir::open(home, None)
            .and_then(|folder| folder.replace(relative, file.content.as_bytes(), file.mode));
        let Err(error) = replaced else { return Ok(()) };
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        let doing = format!("writing {}", file.path.display());
        self.channel.send(&FromInit::NotReplaced { doing, errno }, &[])
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
