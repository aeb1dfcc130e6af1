//! Files by which the kernel tells about the host, or by which it is acted on. A bottle has none of them,
//! whatever the backend.

/// Files of `/proc` that tell about the host or act on it, as container engines hide them.
pub(crate) const MASKED: [&str; 22] = [
    "/proc/acpi",
    "/proc/asound",
    // What the host was booted with, which has been a place for passwords.
    "/proc/cmdline",
    "/proc/interrupts",
    "/proc/iomem",
    "/proc/ioports",
    // Where the kernel's code lies, on a host that does not hide it (kernel.kptr_restrict).
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/keys",
    "/proc/key-users",
    // Memory of the whole host, which only the files' mode protects from users other than the host's root.
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/latency_stats",
    "/proc/pagetypeinfo",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/slabinfo",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/vmallocinfo",
    "/proc/driver",
];

/// Parts of `/proc` that the kernel would let its owner write to.
pub(crate) const READ_ONLY: [&str; 6] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    // Every line that is written there is a trigger in the kernel.
    "/proc/pressure",
    "/proc/sys",
    "/proc/sysrq-trigger",
];
