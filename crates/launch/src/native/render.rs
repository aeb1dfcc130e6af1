//! From a plan to the spec of a sandbox: pure, so that tests compare whole bottles.

use std::path::{Path, PathBuf};

use bot_bottle_core::plan::{AGENT_PROGRAM_FOLDER, BOTTLE_ADDRESS, BottlePlan};
use serde::{Deserialize, Serialize};

use crate::{
    host::facts::{EntryKind, HostFacts},
    init::spec::{AGENT_USER, Confinement, NetworkSpec},
    inspect::{INSPECTED_HOME, WorkAccess},
    kernel_files::{MASKED, READ_ONLY},
    steps::{
        allocate::RunFolders,
        trust::{BUNDLE_NAME, trust_folder},
    },
};

use super::{
    limits::LimitMeans,
    spec::{Access, NativeSpec, Operation, Tree},
};

/// A program of the host that is mounted at [`AGENT_PROGRAM_FOLDER`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountedProgram {
    /// A folder, which becomes that folder.
    Folder(PathBuf),
    /// Executables, which lie in that folder.
    Files(Vec<MountedFile>),
}

/// An executable of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountedFile {
    /// On the host.
    pub source: PathBuf,
    /// Its name in the bottle.
    pub name: String,
}

/// Where the top layers of overlays are assembled; unmounted before the agent runs.
const OVERLAY_TOP: &str = "/.overlay-top";

/// Folders, links and empty files.
const OVERLAY_TOP_BYTES: u64 = 1 << 20;

/// For every path that is hidden, the folders above it included.
const OVERLAY_TOP_INODES: u64 = 1 << 20;

/// Bytes of a writable folder in memory for each file that it may hold.
const BYTES_PER_INODE: u64 = 16 << 10;

/// Files that the smallest writable folder in memory may hold.
const MIN_INODES: u64 = 4096;

/// Size of `/tmp` and of every other writable folder in memory where no limit says another, in bytes. Memory
/// is used for what is really written.
pub(super) const SCRATCH_BYTES: u64 = 4 << 30;

/// Folders in memory that the bottle may write to, with their modes and their share of [`SCRATCH_BYTES`].
pub(super) const SCRATCH: [(&str, u32, u64); 4] =
    [("/tmp", 0o1777, 1), ("/var/tmp", 0o1777, 4), ("/run", 0o755, 16), ("/dev/shm", 0o1777, 2)];

const DEVICES: [&str; 6] = ["full", "null", "random", "tty", "urandom", "zero"];

/// The spec of a bottle's sandbox.
#[must_use]
pub fn render(
    plan: &BottlePlan,
    facts: &HostFacts,
    folders: &RunFolders,
    program: Option<&MountedProgram>,
    means: &LimitMeans,
) -> NativeSpec {
    let mut root = Root { trees: Vec::new(), operations: Vec::new() };
    root.operations.push(Operation::Tmpfs {
        path: OVERLAY_TOP.into(),
        size: OVERLAY_TOP_BYTES,
        inodes: OVERLAY_TOP_INODES,
        mode: 0o755,
    });
    root.host_programs(facts, program);
    root.etc(plan, facts);
    root.devices(facts);
    root.processes();
    for (path, mode, share) in SCRATCH {
        let size = means.scratch / share;
        let inodes = (size / BYTES_PER_INODE).max(MIN_INODES);
        root.operations.push(Operation::Tmpfs { path: path.into(), size, inodes, mode });
    }
    for path in ["/var/cache", "/var/lib", "/var/log", "/mnt", "/srv", "/root", "/media"] {
        root.directory(path, 0o755);
    }
    root.attach(&folders.trust, trust_folder(plan), Access::ReadOnly, false);
    root.attach(&folders.home, plan.guest.home.clone(), Access::ReadWrite, false);
    if let Some(inspected) = &folders.inspected {
        let access = match inspected.access {
            WorkAccess::Read => Access::ReadOnly,
            WorkAccess::Write => Access::ReadWrite,
        };
        root.attach(&inspected.workspace, plan.guest.workspace.clone(), access, false);
        root.attach(&inspected.home, INSPECTED_HOME.into(), access, false);
    } else if plan.guest.workspace != plan.guest.home {
        root.attach(&folders.workspace, plan.guest.workspace.clone(), Access::ReadWrite, false);
    }
    NativeSpec {
        hostname: "bottle".to_owned(),
        network: NetworkSpec::of_bottle(),
        trees: root.trees,
        operations: root.operations,
        shares: facts.shares.clone(),
        confinement: Confinement {
            user: AGENT_USER,
            processes: Some(means.processes),
            file_size: means.disk.map(|bytes| bytes.0),
            processors: means.processors,
        },
        memory_watch: means.memory_watch.map(|bytes| bytes.0),
    }
}

struct Root {
    trees: Vec<Tree>,
    operations: Vec<Operation>,
}

impl Root {
    fn directory(&mut self, path: impl Into<PathBuf>, mode: u32) {
        self.operations.push(Operation::Directory { path: path.into(), mode });
    }

    fn file(&mut self, path: impl Into<PathBuf>, content: impl Into<String>, mode: u32) {
        self.operations.push(Operation::File { path: path.into(), content: content.into(), mode });
    }

    fn symlink(&mut self, path: impl Into<PathBuf>, target: impl Into<PathBuf>) {
        self.operations.push(Operation::Symlink { path: path.into(), target: target.into() });
    }

    fn attach(&mut self, source: &Path, path: PathBuf, access: Access, recursive: bool) {
        let tree = self.trees.len();
        self.trees.push(Tree { source: source.to_owned(), access, recursive });
        self.operations.push(Operation::Attach { tree, path });
    }

    fn overlay(&mut self, facts: &HostFacts, path: &Path) {
        self.operations.push(Operation::Overlay {
            lower: path.to_owned(),
            top: overlay_top(path),
            path: path.to_owned(),
            hidden: facts.hidden.iter().filter(|hidden| hidden.starts_with(path)).cloned().collect(),
            or_bind: !facts.sockets.iter().any(|folder| folder == path),
        });
    }

    fn host_programs(&mut self, facts: &HostFacts, program: Option<&MountedProgram>) {
        let folder = PathBuf::from(AGENT_PROGRAM_FOLDER);
        let has_opt = facts.top.get(Path::new("/opt")) == Some(&EntryKind::Directory);
        let location = |path: &Path| if has_opt { overlay_top(path) } else { path.to_owned() };
        match program {
            None => {}
            Some(MountedProgram::Folder(_)) => self.directory(location(&folder), 0o755),
            Some(MountedProgram::Files(files)) => {
                files.iter().for_each(|file| self.file(location(&folder.join(&file.name)), "", 0o755));
            }
        }
        for (path, kind) in &facts.top {
            match kind {
                EntryKind::Directory => self.overlay(facts, path),
                EntryKind::Symlink(target) => self.symlink(path, target),
                EntryKind::File => {}
            }
        }
        match program {
            None => {}
            Some(MountedProgram::Folder(source)) => self.attach(source, folder, Access::ReadOnly, false),
            Some(MountedProgram::Files(files)) => files.iter().for_each(|file| {
                self.attach(&file.source, folder.join(&file.name), Access::ReadOnly, false);
            }),
        }
    }

    fn etc(&mut self, plan: &BottlePlan, facts: &HostFacts) {
        let bundle = trust_folder(plan).join(BUNDLE_NAME);
        let mut bundles = facts.bundles.clone();
        if !bundles.contains(&plan.guest.ca_bundle) {
            bundles.push(plan.guest.ca_bundle.clone());
        }
        let overlaid = |path: &Path| {
            facts.etc.iter().any(|(folder, kind)| *kind == EntryKind::Directory && path.starts_with(folder))
        };
        for path in &bundles {
            self.symlink(if overlaid(path) { overlay_top(path) } else { path.clone() }, &bundle);
        }
        for (path, kind) in facts.etc.iter().filter(|(path, _)| !bundles.contains(path)) {
            match kind {
                EntryKind::Directory => self.overlay(facts, path),
                EntryKind::Symlink(target) => self.symlink(path, target),
                EntryKind::File => {
                    self.operations.push(Operation::Copy { source: path.clone(), path: path.clone() });
                }
            }
        }
        self.operations.push(Operation::Directory { path: "/etc".into(), mode: 0o755 });
        let home = plan.guest.home.display();
        self.file(
            "/etc/passwd",
            format!(
                "root:x:0:0:root:/root:/usr/sbin/nologin\n\
                 agent:x:{AGENT_USER}:{AGENT_USER}:agent:{home}:/bin/bash\n\
                 nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
            ),
            0o644,
        );
        self.file("/etc/group", format!("root:x:0:\nagent:x:{AGENT_USER}:\nnogroup:x:65534:\n"), 0o644);
        self.file("/etc/hostname", "bottle\n", 0o644);
        self.file("/etc/hosts", "127.0.0.1 localhost bottle\n::1 localhost ip6-localhost\n", 0o644);
        self.file(
            "/etc/nsswitch.conf",
            "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\n\
             protocols: files\nservices: files\nrpc: files\n",
            0o644,
        );
        let resolver = format!("nameserver {BOTTLE_ADDRESS}\noptions timeout:2 attempts:2\n");
        self.file("/etc/resolv.conf", &resolver, 0o644);
        let trust = trust_folder(plan);
        for file in plan.system_files.iter().filter(|file| !file.path.starts_with(&trust)) {
            self.file(file.path.clone(), file.content.clone(), file.mode & 0o755);
        }
        self.operations.push(Operation::Unmount { path: OVERLAY_TOP.into() });
    }

    fn devices(&mut self, facts: &HostFacts) {
        self.directory("/dev", 0o755);
        for name in DEVICES {
            let path = Path::new("/dev").join(name);
            self.attach(&path.clone(), path, Access::Device, false);
        }
        self.operations.push(Operation::Terminals { path: "/dev/pts".into(), most: facts.shares.terminals });
        for (name, target) in [
            ("ptmx", "pts/ptmx"),
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
        ] {
            self.symlink(Path::new("/dev").join(name), target);
        }
    }

    fn processes(&mut self) {
        self.operations.push(Operation::Processes { path: "/proc".into() });
        for path in MASKED {
            self.operations.push(Operation::Mask { path: path.into() });
        }
        for path in READ_ONLY {
            self.operations.push(Operation::ReadOnly { path: path.into() });
        }
    }
}

/// Where the top layer of the overlay at this path is assembled.
fn overlay_top(path: &Path) -> PathBuf {
    Path::new(OVERLAY_TOP).join(path.strip_prefix("/").unwrap_or(path))
}
