//! What concerns the whole machine, and what is no more.

use super::super::Rule;

pub(super) const RULES: &[Rule] = &[
    Rule::allowed(
        calls![SYS_uname SYS_sysinfo SYS_getrandom],
        "names, sizes and randomness, as in `/proc` and `/dev`",
    ),
    Rule::refused(
        calls![SYS_init_module SYS_finit_module SYS_delete_module SYS_kexec_load SYS_kexec_file_load SYS_reboot],
        "the kernel itself",
    )
    .elsewhere("Flatpak allows; the kernel asks for a capability"),
    Rule::refused(
        calls![SYS_settimeofday SYS_clock_settime SYS_clock_adjtime SYS_adjtimex],
        "clocks are the host's",
    )
    .elsewhere("Docker allows `adjtimex` and `clock_adjtime`, which also read; Flatpak all"),
    Rule::refused(
        calls![SYS_sethostname SYS_setdomainname SYS_swapon SYS_swapoff SYS_acct SYS_vhangup],
        "names, swap, accounting and terminals of the machine",
    )
    .elsewhere("Flatpak allows all but `acct`"),
    Rule::refused(calls![SYS_syslog], "the kernel's log tells its addresses"),
    Rule::refused(
        calls![SYS_bpf SYS_perf_event_open],
        "programs and counters in the kernel (CVE-2021-3490, CVE-2013-2094)",
    )
    .elsewhere("Flatpak allows `bpf`"),
    Rule::refused(
        calls![SYS_add_key SYS_request_key SYS_keyctl],
        "kernel keys are not separated by namespaces (CVE-2016-0728)",
    ),
    Rule::refused(x86_calls![SYS_iopl SYS_ioperm], "ports of devices").elsewhere("Flatpak allows"),
    Rule::refused(
        calls![SYS_lookup_dcookie SYS_nfsservctl],
        "obsolete: for a profiler and a file server",
    )
    .elsewhere("Flatpak allows"),
    Rule::refused(x86_calls![SYS_uselib SYS__sysctl], "obsolete").elsewhere("Flatpak allows `_sysctl`"),
    Rule::unknown(
        x86_calls![
            SYS_create_module SYS_get_kernel_syms SYS_query_module SYS_getpmsg SYS_putpmsg SYS_afs_syscall SYS_tuxcall
            SYS_security SYS_set_thread_area SYS_get_thread_area SYS_epoll_ctl_old SYS_epoll_wait_old SYS_vserver
        ],
        "numbers behind which Linux has nothing any more, or never had",
    )
    .elsewhere("Docker and Flatpak allow some of them"),
];
