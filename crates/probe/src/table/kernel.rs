//! System calls that would change the bottle or look out of it.

use std::{
    fs,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::{CWD, FileType, Mode},
    mount::{FsOpenFlags, MountFlags, MountPropagationFlags, OpenTreeFlags, UnmountFlags},
    process::{Pid, PidfdFlags, Signal},
    thread::LinkNameSpaceType,
};

use crate::{attempt::Attempt, context::Context, direct, errno, outcome::Observation};

const NAMESPACES: &str = "https://man7.org/linux/man-pages/man7/namespaces.7.html";
const PROC: &str = "https://man7.org/linux/man-pages/man5/proc.5.html";

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt {
        id: "kernel.mount",
        promise: 1,
        what: "mounts a tmpfs, a proc and a sysfs",
        source: "https://man7.org/linux/man-pages/man2/mount.2.html",
        run: |_| {
            Observation::all(["tmpfs", "proc", "sysfs", "devpts", "overlay", "cgroup2"].map(|kind| {
                let mounted = rustix::mount::mount(kind, "/tmp", kind, MountFlags::empty(), None);
                if mounted.is_ok() {
                    // The attempt succeeded; undo its effect.
                    let _ = rustix::mount::unmount("/tmp", UnmountFlags::DETACH);
                }
                errno::by_permission(mounted, "a file system was mounted")
            }))
        },
    },
    Attempt {
        id: "kernel.bind-mount",
        promise: 1,
        what: "binds one folder over another",
        source: "https://man7.org/linux/man-pages/man2/mount.2.html",
        run: |_| {
            let bound = rustix::mount::mount_bind("/usr", "/tmp");
            if bound.is_ok() {
                let _ = rustix::mount::unmount("/tmp", UnmountFlags::DETACH);
            }
            errno::by_permission(bound, "a folder was bound")
        },
    },
    Attempt {
        id: "kernel.remount-writable",
        promise: 1,
        what: "remounts /usr and / writable",
        source: "https://nvd.nist.gov/vuln/detail/CVE-2023-2640",
        run: |_| {
            Observation::all(["/usr", "/", "/etc"].map(|target| {
                errno::by_permission(
                    rustix::mount::mount_remount(target, MountFlags::BIND, ""),
                    "it was remounted",
                )
            }))
        },
    },
    Attempt {
        id: "kernel.unmount",
        promise: 1,
        what: "unmounts what covers the host's files: /proc, /dev, /tmp, /etc/resolv.conf",
        source: "https://man7.org/linux/man-pages/man7/mount_namespaces.7.html",
        run: |_| {
            Observation::all(["/proc", "/dev", "/tmp", "/etc/resolv.conf", "/home"].map(|target| {
                errno::by_permission(rustix::mount::unmount(target, UnmountFlags::DETACH), "it was unmounted")
            }))
        },
    },
    Attempt {
        id: "kernel.propagation",
        promise: 1,
        what: "makes the mounts shared, so that they would travel to the host",
        source: "https://docs.kernel.org/filesystems/sharedsubtree.html",
        run: |_| {
            errno::by_permission(
                rustix::mount::mount_change("/", MountPropagationFlags::SHARED),
                "it is shared",
            )
        },
    },
    Attempt {
        id: "kernel.new-mount-api",
        promise: 1,
        what: "uses the newer calls for mounts: fsopen, open_tree",
        source: "https://nvd.nist.gov/vuln/detail/CVE-2022-0185",
        run: |_| {
            let opened = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC);
            let tree = rustix::mount::open_tree(CWD, "/", OpenTreeFlags::OPEN_TREE_CLONE);
            Observation::all([
                errno::by_permission(opened, "a file system was opened"),
                errno::by_permission(tree, "a tree of mounts was cloned"),
            ])
        },
    },
    Attempt {
        id: "kernel.pivot-root",
        promise: 1,
        what: "changes the root of the file system",
        source: "https://man7.org/linux/man-pages/man2/pivot_root.2.html",
        run: |_| errno::by_permission(rustix::process::pivot_root("/", "/"), "the root was changed"),
    },
    Attempt {
        id: "kernel.chroot",
        promise: 1,
        what: "changes its own root, the first step of the classic way out of one",
        source: "https://man7.org/linux/man-pages/man2/chroot.2.html",
        run: |_| errno::by_permission(rustix::process::chroot("/"), "chroot was allowed"),
    },
    Attempt {
        id: "kernel.mknod",
        promise: 1,
        what: "makes a device node for the host's disk and for its memory",
        source: "https://man7.org/linux/man-pages/man2/mknod.2.html",
        run: |_| {
            Observation::all([(8, 0, FileType::BlockDevice), (1, 1, FileType::CharacterDevice)].map(
                |(major, minor, kind)| {
                    let path = "/tmp/probe-device";
                    let device = rustix::fs::makedev(major, minor);
                    let made = rustix::fs::mknodat(CWD, path, kind, Mode::RUSR | Mode::WUSR, device);
                    if made.is_ok() {
                        let _ = fs::remove_file(path);
                    }
                    errno::by_permission(made, "a device node was made")
                },
            ))
        },
    },
    Attempt {
        id: "kernel.host-name",
        promise: 1,
        what: "changes the host name",
        source: "https://man7.org/linux/man-pages/man2/sethostname.2.html",
        run: |_| {
            let current = rustix::system::uname();
            let set = rustix::system::sethostname(current.nodename().to_bytes());
            errno::by_permission(set, "the host name was set")
        },
    },
    Attempt {
        id: "kernel.join-namespaces",
        promise: 1,
        what: "joins the namespaces of the bottle's first process",
        source: "https://man7.org/linux/man-pages/man2/setns.2.html",
        run: |_| {
            Observation::all(["net", "mnt", "pid", "user", "ipc", "uts", "cgroup"].map(|kind| {
                match fs::File::open(format!("/proc/1/ns/{kind}")) {
                    Err(error) => Observation::refused(errno::name(&error)),
                    Ok(namespace) => join(namespace.into()),
                }
            }))
        },
    },
    Attempt {
        id: "kernel.signal-first-process",
        promise: 12,
        what: "kills and stops the bottle's first process",
        source: "https://man7.org/linux/man-pages/man7/pid_namespaces.7.html",
        run: |_| Observation::all([Signal::KILL, Signal::STOP].map(signal_first)),
    },
    Attempt {
        id: "kernel.signal-everyone",
        promise: 12,
        what: "looks for processes outside by signalling every pid up to 5000",
        source: "https://man7.org/linux/man-pages/man7/pid_namespaces.7.html",
        run: signal_everyone,
    },
    Attempt {
        id: "kernel.descriptors-of-others",
        promise: 1,
        what: "takes descriptors of the bottle's first process by pidfd_getfd",
        source: "https://man7.org/linux/man-pages/man2/pidfd_getfd.2.html",
        run: |_| {
            let Some(first) = Pid::from_raw(1) else { return Observation::inconclusive("no pid 1") };
            match rustix::process::pidfd_open(first, PidfdFlags::empty()) {
                Err(error) => Observation::refused(errno::name(&error.into())),
                Ok(pidfd) => Observation::all((0..16).map(|number| {
                    let flags = rustix::process::PidfdGetfdFlags::empty();
                    errno::by_permission(
                        rustix::process::pidfd_getfd(pidfd.as_fd(), number, flags),
                        "a descriptor of pid 1",
                    )
                })),
            }
        },
    },
    Attempt {
        id: "kernel.no-new-privileges",
        promise: 1,
        what: "looks whether a setuid program could gain anything",
        source: "https://docs.kernel.org/userspace-api/no_new_privs.html",
        run: |_| status("NoNewPrivs", |value| value == "1"),
    },
    Attempt {
        id: "kernel.capabilities",
        promise: 1,
        what: "looks for capabilities: effective, permitted, inheritable, ambient and bounding",
        source: "https://man7.org/linux/man-pages/man7/capabilities.7.html",
        run: |_| {
            let none = |value: &str| value.bytes().all(|digit| digit == b'0');
            Observation::all(["CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd"].map(|set| status(set, none)))
        },
    },
    Attempt {
        id: "kernel.seccomp",
        promise: 1,
        what: "looks whether system calls are filtered",
        source: "https://man7.org/linux/man-pages/man2/seccomp.2.html",
        run: |_| status("Seccomp", |value| value == "2"),
    },
    Attempt {
        id: "kernel.namespaces-are-own",
        promise: 1,
        what: "compares its namespaces with the host's",
        source: NAMESPACES,
        run: |context| own_namespaces(context, |kind| kind != "user"),
    },
    Attempt {
        id: "kernel.user-namespace-is-own",
        promise: 1,
        what: "compares its user namespace with the host's, in which its user would be one of the host's",
        source: "https://man7.org/linux/man-pages/man7/user_namespaces.7.html",
        run: |context| own_namespaces(context, |kind| kind == "user"),
    },
    Attempt {
        id: "kernel.other-processes",
        promise: 1,
        what: "reads the command lines of processes that are not the bottle's",
        source: PROC,
        run: other_processes,
    },
    Attempt {
        id: "kernel.escape-to-kernel-thread",
        promise: 1,
        what: "looks for kernel threads, which only the first pid namespace has",
        source: "https://man7.org/linux/man-pages/man7/pid_namespaces.7.html",
        run: |_| match fs::read_to_string("/proc/2/comm") {
            Ok(name) if name.trim() == "kthreadd" => Observation::reached("kthreadd"),
            Ok(name) => Observation::refused(format!("pid 2 is the bottle's own {}", name.trim())),
            Err(error) => Observation::refused(errno::name(&error)),
        },
    },
];

fn join(namespace: OwnedFd) -> Observation {
    for kind in [LinkNameSpaceType::Network, LinkNameSpaceType::Mount, LinkNameSpaceType::User] {
        if rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(kind)).is_ok() {
            return Observation::reached("the namespace was joined");
        }
    }
    errno::by_permission(
        rustix::thread::move_into_link_name_space(namespace.as_fd(), None),
        "the namespace was joined",
    )
}

/// Signals process 1 from inside its pid namespace, which has no effect unless process 1 has a handler
/// (pid_namespaces(7)).
fn signal_first(signal: Signal) -> Observation {
    let Some(first) = Pid::from_raw(1) else { return Observation::inconclusive("no pid 1") };
    match rustix::process::kill_process(first, signal) {
        Err(error) => Observation::refused(errno::name(&error.into())),
        Ok(()) => match fs::read_to_string("/proc/1/stat") {
            Ok(stat) if stat.contains(") T ") => Observation::reached("pid 1 is stopped"),
            // `/proc/1` may be hidden. Had process 1 ended, this process would have too; had it stopped, the
            // bottle would never end and the run would time out outside.
            Ok(_) | Err(_) => Observation::refused("the kernel drops it"),
        },
    }
}

fn status(field: &str, as_it_must_be: impl Fn(&str) -> bool) -> Observation {
    match fs::read_to_string("/proc/self/status") {
        Err(error) => Observation::inconclusive(errno::name(&error)),
        Ok(text) => {
            match text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).map(str::trim) {
                None => Observation::inconclusive(format!("the kernel does not tell {field}")),
                Some(value) if as_it_must_be(value) => Observation::refused(format!("{field} is {value}")),
                Some(value) => Observation::reached(format!("{field} is {value}")),
            }
        }
    }
}

fn own_namespaces(context: &Context, compared: impl Fn(&str) -> bool) -> Observation {
    let host = context.host_namespaces.iter().filter(|(kind, _)| compared(kind));
    Observation::all(host.map(|(kind, on_the_host)| match fs::read_link(format!("/proc/self/ns/{kind}")) {
        Err(error) => Observation::inconclusive(errno::name(&error)),
        Ok(here) if here.to_string_lossy() == on_the_host.as_str() => {
            Observation::reached(format!("the {kind} namespace is the host's"))
        }
        Ok(_) => Observation::refused("every namespace is the bottle's own"),
    }))
}

/// Searches other processes for the launcher and the gateway, which have the path of the operator's
/// bot-bottle folder in their command line or environment. Inside the bottle only processes that run this
/// script have it.
fn other_processes(context: &Context) -> Observation {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Observation::inconclusive("/proc cannot be read");
    };
    let own = rustix::process::getpid().as_raw_nonzero().get().to_string();
    let marker = context.bot_bottle_home.display().to_string();
    let mut count = 0;
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.bytes().all(|byte| byte.is_ascii_digit()) || name == own {
            continue;
        }
        count += 1;
        for file in ["cmdline", "environ"] {
            let text = fs::read(entry.path().join(file)).unwrap_or_default();
            let script = text.starts_with(b"bot-bottle") && direct::contains(&text, context.mark.as_bytes());
            if !script && direct::contains(&text, marker.as_bytes()) {
                return Observation::reached(format!("{file} of process {name}"));
            }
            if context.planted.occurs_in(&text) {
                return Observation::reached(format!("the credential, in {file} of process {name}"));
            }
        }
    }
    Observation::refused(format!("{count} other processes, all of the bottle"))
}

fn signal_everyone(_scene: &Context) -> Observation {
    let visible: Vec<i32> = (1..=5000)
        .filter_map(Pid::from_raw)
        .filter(|pid| !matches!(rustix::process::test_kill_process(*pid), Err(rustix::io::Errno::SRCH)))
        .map(|pid| pid.as_raw_nonzero().get())
        .collect();
    // A bottle has process 1, this process, and perhaps its parent.
    if visible.len() <= 16 {
        Observation::refused(format!("{} processes answer", visible.len()))
    } else {
        Observation::reached(format!("{} processes answer", visible.len()))
    }
}
