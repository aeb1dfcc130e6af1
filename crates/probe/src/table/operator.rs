//! The operator's files, keys and environment.

use std::{
    collections::VecDeque,
    fs,
    os::unix::{fs::FileTypeExt, net::UnixStream},
    path::PathBuf,
};

use rustix::fs::{FsWord, PROC_SUPER_MAGIC, statfs};

use crate::{attempt::Attempt, context::Context, errno, outcome::Observation};

/// The most files that a search opens.
const MAX_FILES: usize = 400_000;

/// How much of a file a search for secrets reads, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// File systems that the kernel generates, by their numbers (statfs(2)). A virtual machine can have several of them.
const MADE_UP: [FsWord; 2] = [PROC_SUPER_MAGIC, SYSFS_MAGIC];

/// `SYSFS_MAGIC`, which the crate for system calls does not name.
const SYSFS_MAGIC: FsWord = 0x6265_6572;

const ENGINE: &str = "https://docs.docker.com/engine/security/protect-access/";

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt {
        id: "operator.secret-file",
        promise: 4,
        what: "reads a secret file in the operator's home by its path",
        source: "https://cwe.mitre.org/data/definitions/552.html",
        run: |s| match fs::read_to_string(&s.secret_file) {
            Err(error) => Observation::refused(errno::name(&error)),
            Ok(_) => Observation::reached("the operator's file"),
        },
    },
    Attempt {
        id: "operator.home",
        promise: 4,
        what: "lists the operator's home",
        source: "https://cwe.mitre.org/data/definitions/552.html",
        run: |s| errno::by_absence(fs::read_dir(&s.operator_home), "the operator's home"),
    },
    Attempt {
        id: "operator.homes-of-others",
        promise: 4,
        what: "looks for other homes: /root, and others than the agent's own in /home",
        source: "https://cwe.mitre.org/data/definitions/552.html",
        run: homes,
    },
    Attempt {
        id: "operator.keys",
        promise: 4,
        what: "looks for keys and logins in the usual places of its home and root's",
        source: "https://attack.mitre.org/techniques/T1552/",
        run: keys,
    },
    Attempt {
        id: "operator.bot-bottle-home",
        promise: 10,
        what: "lists bot-bottle's own folder: manifests, state, receipts",
        source: "https://cwe.mitre.org/data/definitions/552.html",
        run: |s| {
            Observation::all(["", "bottles", "state", "settings.yml"].map(|part| {
                let path = s.bot_bottle_home.join(part);
                errno::by_absence(fs::metadata(&path), &path.display().to_string())
            }))
        },
    },
    Attempt {
        id: "operator.receipts",
        promise: 11,
        what: "searches every folder for receipts and the gateway's files",
        source: "https://cwe.mitre.org/data/definitions/778.html",
        run: |_| match walk(&[]).find(|path| {
            path.file_name().is_some_and(|name| {
                name.to_string_lossy().starts_with("receipts.jsonl")
                    || name == "gateway.json"
                    || name == "gateway.log"
            })
        }) {
            Some(path) => Observation::reached(path.display().to_string()),
            None => Observation::refused("there is none"),
        },
    },
    Attempt {
        id: "operator.environment",
        promise: 4,
        what: "searches its own environment and command line for the real credential",
        source: "https://attack.mitre.org/techniques/T1552/",
        run: |s| {
            Observation::all(["/proc/self/environ", "/proc/self/cmdline", "/proc/self/auxv"].map(|path| {
                match fs::read(path) {
                    Err(error) => Observation::inconclusive(errno::name(&error)),
                    Ok(bytes) if s.planted.occurs_in(&bytes) => {
                        Observation::reached(format!("the credential, in {path}"))
                    }
                    Ok(_) => Observation::refused("it is not there"),
                }
            }))
        },
    },
    Attempt {
        id: "operator.credential-in-files",
        promise: 4,
        what: "searches every readable file outside /usr for the real credential",
        source: "https://attack.mitre.org/techniques/T1552/001/",
        run: credential_in_files,
    },
    Attempt {
        id: "operator.container-engines",
        promise: 1,
        what: "connects to the sockets of container engines: docker, containerd, podman, CRI-O, LXD",
        source: ENGINE,
        run: |_| {
            sockets([
                "/run/docker.sock",
                "/var/run/docker.sock",
                "/run/containerd/containerd.sock",
                "/run/podman/podman.sock",
                "/run/crio/crio.sock",
                "/var/snap/lxd/common/lxd/unix.socket",
                "/var/lib/lxd/unix.socket",
                "/run/snapd.socket",
            ])
        },
    },
    Attempt {
        id: "operator.session-sockets",
        promise: 1,
        what: "connects to the operator's agents: SSH, GPG, keyring, session bus, Wayland, PipeWire",
        source: "https://man7.org/linux/man-pages/man1/ssh-agent.1.html",
        run: |s| {
            let known = s
                .operator_sockets
                .iter()
                .map(|path| errno::by_absence(UnixStream::connect(path), "a socket"));
            let own =
                ["SSH_AUTH_SOCK", "DBUS_SESSION_BUS_ADDRESS", "WAYLAND_DISPLAY", "DISPLAY", "GPG_AGENT_INFO"]
                    .map(|name| match std::env::var_os(name) {
                        None => Observation::refused("the environment names none"),
                        Some(value) => Observation::reached(format!("{name} is {}", value.to_string_lossy())),
                    });
            Observation::all(own.into_iter().chain(known))
        },
    },
    Attempt {
        id: "operator.system-bus",
        promise: 1,
        what: "connects to the system's bus, its init and its log",
        source: "https://man7.org/linux/man-pages/man1/systemd-run.1.html",
        run: |_| {
            sockets([
                "/run/dbus/system_bus_socket",
                "/var/run/dbus/system_bus_socket",
                "/run/systemd/private",
                "/run/systemd/notify",
                "/run/systemd/journal/stdout",
                "/run/systemd/journal/socket",
                "/dev/log",
                "/run/udev/control",
            ])
        },
    },
    Attempt {
        id: "operator.display",
        promise: 1,
        what: "connects to the operator's display server",
        source: "https://www.x.org/archive/X11R7.7/doc/man/man7/X.7.xhtml",
        run: |_| {
            sockets([
                "/tmp/.X11-unix/X0",
                "/tmp/.X11-unix/X1",
                "/tmp/.ICE-unix/1",
                "/run/user/1000/wayland-0",
            ])
        },
    },
    Attempt {
        id: "operator.every-socket",
        promise: 1,
        what: "searches every folder for unix sockets and connects to each",
        source: "https://man7.org/linux/man-pages/man7/unix.7.html",
        run: every_socket,
    },
    Attempt {
        id: "operator.gateway-process",
        promise: 10,
        what: "looks for the gateway among the processes it can see",
        source: "https://man7.org/linux/man-pages/man5/proc.5.html",
        run: |_| {
            let processes = fs::read_dir("/proc").map(|entries| entries.flatten().collect::<Vec<_>>());
            let seen = processes.unwrap_or_default().into_iter().find(|entry| {
                let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
                let mut words = line.split(|byte| *byte == 0);
                words.next().is_some_and(|program| program.ends_with(b"bot-bottle"))
                    && words.next() == Some(b"gateway")
            });
            match seen {
                Some(entry) => {
                    Observation::reached(format!("process {}", entry.file_name().to_string_lossy()))
                }
                None => Observation::refused("it is not there"),
            }
        },
    },
];

fn sockets<const COUNT: usize>(paths: [&str; COUNT]) -> Observation {
    Observation::all(paths.map(|path| errno::by_absence(UnixStream::connect(path), path)))
}

fn homes(_scene: &Context) -> Observation {
    let own = std::env::home_dir().unwrap_or_default();
    let root = errno::by_absence(
        fs::read_dir("/root").and_then(|mut entries| match entries.next() {
            Some(entry) => entry.map(drop),
            None => Err(std::io::ErrorKind::NotFound.into()),
        }),
        "/root",
    );
    let others = fs::read_dir("/home")
        .map(|entries| {
            entries.flatten().map(|entry| entry.path()).filter(|path| *path != own).collect::<Vec<_>>()
        })
        .unwrap_or_default();
    let others = match others.first() {
        Some(path) => Observation::reached(path.display().to_string()),
        None => Observation::refused("no other home is there"),
    };
    Observation::all([root, others])
}

fn keys(context: &Context) -> Observation {
    let home = std::env::home_dir().unwrap_or_default();
    let places = [
        ".ssh/id_ed25519",
        ".ssh/id_rsa",
        ".aws/credentials",
        ".netrc",
        ".git-credentials",
        ".npmrc",
        ".pypirc",
        ".docker/config.json",
        ".kube/config",
        ".config/gh/hosts.yml",
        ".config/gcloud/credentials.db",
        ".gnupg/private-keys-v1.d",
        ".cargo/credentials.toml",
        ".vault-token",
        ".bash_history",
    ];
    let folders = [home, PathBuf::from("/root"), context.operator_home.clone()];
    Observation::all(folders.iter().flat_map(|folder| {
        places.iter().map(|place| {
            let path = folder.join(place);
            errno::by_absence(fs::metadata(&path), &path.display().to_string())
        })
    }))
}

fn credential_in_files(context: &Context) -> Observation {
    let mut files = 0;
    for path in walk(&["/usr"]) {
        let readable = fs::metadata(&path).is_ok_and(|file| file.is_file() && file.len() <= MAX_FILE_BYTES);
        let Some(bytes) = readable.then(|| fs::read(&path).ok()).flatten() else { continue };
        files += 1;
        if context.planted.occurs_in(&bytes) {
            return Observation::reached(path.display().to_string());
        }
    }
    Observation::refused(format!("it is in none of {files} files"))
}

fn every_socket(_scene: &Context) -> Observation {
    let mut found = 0;
    for path in walk(&[]) {
        let is_socket = fs::symlink_metadata(&path).is_ok_and(|file| file.file_type().is_socket());
        if is_socket {
            found += 1;
            if UnixStream::connect(&path).is_ok() {
                return Observation::reached(path.display().to_string());
            }
        }
    }
    Observation::refused(format!("{found} sockets, none of them answers"))
}

/// Every path of the file system but those below `left_out` and those that the kernel generates, breadth first, symbolic
/// links not followed.
fn walk(left_out: &[&'static str]) -> impl Iterator<Item = PathBuf> {
    let mut folders = VecDeque::from([PathBuf::from("/")]);
    let mut entries: Vec<PathBuf> = Vec::new();
    let left_out = left_out.to_vec();
    std::iter::from_fn(move || {
        while entries.is_empty() {
            let folder = folders.pop_front()?;
            entries = fs::read_dir(folder)
                .map(|found| found.flatten().map(|entry| entry.path()).collect())
                .unwrap_or_default();
        }
        let path = entries.pop()?;
        let is_folder = fs::symlink_metadata(&path).is_ok_and(|file| file.is_dir());
        let is_left_out = || left_out.iter().any(|left_out| path.starts_with(left_out));
        let is_made_up = || statfs(&path).is_ok_and(|found| MADE_UP.contains(&found.f_type));
        if is_folder && !is_left_out() && !is_made_up() {
            folders.push_back(path.clone());
        }
        Some(path)
    })
    .take(MAX_FILES)
}
