//! Processes, threads, signals, users, time.

use libc::{EINVAL, c_int};

use super::{
    super::{Answer, Case, REFUSED, Rule, Test},
    any_of, is,
};

/// Every flag that makes a namespace. `CLONE_NEWTIME` is no flag of clone(2): its bit is part of the signal.
const NEW_NAMESPACES: c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

/// `PER_LINUX`, the same with `ADDR_NO_RANDOMIZE`, which debuggers and old runtimes ask for, and the
/// question.
const PERSONALITIES: &[u32] = &[0, 0x0004_0000, 0xFFFF_FFFF];

/// The bottle's first process, as programs in it call it.
const FIRST_PROCESS: u32 = 1;

/// `PRIO_USER`, setpriority(2).
const PRIO_USER: u32 = 2;

/// `IOPRIO_WHO_USER`, ioprio_set(2).
const IOPRIO_WHO_USER: u32 = 3;

/// `RLIMIT_CORE`, asm-generic/resource.h.
const RLIMIT_CORE: u32 = 4;

/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`, linux/seccomp.h.
const NEW_LISTENER: u32 = 8;

/// Options of prctl(2), linux/prctl.h.
const PROCESS_OPTIONS: &[u32] = &[
    1,
    2, // signal at the end of the parent
    3,
    4, // dumpable
    7,
    8, // keeping of capabilities
    13,
    14, // timing
    15,
    16, // name
    21,
    22, // seccomp
    23,
    24,
    27,
    28,
    47, // capabilities, of which there are none
    25,
    26, // time stamp counter
    29,
    30, // timer slack
    33,
    34, // memory errors
    36,
    37, // subreaper
    38,
    39, // no new privileges
    40, // address of the thread id
    41,
    42, // transparent huge pages
    50,
    51,
    63,
    64, // vector length (aarch64)
    52,
    53, // speculation
    54,
    55,
    56,
    60,
    61, // pointer authentication and tags (aarch64)
    65,
    66, // no memory that is both writable and executable
    74,
    75,
    76,          // shadow stack
    0x4155_5856, // auxiliary vector
    0x5356_4D41, // names of memory
    0x5961_6D61, // who may trace, for Yama
];

/// Options of arch_prctl(2), asm/prctl.h: thread pointers, CPUID, processor state, shadow stack.
const ARCHITECTURE_OPTIONS: &[u32] = &[
    0x1001, 0x1002, 0x1003, 0x1004, 0x1011, 0x1012, 0x1021, 0x1022, 0x1023, 0x5001, 0x5002, 0x5003, 0x5004,
    0x5005,
];

const NOT_OF_THE_FIRST: &str = "all but for process 1: `EPERM`";
const FIRST_REASON: &str = "the bottle's first process has the same user on the host, so the kernel would let \
    programs take its processors and priority away";

pub(super) const RULES: &[Rule] = &[
    Rule::allowed(
        calls![
            SYS_execve SYS_execveat SYS_exit SYS_exit_group SYS_wait4 SYS_waitid SYS_set_tid_address SYS_gettid SYS_getpid
            SYS_getppid SYS_setpgid SYS_getpgid SYS_setsid SYS_getsid SYS_futex SYS_set_robust_list
            SYS_get_robust_list SYS_rseq SYS_restart_syscall SYS_getcpu SYS_pidfd_open
        ],
        "processes and threads",
    ),
    Rule::allowed(
        x86_calls![SYS_fork SYS_vfork SYS_getpgrp SYS_pause SYS_alarm SYS_time],
        "older forms of others here",
    ),
    Rule::by_argument(
        calls![SYS_clone],
        &[Case { tests: &[any_of(0, NEW_NAMESPACES.cast_unsigned())], answer: REFUSED }],
        Answer::Allow,
        "all but new namespaces: `EPERM`",
        "user namespaces are the way to most kernel bugs",
    )
    .elsewhere("Flatpak refuses user namespaces alone"),
    Rule::unknown(calls![SYS_clone3], "its flags lie in memory, where no filter can look: callers then take `clone`"),
    Rule::refused(calls![SYS_unshare SYS_setns], "namespaces, as above"),
    Rule::unknown(
        calls![SYS_futex_wake SYS_futex_wait SYS_futex_waitv SYS_futex_requeue],
        "the second kind of futex (Linux 5.16 and 6.7): no C library uses it, Wine falls back, and bugs of futexes \
         were ways out (CVE-2014-3153)",
    )
    .elsewhere("Docker and Flatpak allow"),
    Rule::refused(
        calls![SYS_ptrace SYS_pidfd_getfd SYS_kcmp],
        "other processes, such as those of `exec`; `kcmp` tells about addresses of the kernel",
    )
    .elsewhere("Docker allows `ptrace`, Flatpak `pidfd_getfd` and `kcmp`"),
    Rule::allowed(
        calls![
            SYS_rt_sigaction SYS_rt_sigprocmask SYS_rt_sigreturn SYS_rt_sigpending SYS_rt_sigsuspend SYS_rt_sigtimedwait
            SYS_rt_sigqueueinfo SYS_rt_tgsigqueueinfo SYS_sigaltstack SYS_kill SYS_tkill SYS_tgkill
            SYS_pidfd_send_signal
        ],
        "signals: the process namespace ends where they would leave the bottle",
    ),
    Rule::allowed(
        calls![
            SYS_getuid SYS_geteuid SYS_getgid SYS_getegid SYS_getresuid SYS_getresgid SYS_getgroups SYS_setuid SYS_setgid
            SYS_setreuid SYS_setregid SYS_setresuid SYS_setresgid SYS_setgroups SYS_setfsuid SYS_setfsgid SYS_capget
            SYS_capset
        ],
        "users and capabilities: there is one user and no capability, and the kernel says so",
    ),
    Rule::allowed(
        calls![
            SYS_nanosleep SYS_clock_nanosleep SYS_clock_gettime SYS_clock_getres SYS_gettimeofday SYS_times SYS_getitimer
            SYS_setitimer SYS_timer_create SYS_timer_settime SYS_timer_gettime SYS_timer_getoverrun SYS_timer_delete
            SYS_timerfd_create SYS_timerfd_settime SYS_timerfd_gettime
        ],
        "time and timers",
    ),
    Rule::allowed(
        calls![
            SYS_sched_yield SYS_sched_getaffinity SYS_sched_getattr SYS_sched_getparam SYS_sched_getscheduler
            SYS_sched_get_priority_max SYS_sched_get_priority_min SYS_sched_rr_get_interval SYS_getpriority
            SYS_ioprio_get SYS_getrlimit SYS_getrusage
        ],
        "reading of priorities and limits",
    ),
    Rule::by_argument(
        calls![SYS_sched_setaffinity],
        &[Case { tests: &[is(0, &[FIRST_PROCESS])], answer: REFUSED }],
        Answer::Allow,
        "all but for process 1: `EPERM`; none where `cpus` is enforced by affinity",
        FIRST_REASON,
    )
    .elsewhere("Docker and Flatpak allow"),
    Rule::by_argument(
        calls![SYS_sched_setattr SYS_sched_setparam SYS_sched_setscheduler],
        &[Case { tests: &[is(0, &[FIRST_PROCESS])], answer: REFUSED }],
        Answer::Allow,
        NOT_OF_THE_FIRST,
        FIRST_REASON,
    )
    .elsewhere("Docker and Flatpak allow"),
    Rule::by_argument(
        calls![SYS_setpriority],
        &[
            Case { tests: &[is(0, &[PRIO_USER])], answer: REFUSED },
            Case { tests: &[is(1, &[FIRST_PROCESS])], answer: REFUSED },
        ],
        Answer::Allow,
        "all but for process 1 and for all of a user: `EPERM`",
        FIRST_REASON,
    )
    .elsewhere("Docker and Flatpak allow"),
    Rule::by_argument(
        calls![SYS_ioprio_set],
        &[
            Case { tests: &[is(0, &[IOPRIO_WHO_USER])], answer: REFUSED },
            Case { tests: &[is(1, &[FIRST_PROCESS])], answer: REFUSED },
        ],
        Answer::Allow,
        "all but for process 1 and for all of a user: `EPERM`",
        FIRST_REASON,
    )
    .elsewhere("Docker and Flatpak allow"),
    Rule::by_argument(
        calls![SYS_setrlimit],
        &[Case { tests: &[is(0, &[RLIMIT_CORE])], answer: Answer::Pretend }],
        Answer::Allow,
        "all; `RLIMIT_CORE` succeeds and changes nothing",
        "a limit of 0 does not keep the host's collector of core dumps from being started (core(5)), so the \
         bottle's is 1 and stays so; programs that guard secrets set it to 0 and do not go on if they cannot",
    )
    .elsewhere("Docker and Flatpak allow"),
    Rule::by_argument(
        calls![SYS_prlimit64],
        &[
            Case { tests: &[is(0, &[FIRST_PROCESS])], answer: REFUSED },
            Case { tests: &[is(1, &[RLIMIT_CORE]), Test::Null { argument: 2 }], answer: Answer::Allow },
            Case { tests: &[is(1, &[RLIMIT_CORE]), Test::Null { argument: 3 }], answer: Answer::Pretend },
            Case { tests: &[is(1, &[RLIMIT_CORE])], answer: REFUSED },
        ],
        Answer::Allow,
        "all but for process 1: `EPERM`; setting `RLIMIT_CORE` succeeds and changes nothing, or is `EPERM` if the \
         one before is asked for as well",
        "as `setrlimit`, and as the priorities",
    )
    .elsewhere("Docker and Flatpak allow"),
    Rule::by_argument(
        calls![SYS_prctl],
        &[Case { tests: &[is(0, PROCESS_OPTIONS)], answer: Answer::Allow }],
        Answer::Refuse(EINVAL),
        "names, signals, timers, capabilities, seccomp, memory and processor of the process itself; else `EINVAL`",
        "what no program of a bottle needs is answered as by an older kernel: `PR_SET_MM`, performance counters, \
         merging of memory, dispatching of system calls, and `PR_SCHED_CORE`, which makes processors idle",
    )
    .elsewhere("Docker and Flatpak allow"),
    Rule::by_argument(
        x86_calls![SYS_arch_prctl],
        &[Case { tests: &[is(0, ARCHITECTURE_OPTIONS)], answer: Answer::Allow }],
        Answer::Refuse(EINVAL),
        "thread pointers, CPUID, processor state, shadow stack; else `EINVAL`",
        "the rest is for checkpoints, virtual machines and tags in addresses",
    )
    .elsewhere("Docker and Flatpak allow"),
    Rule::by_argument(
        calls![SYS_seccomp],
        &[Case { tests: &[any_of(1, NEW_LISTENER)], answer: Answer::Refuse(EINVAL) }],
        Answer::Allow,
        "all but `SECCOMP_FILTER_FLAG_NEW_LISTENER`: `EINVAL`",
        "programs may confine themselves further, and no filter of theirs undoes this one (the stricter answer \
         holds); answering the calls of others is for container engines, which do not run here",
    )
    .elsewhere("Docker and Flatpak allow"),
    Rule::allowed(
        calls![SYS_landlock_create_ruleset SYS_landlock_add_rule SYS_landlock_restrict_self],
        "programs may confine themselves further",
    ),
    Rule::by_argument(
        calls![SYS_personality],
        &[Case { tests: &[is(0, PERSONALITIES)], answer: Answer::Allow }],
        REFUSED,
        "the usual one, with or without random addresses; else `EPERM`",
        "others make memory executable or change what programs see",
    )
    .elsewhere("Docker allows 32-bit ones, but not without random addresses; Flatpak one"),
    Rule::refused(x86_calls![SYS_modify_ldt], "segments, for 16-bit programs (CVE-2015-5157)")
        .elsewhere("Docker allows"),
    Rule::allowed(
        x86_calls![SYS_uretprobe SYS_uprobe],
        "made by code that the kernel puts into a program which the host traces: refusing ends the program, and \
         calling them from elsewhere does as well",
    )
    .elsewhere("Docker refuses `uprobe`, which is newer than its list"),
    Rule::unknown(
        calls![SYS_lsm_get_self_attr SYS_lsm_set_self_attr SYS_lsm_list_modules],
        "security modules of the host (Linux 6.8); programs look into `/proc` instead",
    )
    .elsewhere("Flatpak allows"),
];
