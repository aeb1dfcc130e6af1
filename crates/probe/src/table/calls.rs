//! System calls that have no safe wrapper, made with integers and null pointers only. Permission is checked
//! before arguments, so EPERM means refused and EINVAL or EFAULT means that the call would have been allowed.

use bot_bottle_launch::attempt_syscall;
use libc::c_long;

use crate::{attempt::Attempt, errno, outcome::Observation};

/// No descriptor.
const NONE: usize = usize::MAX;

/// The bottle's first process.
const FIRST: usize = 1;

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt {
        id: "kernel.unshare",
        promise: 1,
        what: "makes namespaces of its own: user, mount, network, pid, ipc, uts, cgroup",
        source: "https://man7.org/linux/man-pages/man2/unshare.2.html",
        run: |_| Observation::all(namespaces().map(|flag| call(libc::SYS_unshare, [flag, 0, 0, 0, 0, 0]))),
    },
    Attempt {
        id: "kernel.clone-namespaces",
        promise: 1,
        what: "starts a process in namespaces of its own by clone",
        source: "https://nvd.nist.gov/vuln/detail/CVE-2022-0185",
        run: |_| {
            // CLONE_FS with a new user or mount namespace is invalid (clone(2)), so no process is created.
            let invalid = flag(libc::CLONE_FS);
            Observation::all(
                [libc::CLONE_NEWUSER, libc::CLONE_NEWNS]
                    .map(|namespace| call(libc::SYS_clone, [flag(namespace) | invalid, 0, 0, 0, 0, 0])),
            )
        },
    },
    Attempt {
        id: "kernel.clone3",
        promise: 1,
        what: "starts a process by clone3, whose flags no filter can see",
        source: "https://man7.org/linux/man-pages/man2/clone3.2.html",
        run: |_| call(libc::SYS_clone3, [0; 6]),
    },
    Attempt {
        id: "kernel.setns",
        promise: 1,
        what: "joins a namespace by descriptor",
        source: "https://man7.org/linux/man-pages/man2/setns.2.html",
        run: |_| call(libc::SYS_setns, [NONE, 0, 0, 0, 0, 0]),
    },
    Attempt {
        id: "kernel.ptrace",
        promise: 1,
        what: "traces the bottle's first process",
        source: "https://man7.org/linux/man-pages/man2/ptrace.2.html",
        run: |_| {
            let attach = usize::try_from(libc::PTRACE_ATTACH).unwrap_or(0);
            call(libc::SYS_ptrace, [attach, FIRST, 0, 0, 0, 0])
        },
    },
    Attempt {
        id: "kernel.memory-of-others",
        promise: 1,
        what: "reads and writes the memory of other processes by process_vm_readv and process_vm_writev",
        source: "https://man7.org/linux/man-pages/man2/process_vm_readv.2.html",
        run: |_| {
            Observation::all(
                [libc::SYS_process_vm_readv, libc::SYS_process_vm_writev]
                    .map(|number| call(number, [FIRST, 0, 0, 0, 0, 0])),
            )
        },
    },
    Attempt {
        id: "kernel.limits-of-first-process",
        promise: 14,
        what: "takes descriptors and processor time away from the bottle's first process, which enforces limits",
        source: "https://man7.org/linux/man-pages/man2/prlimit.2.html",
        run: |_| {
            let descriptors = usize::try_from(libc::RLIMIT_NOFILE).unwrap_or(0);
            Observation::all([
                call(libc::SYS_prlimit64, [FIRST, descriptors, 0, 0, 0, 0]),
                call(libc::SYS_setpriority, [0, FIRST, 0, 0, 0, 0]),
            ])
        },
    },
    Attempt {
        id: "kernel.secret-memory",
        promise: 14,
        what: "makes memory that nobody can look into or count",
        source: "https://man7.org/linux/man-pages/man2/memfd_secret.2.html",
        run: |_| call(libc::SYS_memfd_secret, [0; 6]),
    },
    Attempt {
        id: "kernel.compare-processes",
        promise: 1,
        what: "learns addresses of the kernel by comparing processes",
        source: "https://man7.org/linux/man-pages/man2/kcmp.2.html",
        run: |_| call(libc::SYS_kcmp, [FIRST, FIRST, 0, 0, 0, 0]),
    },
    Attempt {
        id: "kernel.file-handles",
        promise: 1,
        what: "opens files by handle, without walking to them",
        source: "https://nvd.nist.gov/vuln/detail/CVE-2014-3519",
        run: |_| call(libc::SYS_open_by_handle_at, [NONE, 0, 0, 0, 0, 0]),
    },
    Attempt {
        id: "kernel.bpf",
        promise: 1,
        what: "loads a BPF program",
        source: "https://nvd.nist.gov/vuln/detail/CVE-2021-3490",
        run: |_| call(libc::SYS_bpf, [5, 0, 0, 0, 0, 0]),
    },
    Attempt {
        id: "kernel.perf",
        promise: 1,
        what: "opens a performance counter",
        source: "https://nvd.nist.gov/vuln/detail/CVE-2013-2094",
        run: |_| call(libc::SYS_perf_event_open, [0, 0, NONE, NONE, 0, 0]),
    },
    Attempt {
        id: "kernel.io-uring",
        promise: 1,
        what: "sets up an io_uring, whose operations no filter sees",
        source: "https://security.googleblog.com/2023/06/learnings-from-kctf-vrps-42-linux.html",
        run: |_| {
            Observation::all(
                [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register]
                    .map(|number| call(number, [NONE, 0, 0, 0, 0, 0])),
            )
        },
    },
    Attempt {
        id: "kernel.userfaultfd",
        promise: 1,
        what: "handles page faults itself, with which races in the kernel are won",
        source: "https://man7.org/linux/man-pages/man2/userfaultfd.2.html",
        run: |_| call(libc::SYS_userfaultfd, [0; 6]),
    },
    Attempt {
        id: "kernel.keyrings",
        promise: 1,
        what: "uses the kernel's keyrings, which no namespace separates",
        source: "https://nvd.nist.gov/vuln/detail/CVE-2016-0728",
        run: |_| {
            Observation::all(
                [libc::SYS_add_key, libc::SYS_request_key, libc::SYS_keyctl]
                    .map(|number| call(number, [0, 0, 0, 0, 0, 0])),
            )
        },
    },
    Attempt {
        id: "kernel.terminal-injection",
        promise: 1,
        what: "types into the terminal that it was started from",
        source: "https://nvd.nist.gov/vuln/detail/CVE-2017-5226",
        run: |_| {
            let requests = [libc::TIOCSTI, libc::TIOCLINUX];
            Observation::all(requests.into_iter().flat_map(|request| {
                let request = usize::try_from(request).unwrap_or(0);
                // The kernel ignores the upper 32 bits, so a filter must too (CVE-2023-1523).
                [request, request | 1 << 32].map(|request| call(libc::SYS_ioctl, [0, request, 0, 0, 0, 0]))
            }))
        },
    },
    Attempt {
        id: "kernel.personality",
        promise: 1,
        what: "changes its execution domain",
        source: "https://man7.org/linux/man-pages/man2/personality.2.html",
        run: |_| {
            // READ_IMPLIES_EXEC affects only later mappings, and is reset at once.
            let changed = call(libc::SYS_personality, [0x0040_0000, 0, 0, 0, 0, 0]);
            if matches!(changed, Observation::Reached(_)) {
                let _ = attempt_syscall(libc::SYS_personality, [0; 6]);
            }
            changed
        },
    },
    Attempt {
        id: "kernel.modules",
        promise: 1,
        what: "loads and removes kernel modules and another kernel",
        source: "https://man7.org/linux/man-pages/man2/init_module.2.html",
        run: |_| {
            Observation::all(
                [
                    libc::SYS_init_module,
                    libc::SYS_finit_module,
                    libc::SYS_delete_module,
                    libc::SYS_kexec_load,
                ]
                .map(|number| call(number, [NONE, 0, 0, 0, 0, 0])),
            )
        },
    },
    Attempt {
        id: "kernel.machine",
        promise: 1,
        what: "reboots, sets the clock, swaps, accounts: what concerns the whole machine",
        source: "https://man7.org/linux/man-pages/man7/capabilities.7.html",
        run: |_| {
            // Each lacks its magic numbers, file or time, so the kernel rejects the arguments after the
            // permission check.
            Observation::all(
                [libc::SYS_reboot, libc::SYS_clock_settime, libc::SYS_swapon, libc::SYS_swapoff]
                    .map(|number| call(number, [0; 6])),
            )
        },
    },
    Attempt {
        id: "kernel.log",
        promise: 1,
        what: "reads the kernel's log, which tells its addresses",
        source: "https://man7.org/linux/man-pages/man2/syslog.2.html",
        // SYSLOG_ACTION_SIZE_BUFFER
        run: |_| call(libc::SYS_syslog, [10, 0, 0, 0, 0, 0]),
    },
    Attempt {
        id: "kernel.watch-files",
        promise: 1,
        what: "watches every file of a mount by fanotify",
        source: "https://man7.org/linux/man-pages/man2/fanotify_init.2.html",
        run: |_| call(libc::SYS_fanotify_init, [0; 6]),
    },
    Attempt {
        id: "kernel.splice-pages",
        promise: 1,
        what: "gives its pages to a pipe by vmsplice",
        source: "https://nvd.nist.gov/vuln/detail/CVE-2008-0600",
        run: |_| call(libc::SYS_vmsplice, [NONE, 0, 0, 0, 0, 0]),
    },
    Attempt {
        id: "kernel.move-pages",
        promise: 1,
        what: "moves pages of memory between nodes",
        source: "https://man7.org/linux/man-pages/man2/move_pages.2.html",
        run: |_| {
            Observation::all(
                [libc::SYS_move_pages, libc::SYS_migrate_pages]
                    .map(|number| call(number, [FIRST, 0, 0, 0, 0, 0])),
            )
        },
    },
    Attempt {
        id: "kernel.ports",
        promise: 1,
        what: "gets at the machine's input and output ports and at segment tables",
        source: "https://nvd.nist.gov/vuln/detail/CVE-2015-5157",
        run: |_| ports(),
    },
];

fn call(number: c_long, arguments: [usize; 6]) -> Observation {
    errno::by_permission(attempt_syscall(number, arguments), "the call was allowed")
}

fn namespaces() -> [usize; 7] {
    [
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWNS,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWCGROUP,
    ]
    .map(flag)
}

fn flag(flag: libc::c_int) -> usize {
    usize::try_from(flag).unwrap_or(0)
}

#[cfg(target_arch = "x86_64")]
fn ports() -> Observation {
    Observation::all([
        call(libc::SYS_iopl, [3, 0, 0, 0, 0, 0]),
        call(libc::SYS_ioperm, [0x80, 1, 1, 0, 0, 0]),
        call(libc::SYS_modify_ldt, [0; 6]),
    ])
}

#[cfg(not(target_arch = "x86_64"))]
fn ports() -> Observation {
    Observation::refused("this kind of machine has none")
}
