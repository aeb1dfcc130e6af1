//! Files of the host: reached by a magic link of `/proc`, changed, or read where they should be hidden.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, StatVfsMountFlags, Timespec, Timestamps, XattrFlags, fstatvfs, setxattr, utimensat};

use crate::{attempt::Attempt, errno, outcome::Observation};

const MAGIC_LINKS: &str = "https://nvd.nist.gov/vuln/detail/CVE-2019-5736";

/// Where a bottle may write.
const WRITABLE: [&str; 8] = [
    "/home/agent",
    "/home/agent/workspace",
    "/tmp",
    "/var/tmp",
    "/run",
    "/dev/shm",
    "/dev/pts",
    // Not files of a disk, and with attempts of their own.
    "/proc",
];

/// Settings of the whole system, outside `/etc` or for every shell, in which people keep tokens.
const SETTINGS: [&str; 14] = [
    "/etc/bash.bashrc",
    "/etc/environment",
    "/etc/npmrc",
    "/etc/pip.conf",
    "/etc/profile",
    "/etc/profile.d",
    "/usr/etc/gitconfig",
    "/usr/etc/npmrc",
    "/usr/local/cargo/credentials.toml",
    "/usr/local/etc/gitconfig",
    "/usr/local/etc/npmrc",
    "/usr/local/etc/pip.conf",
    "/usr/local/share/.npmrc",
    "/usr/share/maven/conf/settings.xml",
];

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt {
        id: "kernel.files-behind-links",
        promise: 15,
        what: "looks for a file on a writable mount of the host behind every link of every process",
        source: MAGIC_LINKS,
        run: |_| files_behind_links(),
    },
    Attempt {
        id: "kernel.mode-of-own-program",
        promise: 15,
        what: "changes the mode, the times and the attributes of the program that runs it",
        source: MAGIC_LINKS,
        run: |_| change(Path::new("/proc/self/exe")),
    },
    Attempt {
        id: "kernel.device-modes",
        promise: 15,
        what: "changes the modes, the times and the attributes of the host's device nodes",
        source: "https://man7.org/linux/man-pages/man2/chmod.2.html",
        run: |_| {
            let nodes = ["/dev/full", "/dev/null", "/dev/random", "/dev/tty", "/dev/urandom", "/dev/zero"];
            Observation::all(nodes.map(|path| change(Path::new(path))))
        },
    },
    Attempt {
        id: "kernel.first-process-by-group",
        promise: 1,
        what: "looks at the bottle's first process, as a member of a group that hidepid spares could",
        source: "https://docs.kernel.org/filesystems/proc.html",
        run: |_| {
            Observation::all(["environ", "maps", "root/etc", "cwd/.", "fd/0"].map(|name| {
                let path = format!("/proc/1/{name}");
                match fs::File::open(&path) {
                    Ok(_) => Observation::reached(path),
                    Err(error) => Observation::refused(errno::name(&error)),
                }
            }))
        },
    },
    Attempt {
        id: "kernel.system-settings",
        promise: 4,
        what: "reads settings of the whole system in which tools keep credentials",
        source: "https://docs.npmjs.com/cli/configuring-npm/npmrc",
        run: |_| {
            Observation::all(SETTINGS.map(|path| match fs::metadata(path) {
                Ok(_) => Observation::reached(path),
                Err(error) => Observation::refused(errno::name(&error)),
            }))
        },
    },
];

/// Tries three changes without lasting effect: setting the same mode, the access time, an attribute that is
/// removed again.
fn change(path: &Path) -> Observation {
    let mode = fs::metadata(path).and_then(|metadata| {
        fs::set_permissions(path, Permissions::from_mode(metadata.permissions().mode() & 0o7777))
    });
    let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    let untouched = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
    let times = Timestamps { last_access: now, last_modification: untouched };
    let times = utimensat(CWD, path, &times, rustix::fs::AtFlags::empty()).map_err(io::Error::from);
    let name = "user.bot-bottle-probe";
    let attribute = setxattr(path, name, b"x", XattrFlags::empty()).map_err(io::Error::from);
    if attribute.is_ok() {
        let _ = rustix::fs::removexattr(path, name);
    }
    let tried = [("mode", mode), ("times", times), ("attribute", attribute)];
    Observation::all(tried.map(|(what, result)| match result {
        Ok(()) => Observation::reached(format!("the {what} of {}", path.display())),
        // Any error means that the file is unchanged.
        Err(error) => Observation::refused(errno::name(&error)),
    }))
}

fn files_behind_links() -> Observation {
    let Ok(own) = own_mounts() else {
        return Observation::inconclusive("/proc/self/mountinfo cannot be read");
    };
    let mut looked_at = 0;
    for link in magic_links() {
        // O_PATH opens regardless of owner and type; only the mount matters.
        let held = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(&link);
        let Ok(held) = held else { continue };
        let Some(mount) = mount_of(&held) else { continue };
        let Ok(kind) = held.metadata().map(|metadata| metadata.file_type()) else { continue };
        looked_at += 1;
        let is_file = kind.is_file() || kind.is_dir();
        if !is_file || own.contains(&mount) || is_in_memory(&link) {
            continue;
        }
        match fstatvfs(&held) {
            Ok(status) if status.f_flag.contains(StatVfsMountFlags::RDONLY) => {}
            _ => return Observation::reached(format!("{} is on a writable mount", link.display())),
        }
    }
    match looked_at {
        // The list has at least this process's executable, root and working directory.
        0..3 => Observation::inconclusive("no link could be followed"),
        _ => Observation::refused("every mount of the host is read-only"),
    }
}

/// Descriptors of files that never had a name: sealed memory, for one.
fn is_in_memory(link: &Path) -> bool {
    fs::read_link(link).is_ok_and(|target| target.to_string_lossy().starts_with("/memfd:"))
}

/// Numbers of the mounts where the bottle may write, and of its root, which is the bottle's own on every backend;
/// proc_pid_mountinfo(5).
fn own_mounts() -> io::Result<BTreeSet<String>> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let mounts = table.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (number, at) = (fields.next()?, fields.nth(3)?);
        (at == "/" || WRITABLE.contains(&at)).then(|| number.to_owned())
    });
    Ok(mounts.collect())
}

fn mount_of(held: &File) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", held.as_raw_fd())).ok()?;
    text.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(|number| number.trim().to_owned())
}

/// Every link by which proc(5) leads to a file, of every process that can be seen.
fn magic_links() -> Vec<PathBuf> {
    let mut links = Vec::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        if !process.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        links.extend(["exe", "cwd", "root"].map(|name| process.path().join(name)));
        for folder in ["fd", "map_files"] {
            let entries = fs::read_dir(process.path().join(folder)).into_iter().flatten().flatten();
            links.extend(entries.map(|entry| entry.path()));
        }
    }
    links
}
