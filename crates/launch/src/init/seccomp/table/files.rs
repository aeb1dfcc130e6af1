//! Files, descriptors, and waiting for them.

use super::super::Rule;

pub(super) const RULES: &[Rule] = &[
    Rule::allowed(
        calls![
            SYS_read SYS_write SYS_readv SYS_writev SYS_pread64 SYS_pwrite64 SYS_preadv SYS_pwritev
            SYS_preadv2 SYS_pwritev2 SYS_lseek SYS_sendfile SYS_copy_file_range SYS_splice SYS_tee
            SYS_readahead SYS_fadvise64 SYS_fallocate SYS_truncate SYS_ftruncate
        ],
        "reading and writing",
    ),
    Rule::allowed(
        calls![
            SYS_openat SYS_openat2 SYS_close SYS_close_range SYS_dup SYS_dup3 SYS_fcntl SYS_flock SYS_pipe2
        ],
        "opening, sharing and locking",
    ),
    Rule::allowed(
        calls![
            SYS_fstat SYS_newfstatat SYS_statx SYS_statfs SYS_fstatfs SYS_faccessat SYS_faccessat2 SYS_getdents64
            SYS_readlinkat SYS_getcwd SYS_chdir SYS_fchdir SYS_umask
        ],
        "looking at files and folders",
    ),
    Rule::allowed(
        calls![
            SYS_mkdirat SYS_unlinkat SYS_linkat SYS_symlinkat SYS_renameat SYS_renameat2 SYS_mknodat
            SYS_fchmod SYS_fchmodat SYS_fchmodat2 SYS_fchown SYS_fchownat SYS_utimensat
        ],
        "changing files and folders; `mknod` makes FIFOs, for devices it takes a capability of the host",
    ),
    Rule::allowed(
        x86_calls![
            SYS_open SYS_creat SYS_stat SYS_lstat SYS_access SYS_getdents SYS_readlink SYS_mkdir SYS_rmdir
            SYS_unlink SYS_link SYS_symlink SYS_rename SYS_mknod SYS_chmod SYS_chown SYS_lchown SYS_utime
            SYS_utimes SYS_futimesat SYS_dup2 SYS_pipe SYS_poll SYS_select SYS_epoll_create SYS_epoll_wait
            SYS_eventfd SYS_signalfd SYS_inotify_init
        ],
        "older forms of others here",
    ),
    Rule::allowed(
        calls![
            SYS_setxattr SYS_lsetxattr SYS_fsetxattr SYS_getxattr SYS_lgetxattr SYS_fgetxattr SYS_listxattr
            SYS_llistxattr SYS_flistxattr SYS_removexattr SYS_lremovexattr SYS_fremovexattr SYS_setxattrat
            SYS_getxattrat SYS_listxattrat SYS_removexattrat
        ],
        "extended attributes, by `tar`, `rsync` and `cp`; the kernel keeps those that mean a privilege",
    ),
    Rule::allowed(
        calls![SYS_sync SYS_syncfs SYS_fsync SYS_fdatasync SYS_sync_file_range],
        "making sure that what was written lasts: databases, git, package managers",
    ),
    Rule::allowed(
        calls![
            SYS_ppoll SYS_pselect6 SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2 SYS_eventfd2
            SYS_signalfd4 SYS_inotify_init1 SYS_inotify_add_watch SYS_inotify_rm_watch
        ],
        "waiting: every event loop",
    ),
    Rule::refused(
        calls![
            SYS_mount SYS_umount2 SYS_pivot_root SYS_chroot SYS_move_mount SYS_open_tree SYS_open_tree_attr
            SYS_fsopen SYS_fsconfig SYS_fsmount SYS_fspick SYS_mount_setattr
        ],
        "the bottle's file system stays as it was made; parsing what is mounted is a wide door (CVE-2022-0185)",
    )
    .elsewhere("Flatpak answers the newer ones with `ENOSYS`"),
    Rule::unknown(
        calls![SYS_statmount SYS_listmount],
        "they tell where folders lie on the host; programs read `/proc/self/mountinfo` instead",
    )
    .elsewhere("Docker and Flatpak allow"),
    Rule::refused(
        calls![SYS_open_by_handle_at SYS_name_to_handle_at],
        "opens files without walking to them (CVE-2014-3519)",
    )
    .elsewhere("Docker allows `name_to_handle_at`, Flatpak both"),
    Rule::refused(
        calls![SYS_fanotify_init SYS_fanotify_mark],
        "watches whole mounts, and can hold up who uses them",
    )
    .elsewhere("Docker allows `fanotify_mark`, Flatpak both"),
    Rule::refused(calls![SYS_quotactl SYS_quotactl_fd], "quotas are the host's")
        .elsewhere("Flatpak allows `quotactl_fd`"),
    Rule::unknown(
        calls![SYS_file_getattr SYS_file_setattr],
        "flags and project ids of files (Linux 6.17), which count for quotas; no program needs them yet",
    )
    .elsewhere("Flatpak allows"),
    Rule::unknown(
        calls![SYS_cachestat],
        "tells which parts of a file others have used (CVE-2025-21691); new in Linux 6.5, so programs do without",
    )
    .elsewhere("Docker and Flatpak allow"),
    Rule::unknown(
        calls![SYS_io_setup SYS_io_destroy SYS_io_submit SYS_io_cancel SYS_io_getevents SYS_io_pgetevents],
        "what `io_setup` takes is counted for the whole machine (`fs.aio-max-nr`), so one bottle could leave none to \
         the host's databases; programs fall back to threads",
    )
    .elsewhere("Docker and Flatpak allow"),
    Rule::refused(
        calls![SYS_io_uring_setup SYS_io_uring_enter SYS_io_uring_register],
        "its operations pass by every filter, and its bugs led most kernel exploits of their time",
    )
    .elsewhere("Flatpak allows"),
    Rule::refused(calls![SYS_vmsplice], "gives pages of memory to pipes (CVE-2008-0600)")
        .elsewhere("Docker and Flatpak allow"),
    Rule::refused(x86_calls![SYS_sysfs SYS_ustat], "obsolete, and about the host's file systems")
        .elsewhere("Flatpak allows"),
];
