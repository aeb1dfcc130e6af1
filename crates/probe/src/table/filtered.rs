//! System calls that only the seccomp filter blocks, because neither a capability nor a namespace does, and
//! forbidden requests and options of calls that are otherwise allowed.

use bot_bottle_launch::attempt_syscall;
use libc::{c_int, c_long};

use crate::{attempt::Attempt, errno, outcome::Observation};

/// No descriptor.
const NONE: usize = usize::MAX;

/// Calls that the C library's headers do not name yet: cachestat, futex_wake, statmount, listmount,
/// lsm_list_modules, file_getattr.
const NAMELESS: [c_long; 6] = [451, 454, 457, 458, 461, 468];

// asm-generic/ioctls.h
const TIOCCONS: usize = 0x541D;
const TIOCSETD: usize = 0x5423;

// linux/fs.h, linux/fscrypt.h, linux/fsverity.h, linux/btrfs.h
const FS_IOC_SETFLAGS: usize = 0x4008_6602;
const FS_IOC_ADD_ENCRYPTION_KEY: usize = 0xC050_6617;
const FS_IOC_ENABLE_VERITY: usize = 0x4080_6685;
const BTRFS_IOC_SUBVOL_CREATE: usize = 0x5000_940E;

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt {
        id: "kernel.newest-calls",
        promise: 1,
        what: "makes calls that are newer than most filters: statmount, cachestat, file_getattr",
        source: "https://nvd.nist.gov/vuln/detail/CVE-2025-21691",
        run: |_| Observation::all(NAMELESS.map(|number| permitted(number, [NONE, 0, 0, 0, 0, 0]))),
    },
    Attempt {
        id: "kernel.asynchronous-io",
        promise: 14,
        what: "takes what the whole machine has for asynchronous input and output",
        source: "https://docs.kernel.org/admin-guide/sysctl/fs.html",
        run: |_| permitted(libc::SYS_io_setup, [1, 0, 0, 0, 0, 0]),
    },
    Attempt {
        id: "kernel.rare-memory-calls",
        promise: 1,
        what: "uses rare calls about memory: remap_file_pages, process_mrelease, set_mempolicy_home_node",
        source: "https://nvd.nist.gov/vuln/detail/CVE-2024-47745",
        run: |_| {
            let numbers =
                [libc::SYS_remap_file_pages, libc::SYS_process_mrelease, libc::SYS_set_mempolicy_home_node];
            Observation::all(numbers.map(|number| permitted(number, [NONE, 0, 0, NONE, 0, 0])))
        },
    },
    Attempt {
        id: "kernel.huge-pages",
        promise: 14,
        what: "takes huge pages, which are the host's and not in the count of its memory",
        source: "https://docs.kernel.org/admin-guide/mm/hugetlbpage.html",
        run: |_| {
            let huge = usize::try_from(libc::MFD_HUGETLB).unwrap_or(0);
            answered_before(libc::EFAULT, libc::SYS_memfd_create, [0, huge, 0, 0, 0, 0])
        },
    },
    Attempt {
        id: "kernel.line-discipline",
        promise: 1,
        what: "loads a line discipline for its terminal, and takes over the console's output",
        source: "https://nvd.nist.gov/vuln/detail/CVE-2017-2636",
        run: |_| {
            Observation::all(
                [TIOCSETD, TIOCCONS].map(|request| permitted(libc::SYS_ioctl, [0, request, 0, 0, 0, 0])),
            )
        },
    },
    Attempt {
        id: "kernel.file-system-requests",
        promise: 1,
        what: "asks a file system for what it alone has: encryption, verity, flags, subvolumes",
        source: "https://docs.kernel.org/filesystems/fscrypt.html",
        run: |_| {
            let requests =
                [FS_IOC_SETFLAGS, FS_IOC_ADD_ENCRYPTION_KEY, FS_IOC_ENABLE_VERITY, BTRFS_IOC_SUBVOL_CREATE];
            let ask = |request| answered_before(libc::EBADF, libc::SYS_ioctl, [NONE, request, 0, 0, 0, 0]);
            Observation::all(requests.map(ask))
        },
    },
    Attempt {
        id: "kernel.protocols-over-tcp",
        promise: 1,
        what: "puts TLS and IPsec in the kernel on a TCP connection, and IPsec on UDP",
        source: "https://nvd.nist.gov/vuln/detail/CVE-2023-0461",
        run: |_| {
            options(&[
                (libc::IPPROTO_TCP, libc::TCP_ULP),
                (libc::IPPROTO_TCP, libc::TCP_REPAIR),
                (libc::IPPROTO_UDP, libc::UDP_ENCAP),
            ])
        },
    },
    Attempt {
        id: "kernel.socket-filters",
        promise: 1,
        what: "attaches BPF programs to sockets",
        source: "https://man7.org/linux/man-pages/man7/socket.7.html",
        run: |_| {
            options(&[
                (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER),
                (libc::SOL_SOCKET, libc::SO_ATTACH_BPF),
                (libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF),
                (libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_EBPF),
            ])
        },
    },
    Attempt {
        id: "kernel.packet-tables",
        promise: 1,
        what: "replaces tables of netfilter and of multicast routing by options of a socket",
        source: "https://nvd.nist.gov/vuln/detail/CVE-2021-22555",
        run: |_| {
            // IPT_SO_SET_REPLACE, ARPT_SO_SET_REPLACE, EBT_SO_SET_ENTRIES, MRT_INIT; IP6T_SO_SET_REPLACE.
            options(&[
                (libc::IPPROTO_IP, 64),
                (libc::IPPROTO_IP, 96),
                (libc::IPPROTO_IP, 128),
                (libc::IPPROTO_IP, 200),
                (libc::IPPROTO_IPV6, 64),
            ])
        },
    },
    Attempt {
        id: "kernel.core-limit",
        promise: 1,
        what: "changes its limit of core dumps, so that the host's collector gets one",
        source: "https://man7.org/linux/man-pages/man5/core.5.html",
        run: |_| {
            // Address 8 is unmapped: the kernel would answer EFAULT, the filter answers without reading it.
            let core = usize::try_from(libc::RLIMIT_CORE).unwrap_or(0);
            let calls =
                [(libc::SYS_setrlimit, [core, 8, 0, 0, 0, 0]), (libc::SYS_prlimit64, [0, core, 8, 0, 0, 0])];
            Observation::all(calls.map(|(number, arguments)| match attempt_syscall(number, arguments) {
                Ok(_) => Observation::refused("nothing is set, whatever the call says"),
                Err(error) => Observation::reached(errno::name(&error)),
            }))
        },
    },
    Attempt {
        id: "kernel.answer-for-others",
        promise: 1,
        what: "installs a filter with which it answers the calls of other processes",
        source: "https://man7.org/linux/man-pages/man2/seccomp_unotify.2.html",
        run: |_| {
            // SECCOMP_SET_MODE_FILTER with SECCOMP_FILTER_FLAG_NEW_LISTENER
            answered_before(libc::EFAULT, libc::SYS_seccomp, [1, 8, 0, 0, 0, 0])
        },
    },
    Attempt {
        id: "kernel.process-options",
        promise: 1,
        what: "uses options of its process that no agent needs: counters, dispatching of calls",
        source: "https://man7.org/linux/man-pages/man2/prctl.2.html",
        run: |_| {
            // PR_TASK_PERF_EVENTS_DISABLE and PR_SET_SYSCALL_USER_DISPATCH (off), which change nothing here.
            Observation::all([31, 59].map(|option| {
                match attempt_syscall(libc::SYS_prctl, [option, 0, 0, 0, 0, 0]) {
                    Ok(_) => Observation::reached("the option was set"),
                    Err(error) => Observation::refused(errno::name(&error)),
                }
            }))
        },
    },
];

fn permitted(number: c_long, arguments: [usize; 6]) -> Observation {
    errno::by_permission(attempt_syscall(number, arguments), "the call was allowed")
}

/// Judges a call with an argument that the kernel would reject first, such as a missing descriptor or a null
/// pointer. Any other error comes from the filter.
fn answered_before(kernel: c_int, number: c_long, arguments: [usize; 6]) -> Observation {
    match attempt_syscall(number, arguments) {
        Ok(_) => Observation::reached("the call was allowed"),
        Err(error) if error.raw_os_error() == Some(kernel) => Observation::reached(errno::name(&error)),
        Err(error) => Observation::refused(errno::name(&error)),
    }
}

fn options(options: &[(c_int, c_int)]) -> Observation {
    Observation::all(options.iter().map(|(level, name)| {
        let [level, name] = [*level, *name].map(|value| usize::try_from(value).unwrap_or(0));
        answered_before(libc::EBADF, libc::SYS_setsockopt, [NONE, level, name, 0, 0, 0])
    }))
}
