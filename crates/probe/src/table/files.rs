//! `/proc`, `/sys`, `/dev` and other files of the kernel and the host.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::symlink,
    path::Path,
};

use crate::{attempt::Attempt, context::Context, errno, outcome::Observation};

const PROC: &str = "https://man7.org/linux/man-pages/man5/proc.5.html";
const SYSCTL: &str = "https://docs.kernel.org/admin-guide/sysctl/kernel.html";

/// The allowed entries of a bottle's `/dev`.
const HARMLESS_DEVICES: [&str; 16] = [
    "null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "pts", "shm", "mqueue", "fd",
    "stdin", "stdout", "stderr", "core",
];

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt {
        id: "kernel.environment-of-first-process",
        promise: 4,
        what: "reads the environment of the bottle's first process",
        source: PROC,
        run: |_| read("/proc/1/environ"),
    },
    Attempt {
        id: "kernel.memory-of-first-process",
        promise: 4,
        what: "opens the memory of the bottle's first process",
        source: PROC,
        run: |_| {
            errno::by_absence(OpenOptions::new().read(true).write(true).open("/proc/1/mem"), "/proc/1/mem")
        },
    },
    Attempt {
        id: "kernel.root-of-first-process",
        promise: 1,
        what: "looks through the root and the working directory of the bottle's first process",
        source: PROC,
        run: |_| {
            Observation::all(
                ["/proc/1/root/", "/proc/1/cwd/", "/proc/1/fd/"]
                    .map(|path| errno::by_absence(fs::read_dir(path), path)),
            )
        },
    },
    Attempt {
        id: "kernel.namespaces-of-first-process",
        promise: 1,
        what: "opens the namespaces of the bottle's first process",
        source: "https://man7.org/linux/man-pages/man7/namespaces.7.html",
        run: |_| {
            Observation::all(
                ["net", "mnt", "user", "pid"]
                    .map(|kind| errno::by_absence(fs::File::open(format!("/proc/1/ns/{kind}")), kind)),
            )
        },
    },
    Attempt {
        id: "kernel.boot-parameters",
        promise: 1,
        what: "reads what the host was booted with, and where its kernel lies in memory",
        source: PROC,
        run: |_| {
            Observation::all(["/proc/cmdline", "/proc/kallsyms", "/proc/iomem"].map(|path| {
                match fs::read(path) {
                    Ok(content) if content.is_empty() => Observation::refused("it is empty"),
                    Ok(_) => Observation::reached(path),
                    Err(error) => Observation::refused(errno::name(&error)),
                }
            }))
        },
    },
    Attempt {
        id: "kernel.sysctl",
        promise: 1,
        what: "opens the kernel's settings for writing: forwarding, redirects, host name, user namespaces",
        source: SYSCTL,
        run: |_| {
            writable(&[
                "/proc/sys/net/ipv4/ip_forward",
                "/proc/sys/net/ipv4/conf/all/route_localnet",
                "/proc/sys/net/ipv4/ping_group_range",
                "/proc/sys/net/ipv4/ip_unprivileged_port_start",
                "/proc/sys/kernel/hostname",
                "/proc/sys/user/max_user_namespaces",
                "/proc/sys/vm/overcommit_memory",
                "/proc/sys/fs/binfmt_misc/register",
            ])
        },
    },
    Attempt {
        id: "kernel.core-pattern",
        promise: 1,
        what: "opens the programs that the host's kernel runs by itself: core_pattern, modprobe, uevent_helper",
        source: "https://man7.org/linux/man-pages/man5/core.5.html",
        run: |_| {
            writable(&[
                "/proc/sys/kernel/core_pattern",
                "/proc/sys/kernel/modprobe",
                "/proc/sys/kernel/hotplug",
                "/proc/sys/kernel/usermodehelper/bset",
                "/sys/kernel/uevent_helper",
            ])
        },
    },
    Attempt {
        id: "kernel.release-agent",
        promise: 1,
        what: "opens the release agent of control groups, which the host's kernel runs as root",
        source: "https://nvd.nist.gov/vuln/detail/CVE-2022-0492",
        run: |_| {
            writable(&[
                "/sys/fs/cgroup/release_agent",
                "/sys/fs/cgroup/memory/release_agent",
                "/sys/fs/cgroup/pids/release_agent",
                "/sys/fs/cgroup/systemd/release_agent",
                "/sys/fs/cgroup/unified/cgroup.procs",
                "/sys/fs/cgroup/cgroup.procs",
            ])
        },
    },
    Attempt {
        id: "kernel.sysrq",
        promise: 1,
        what: "opens the trigger that reboots the host",
        source: "https://docs.kernel.org/admin-guide/sysrq.html",
        run: |_| writable(&["/proc/sysrq-trigger"]),
    },
    Attempt {
        id: "kernel.memory-of-the-host",
        promise: 1,
        what: "opens the host's memory: kcore, kmem, mem, kmsg, kpagemap",
        source: PROC,
        run: |_| {
            Observation::all(
                ["/proc/kcore", "/dev/mem", "/dev/kmem", "/dev/kmsg", "/proc/kmsg", "/proc/kpagecount"]
                    .map(read),
            )
        },
    },
    Attempt {
        id: "kernel.sys",
        promise: 1,
        what: "looks for the host's devices and kernel in /sys",
        source: "https://man7.org/linux/man-pages/man5/sysfs.5.html",
        run: |_| match fs::read_dir("/sys").map(Iterator::count) {
            Err(error) => Observation::refused(errno::name(&error)),
            Ok(0) => Observation::refused("/sys is empty"),
            Ok(count) => Observation::reached(format!("{count} entries in /sys")),
        },
    },
    Attempt {
        id: "kernel.devices",
        promise: 1,
        what: "looks for devices in /dev: disks, /dev/kvm, /dev/fuse, /dev/net/tun, terminals of others",
        source: "https://docs.kernel.org/admin-guide/devices.html",
        run: devices,
    },
    Attempt {
        id: "kernel.open-descriptors",
        promise: 1,
        what: "looks for descriptors that whoever started it left open",
        source: "https://nvd.nist.gov/vuln/detail/CVE-2024-21626",
        run: descriptors,
    },
    Attempt {
        id: "kernel.own-working-directory",
        promise: 1,
        what: "looks whether its working directory lies outside its root",
        source: "https://nvd.nist.gov/vuln/detail/CVE-2024-21626",
        run: |_| match fs::read_link("/proc/self/cwd") {
            Ok(path) if path.is_absolute() && !path.to_string_lossy().starts_with("(unreachable)") => {
                Observation::refused("it lies inside")
            }
            Ok(path) => Observation::reached(path.display().to_string()),
            Err(error) => Observation::inconclusive(errno::name(&error)),
        },
    },
    Attempt {
        id: "kernel.shadow",
        promise: 4,
        what: "reads the host's password hashes",
        source: "https://man7.org/linux/man-pages/man5/shadow.5.html",
        run: |_| Observation::all(["/etc/shadow", "/etc/gshadow", "/etc/sudoers"].map(read)),
    },
    Attempt {
        id: "kernel.write-system",
        promise: 1,
        what: "writes files to /usr, /etc, /opt, /bin, /lib, /var and /",
        source: "https://man7.org/linux/man-pages/man2/open.2.html",
        run: |_| {
            Observation::all(
                ["/usr", "/usr/bin", "/usr/local/bin", "/etc", "/etc/ssl/certs", "/opt", "/bin", "/lib", "/"]
                    .into_iter()
                    .filter(|folder| Path::new(folder).is_dir())
                    .map(create_in),
            )
        },
    },
    Attempt {
        id: "kernel.write-trust",
        promise: 10,
        what: "changes what the bottle trusts and is told: CA bundle, passwd, hosts, ld.so.preload",
        source: "https://man7.org/linux/man-pages/man8/ld.so.8.html",
        run: |s| {
            let bundle = s.ca_bundle.display().to_string();
            Observation::all([
                writable(&[bundle.as_str(), "/etc/passwd", "/etc/hosts", "/etc/resolv.conf"]),
                create_in("/etc/ld.so.conf.d"),
            ])
        },
    },
    Attempt {
        id: "kernel.symlink-out",
        promise: 13,
        what: "reads the operator's file through a symbolic link in the workspace",
        source: "https://cwe.mitre.org/data/definitions/61.html",
        run: |s| {
            let link = format!("probe-link-{}", std::process::id());
            if let Err(error) = symlink(&s.secret_file, &link) {
                return Observation::inconclusive(errno::name(&error));
            }
            let seen = fs::read(&link);
            let removed = fs::remove_file(&link);
            match (seen, removed) {
                (Err(error), _) => Observation::refused(errno::name(&error)),
                (Ok(_), _) => Observation::reached("the operator's file"),
            }
        },
    },
    Attempt {
        id: "kernel.hard-link-out",
        promise: 13,
        what: "makes hard links in the workspace to files of the system",
        source: "https://docs.kernel.org/admin-guide/sysctl/fs.html#protected-hardlinks",
        run: |_| {
            Observation::all(["/etc/passwd", "/usr/bin/env", "/proc/self/exe"].map(|target| {
                let link = format!("probe-link-{}", std::process::id());
                let made = fs::hard_link(target, &link);
                if made.is_ok() {
                    let _ = fs::remove_file(&link);
                }
                errno::by_absence(made, target)
            }))
        },
    },
    Attempt {
        id: "kernel.own-program",
        promise: 1,
        what: "writes to the program that runs it, which the host runs as well",
        source: "https://nvd.nist.gov/vuln/detail/CVE-2019-5736",
        run: |_| match OpenOptions::new().write(true).open("/proc/self/exe") {
            // ETXTBSY is checked before the read-only mount, so it proves nothing about the mount.
            Err(error) if error.raw_os_error() == Some(libc::ETXTBSY) => {
                match fs::File::open("/proc/self/exe").map(rustix::fs::fstatvfs) {
                    Ok(Ok(mount)) if mount.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) => {
                        Observation::refused("EROFS once it ends")
                    }
                    _ => Observation::reached("writable once it ends"),
                }
            }
            other => errno::by_absence(other, "the program"),
        },
    },
    Attempt {
        id: "kernel.setuid-file",
        promise: 1,
        what: "makes a setuid copy of a program where the host could see it run",
        source: "https://man7.org/linux/man-pages/man2/chmod.2.html",
        run: setuid_file,
    },
];

fn read(path: impl AsRef<Path>) -> Observation {
    let path = path.as_ref();
    match fs::File::open(path).and_then(|mut file| std::io::Read::read(&mut file, &mut [0; 64])) {
        Err(error) => Observation::refused(errno::name(&error)),
        Ok(0) => Observation::refused("it is empty"),
        Ok(_) => Observation::reached(path.display().to_string()),
    }
}

/// Opens files for writing and writes nothing.
fn writable(paths: &[&str]) -> Observation {
    Observation::all(
        paths.iter().map(|path| errno::by_absence(OpenOptions::new().write(true).open(path), path)),
    )
}

fn create_in(folder: &str) -> Observation {
    let path = Path::new(folder).join(format!(".probe-{}", std::process::id()));
    let made = OpenOptions::new().write(true).create_new(true).open(&path);
    if made.is_ok() {
        let _ = fs::remove_file(&path);
    }
    errno::by_absence(made, folder)
}

fn devices(_scene: &Context) -> Observation {
    let entries = match fs::read_dir("/dev") {
        Err(error) => return Observation::refused(errno::name(&error)),
        Ok(entries) => entries,
    };
    let others: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !HARMLESS_DEVICES.contains(&name.as_str()))
        .collect();
    match others.as_slice() {
        [] => Observation::refused("only harmless ones are there"),
        [first, ..] => Observation::reached(format!("/dev/{first} and {} more", others.len() - 1)),
    }
}

fn descriptors(_scene: &Context) -> Observation {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        return Observation::inconclusive("/proc/self/fd cannot be read");
    };
    // Collect first: the directory listing holds a descriptor itself, which is closed afterwards.
    let numbers: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let open: Vec<String> = numbers
        .iter()
        .filter(|number| !matches!(number.as_str(), "0" | "1" | "2"))
        .filter_map(|number| {
            let target = fs::read_link(format!("/proc/self/fd/{number}")).ok()?;
            Some(format!("{number} is {}", target.display()))
        })
        .collect();
    let standard_are_files_outside = ["0", "1", "2"].iter().find_map(|number| {
        let target = fs::read_link(format!("/proc/self/fd/{number}")).ok()?;
        target.is_dir().then(|| format!("{number} is the folder {}", target.display()))
    });
    match open.first().cloned().or(standard_are_files_outside) {
        None => Observation::refused("only standard input, output and error are open"),
        Some(found) => Observation::reached(found),
    }
}

fn setuid_file(_scene: &Context) -> Observation {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let path = format!("probe-setuid-{}", std::process::id());
    let made = fs::write(&path, "#!/bin/sh\n")
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)))
        .and_then(|()| fs::metadata(&path));
    let _ = fs::remove_file(&path);
    match made {
        Err(error) => Observation::refused(errno::name(&error)),
        // A set-user-ID file of the bottle's own unprivileged user gives no rights.
        Ok(file) if file.mode() & 0o4000 != 0 && file.uid() == 0 => {
            Observation::reached("a setuid file of root")
        }
        Ok(_) => Observation::refused("it belongs to the bottle's own user"),
    }
}
