//! The calls to the kernel that have no safe wrapper. The only file of the workspace with `unsafe` code.

#![allow(unsafe_code)]

use std::{
    ffi::CStr,
    io, mem,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    process::Command,
    ptr,
};

use rustix::process::{Pid, Signal};

use crate::sealed;

mod attempted;

use attempted::ATTEMPTED;

/// A copy of this process that becomes another part of this binary at once.
///
/// The child runs nothing but the few system calls of [`spawn`] before it executes, with an empty
/// environment: the memory and the environment of the launcher hold secrets.
pub(crate) struct Spawn<'a> {
    /// The binary, opened.
    pub(crate) executable: BorrowedFd<'a>,
    /// Where it was opened, if what it runs must not be able to change it; see [`sealed`].
    pub(crate) sealed: Option<&'a CStr>,
    /// With the program's name in front.
    pub(crate) arguments: &'a [&'a CStr],
    /// `CLONE_NEW*`.
    pub(crate) namespaces: libc::c_int,
    /// Whether the child becomes user and group 0 of its user namespace before it executes.
    pub(crate) become_root: bool,
    /// Standard input, output and error, and the descriptor [`CONTROL_FD`].
    pub(crate) descriptors: [BorrowedFd<'a>; 4],
    /// The child goes on once this has a [`Go`] to read, and ends if it has none.
    pub(crate) gate: BorrowedFd<'a>,
    /// The other end of `gate`, which the child closes: if the launcher ends, nothing comes.
    pub(crate) opener: BorrowedFd<'a>,
}

/// How a child that waits at its gate goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Go {
    /// Go on.
    On,
    /// Go on, and first leave every supplementary group.
    WithoutGroups,
}

impl Go {
    /// As it is sent.
    pub(crate) fn byte(self) -> u8 {
        match self {
            Self::On => b'+',
            Self::WithoutGroups => b'-',
        }
    }
}

/// The descriptor at which a spawned part of this binary finds its control socket.
pub(crate) const CONTROL_FD: RawFd = 3;

/// Descriptors of a child are first moved to here and above, so that none is overwritten by another.
const SAFE_FD: RawFd = 64;

/// Joins a new and empty session keyring, keyctl(2). Where it fails (no keys in this kernel, or the user's
/// quota of them is used up) the filter still refuses every call that could use the old one.
const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;

/// Exit status of a child that could not execute.
pub(crate) const SPAWN_FAILED: i32 = 121;

/// Starts a part of this binary. It leads a session of its own, so that the terminal's signals do not reach
/// it, and is killed when the thread that called this ends, unless it changes its credentials.
pub(crate) fn spawn(spawn: &Spawn<'_>) -> io::Result<(Pid, OwnedFd)> {
    let mut arguments: Vec<*const libc::c_char> = spawn.arguments.iter().map(|text| text.as_ptr()).collect();
    arguments.push(ptr::null());
    let environment: [*const libc::c_char; 1] = [ptr::null()];
    let descriptors = spawn.descriptors.map(|descriptor| descriptor.as_raw_fd());
    let mut pidfd: RawFd = -1;
    let flags = libc::c_long::from(spawn.namespaces | libc::CLONE_PIDFD | libc::SIGCHLD);
    // SAFETY: without CLONE_VM the child has a copy of the address space, and with a null stack it goes on
    // with a copy of this one, as after fork(2). `pidfd` outlives the call. On every architecture the third
    // argument is where CLONE_PIDFD stores the descriptor.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, &raw mut pidfd, 0, 0) };
    if pid == 0 {
        // SAFETY: only async-signal-safe system calls on values that were prepared before the clone, so that
        // no lock of another thread matters; it never returns.
        unsafe { run_child(spawn, &descriptors, &arguments, &environment) }
    }
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just stored a new descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
    Ok((pid, pidfd))
}

/// What the child of [`spawn`] does.
///
/// # Safety
/// To be called in a freshly cloned child only; the pointers of `arguments` and `environment` are valid
/// C strings and both end with a null pointer.
unsafe fn run_child(
    spawn: &Spawn<'_>,
    descriptors: &[RawFd; 4],
    arguments: &[*const libc::c_char],
    environment: &[*const libc::c_char],
) -> ! {
    // SAFETY: plain system calls on descriptors and on memory of this frame; see the contract above.
    unsafe {
        let check = |result: libc::c_long| {
            if result < 0 {
                libc::_exit(SPAWN_FAILED);
            }
            result
        };
        libc::close(spawn.opener.as_raw_fd());
        let mut byte = 0_u8;
        if libc::read(spawn.gate.as_raw_fd(), (&raw mut byte).cast(), 1) != 1 {
            libc::_exit(SPAWN_FAILED);
        }
        // Before the child changes its user: the bottle's may not walk to where the binary lies.
        let executable = match spawn.sealed {
            None => spawn.executable.as_raw_fd(),
            Some(path) => match sealed::seal(spawn.executable, path) {
                Ok(executable) => executable.into_raw_fd(),
                Err(_) => libc::_exit(SPAWN_FAILED),
            },
        };
        if byte == Go::WithoutGroups.byte() {
            check(libc::syscall(libc::SYS_setgroups, 0, ptr::null::<libc::gid_t>()));
        }
        if spawn.become_root {
            check(libc::syscall(libc::SYS_setresgid, 0, 0, 0));
            check(libc::syscall(libc::SYS_setresuid, 0, 0, 0));
        }
        let mut moved = [0; 4];
        for (slot, descriptor) in moved.iter_mut().zip(descriptors) {
            *slot = libc::fcntl(*descriptor, libc::F_DUPFD_CLOEXEC, SAFE_FD);
            check((*slot).into());
        }
        let executable = libc::fcntl(executable, libc::F_DUPFD_CLOEXEC, SAFE_FD);
        check(executable.into());
        for (target, descriptor) in (0..).zip(moved) {
            check(libc::dup2(descriptor, target).into());
        }
        let first = libc::c_uint::try_from(CONTROL_FD + 1).unwrap_or(4);
        check(libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC));
        // The launcher blocks signals to read them from a descriptor, and may have been started with others
        // ignored (`nohup`); with addresses that are not randomised (`setarch -R`); with a session keyring
        // that holds the operator's keys, which would last as long as the bottle.
        reset_signals();
        check(libc::personality(0).into());
        libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, ptr::null::<libc::c_char>());
        check(libc::setsid().into());
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0).into());
        libc::syscall(
            libc::SYS_execveat,
            executable,
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
        libc::_exit(SPAWN_FAILED)
    }
}

/// Forks this process, which must have no other thread; the child runs `child` and ends.
pub(crate) fn fork(child: impl FnOnce() -> i32) -> io::Result<Pid> {
    // SAFETY: the bottle's first process never starts a thread, so that the child's copy of every lock is
    // free.
    match unsafe { libc::fork() } {
        0 => {
            let code = child();
            // SAFETY: ends the child without running what the parent registered for its own end.
            unsafe { libc::_exit(code) }
        }
        pid => Pid::from_raw(pid).filter(|_| pid > 0).ok_or_else(io::Error::last_os_error),
    }
}

/// Takes the control socket that [`spawn`] left at [`CONTROL_FD`].
pub(crate) fn take_control(descriptor: RawFd) -> OwnedFd {
    // SAFETY: the descriptor was left open for this process by the one that started it, and is taken once, at
    // the start of `main`. If it is not open every use of it fails with EBADF.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// Marks every descriptor from `first` on to be closed at the next exec.
pub(crate) fn close_on_exec_from(first: libc::c_uint) -> io::Result<()> {
    // SAFETY: sets flags of descriptors only.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets attributes of a mount (`MOUNT_ATTR_*`) and makes it private, mount_setattr(2).
///
/// A clone of a shared mount (systemd makes `/` one) is its peer: a mount below the one appears below the
/// other, mount_namespaces(7). A bottle's mounts would then appear on the host, and the host's in the bottle.
pub(crate) fn mount_setattr(tree: BorrowedFd<'_>, recursive: bool, set: u64) -> io::Result<()> {
    let attributes =
        libc::mount_attr { attr_set: set, attr_clr: 0, propagation: libc::MS_PRIVATE, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the kernel reads the structure, whose size it is told, and an empty string.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether two threads have one table of descriptors, kcmp(2). False where the kernel does not tell.
pub(crate) fn shares_descriptors(one: libc::pid_t, other: libc::pid_t) -> bool {
    const KCMP_FILES: libc::c_int = 2;
    // SAFETY: compares pointers in the kernel, and is given numbers alone.
    one == other || unsafe { libc::syscall(libc::SYS_kcmp, one, other, KCMP_FILES, 0, 0) } == 0
}

/// Gives this thread namespaces of its own.
pub(crate) fn unshare(namespaces: libc::c_int) -> io::Result<()> {
    // SAFETY: only CLONE_NEW* flags are passed, never CLONE_FILES, so no descriptor changes its meaning.
    if unsafe { libc::unshare(namespaces) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Installs a seccomp filter for this thread and everything that it starts. `no_new_privs` must be set.
pub(crate) fn install_filter(program: &[libc::sock_filter]) -> io::Result<()> {
    let length = libc::c_ushort::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel copies the instructions, of which there are `len`, and verifies them.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Kills every process that this one may signal, but for itself: all of its pid namespace's with its user, kill(2).
pub(crate) fn kill_all() -> io::Result<()> {
    // SAFETY: takes numbers alone.
    if unsafe { libc::kill(-1, libc::SIGKILL) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The user at the other end of a Unix socket, when it connected: `SO_PEERCRED`, unix(7). Not by rustix, whose type
/// for it has no process number 0, as which the kernel shows a process of another pid namespace.
pub(crate) fn peer_user(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut peer = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to a structure of that size.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(peer.uid) }
}

/// Blocks these signals and gives a descriptor to read them from (signalfd(2)), eight-byte aligned records.
pub(crate) fn signal_descriptor(signals: &[Signal]) -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by sigemptyset before use; the descriptor is new and owned here alone.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, signal.as_raw());
        }
        let error = libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut());
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        let descriptor = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(descriptor))
    }
}

/// Unblocks these signals again.
pub(crate) fn unblock(signals: &[Signal]) {
    // SAFETY: the set is initialised by sigemptyset before use.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, signal.as_raw());
        }
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, ptr::null_mut());
    }
}

/// Whether a signal is ignored, which a process inherits from its parent (`nohup`).
pub(crate) fn is_ignored(signal: Signal) -> bool {
    // SAFETY: reads how the signal is handled into a structure of this frame, and changes nothing.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        libc::sigaction(signal.as_raw(), ptr::null(), &raw mut action) == 0
            && action.sa_sigaction == libc::SIG_IGN
    }
}

/// Unblocks every signal and gives each its default meaning again. Both last across fork and exec, signal(7),
/// and no library clears them: a program that is started with SIGCHLD blocked waits for its children in vain.
pub(crate) fn reset_signals() {
    /// `struct sigaction` of the kernel, with SIG_DFL, no flags and an empty mask.
    const DEFAULT: [u64; 4] = [0; 4];
    /// Size of the kernel's set of signals, in bytes.
    const SET_BYTES: usize = 8;
    for signal in 1..=64 {
        // SAFETY: the kernel reads DEFAULT, which is as long as its structure, and installs no handler. It
        // refuses SIGKILL and SIGSTOP. Not by the C library, which hides the signals 32 and 33 that it uses.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                DEFAULT.as_ptr(),
                ptr::null_mut::<libc::c_void>(),
                SET_BYTES,
            );
        }
    }
    let none = 0_u64;
    // SAFETY: the kernel reads a set of the size that it is told.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const none,
            ptr::null_mut::<libc::c_void>(),
            SET_BYTES,
        );
    }
}

/// Has a program of the operator's start as from a shell that logs in, but in a session of its own and without the
/// terminal: one that asks there fails, where it would be stopped as a job in the background, or take what is typed for
/// the agent.
pub fn detach(command: &mut Command) {
    let prepare = || {
        rustix::process::setsid()?;
        reset_signals();
        Ok(())
    };
    // SAFETY: between fork and exec it makes system calls alone; a new child leads no process group, so that setsid(2)
    // does not fail.
    unsafe {
        command.pre_exec(prepare);
    }
}

/// Makes a system call for the escape probe, to see whether the kernel allows it. Arguments are integers, or
/// addresses where nothing can be mapped, so the kernel can neither read nor write memory of this process
/// through them. Calls that the probe does not make are refused.
///
/// # Errors
/// What the kernel says, or `InvalidInput` for what the probe does not need.
pub fn attempt_syscall(number: libc::c_long, arguments: [usize; 6]) -> io::Result<i64> {
    // The kernel maps nothing for a program below this (vm.mmap_min_addr, 64 KiB) nor at the end of memory.
    const NOTHING_BELOW: usize = 64 << 10;
    let harmless = |argument: &usize| *argument < NOTHING_BELOW || *argument == usize::MAX;
    // Calls whose first or second argument is a set of flags or a request, and never an address.
    let [first, second, rest @ ..] = &arguments;
    let flags_first = [libc::SYS_clone, libc::SYS_unshare, libc::SYS_personality].contains(&number);
    let request_second = number == libc::SYS_ioctl;
    // Without one of these pairs, which are invalid, clone would make a process that runs on from here.
    let makes_no_process = number != libc::SYS_clone
        || [libc::CLONE_NEWUSER, libc::CLONE_NEWNS].iter().any(|namespace| {
            usize::try_from(libc::CLONE_FS | namespace).is_ok_and(|pair| *first & pair == pair)
        });
    let allowed = ATTEMPTED.contains(&number)
        && makes_no_process
        && (flags_first || harmless(first))
        && (request_second || harmless(second))
        && rest.iter().all(harmless);
    if !allowed {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: by the checks above no argument is an address that is mapped, and no process is made.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
