//! Memory, and what processes share by it.

use libc::{EINVAL, ENOMEM};

use super::{
    super::{Answer, Case, Rule},
    any_of,
};

// linux/mman.h, linux/memfd.h, linux/shm.h
const MAP_HUGETLB: u32 = 0x4_0000;
const MFD_HUGETLB: u32 = 4;
const SHM_HUGETLB: u32 = 0o4000;

pub(super) const RULES: &[Rule] = &[
    Rule::allowed(
        calls![
            SYS_brk SYS_munmap SYS_mremap SYS_mprotect SYS_madvise SYS_msync SYS_mlock SYS_mlock2 SYS_munlock
            SYS_mlockall SYS_munlockall SYS_mseal SYS_membarrier
        ],
        "every allocator and every runtime; what may be locked is limited",
    ),
    Rule::allowed(
        calls![SYS_mincore],
        "libraries that walk stacks ask it whether memory is there; of files it tells only about one's own",
    ),
    Rule::allowed(
        calls![SYS_pkey_alloc SYS_pkey_free SYS_pkey_mprotect SYS_map_shadow_stack],
        "means by which runtimes and the C library protect themselves",
    ),
    Rule::by_argument(
        calls![SYS_mmap],
        &[Case { tests: &[any_of(3, MAP_HUGETLB)], answer: Answer::Refuse(ENOMEM) }],
        Answer::Allow,
        "all but `MAP_HUGETLB`: `ENOMEM`",
        "huge pages are set aside for programs of the host, and are not in the count of a bottle's memory; the \
         answer is that of a host which has none",
    )
    .elsewhere("Docker and Flatpak allow"),
    Rule::by_argument(
        calls![SYS_memfd_create],
        &[Case { tests: &[any_of(1, MFD_HUGETLB)], answer: Answer::Refuse(EINVAL) }],
        Answer::Allow,
        "all but `MFD_HUGETLB`: `EINVAL`",
        "files in memory; huge pages as above",
    )
    .elsewhere("Docker and Flatpak allow"),
    Rule::by_argument(
        calls![SYS_shmget],
        &[Case { tests: &[any_of(2, SHM_HUGETLB)], answer: Answer::Refuse(ENOMEM) }],
        Answer::Allow,
        "all but `SHM_HUGETLB`: `ENOMEM`",
        "shared memory in the bottle's own IPC namespace; huge pages as above",
    )
    .elsewhere("Docker and Flatpak allow"),
    Rule::allowed(
        calls![
            SYS_shmat SYS_shmdt SYS_shmctl SYS_semget SYS_semop SYS_semtimedop SYS_semctl SYS_msgget SYS_msgsnd
            SYS_msgrcv SYS_msgctl SYS_mq_open SYS_mq_unlink SYS_mq_timedsend SYS_mq_timedreceive SYS_mq_notify
            SYS_mq_getsetattr
        ],
        "System V and POSIX IPC: the namespace is the bottle's own",
    ),
    Rule::refused(
        calls![SYS_memfd_secret],
        "memory that neither the operator's search nor the count of a bottle's memory can see",
    )
    .elsewhere("Docker and Flatpak allow"),
    Rule::refused(
        calls![SYS_mbind SYS_set_mempolicy SYS_get_mempolicy SYS_set_mempolicy_home_node SYS_move_pages SYS_migrate_pages],
        "placing memory on nodes: often broken, and libnuma takes this answer for a machine without nodes",
    )
    .elsewhere("Flatpak allows `set_mempolicy_home_node`"),
    Rule::refused(calls![SYS_userfaultfd], "with it races in the kernel are won").elsewhere("Flatpak allows"),
    Rule::refused(
        calls![SYS_process_madvise SYS_process_vm_readv SYS_process_vm_writev],
        "the memory of other processes",
    )
    .elsewhere("Docker allows `process_vm_*`, Flatpak all"),
    Rule::unknown(
        calls![SYS_process_mrelease],
        "frees the memory of a process that is being killed: for daemons that watch over a machine",
    )
    .elsewhere("Docker and Flatpak allow"),
    Rule::unknown(
        calls![SYS_remap_file_pages],
        "since Linux 4.0 an emulation for the programs of old, broken now and then (CVE-2024-47745)",
    )
    .elsewhere("Docker and Flatpak allow"),
];
