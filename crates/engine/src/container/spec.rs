//! What a container is made of, as data that can be compared and shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Labels;

/// A container to be made. It is never restarted by the engine, has no health check, and no init of the engine's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// By which it is found.
    pub name: String,
    /// Reference or id of its image.
    pub image: String,
    /// Program and first arguments; the image's if empty.
    pub entrypoint: Vec<String>,
    /// Further arguments; the image's if empty and there is no `entrypoint`.
    pub command: Vec<String>,
    /// `uid:gid` or names of the image; the image's if `None`.
    pub user: Option<String>,
    /// Groups besides, by number or by names of the image.
    pub groups: Vec<String>,
    /// Variables; the image's are there too. The engine keeps them and shows them to all its users: no secrets.
    pub environment: BTreeMap<String, String>,
    /// Absolute path; the image's if `None`.
    pub working_directory: Option<String>,
    /// Labels; the image's are there too.
    pub labels: Labels,
    /// Its host name; the engine's choice if `None`.
    pub hostname: Option<String>,
    /// `none`, `bridge`, `host`, or the name of a network.
    pub network: String,
    /// Name servers. Not with the network `none` on podman.
    pub dns: Vec<String>,
    /// Capabilities that it loses, such as `ALL`.
    pub drop_capabilities: Vec<String>,
    /// Capabilities that it has besides, such as `NET_ADMIN`.
    pub add_capabilities: Vec<String>,
    /// Such as `no-new-privileges` or `seccomp={…}`, the profile itself and not its file.
    pub security_options: Vec<String>,
    /// Settings of its namespaces, sysctl(8).
    pub sysctls: BTreeMap<String, String>,
    /// What it may use.
    pub limits: Limits,
    /// Resource limits of its processes, getrlimit(2).
    pub ulimits: Vec<Ulimit>,
    /// What is mounted besides the image.
    pub mounts: Vec<Mount>,
    /// Whether the image's files cannot be written to.
    pub read_only_root: bool,
    /// Whether it has a standard input that can be attached to.
    pub open_stdin: bool,
    /// Whether its standard input closes with the first attachment.
    pub stdin_once: bool,
    /// Whether it has a terminal. [`crate::attach`] is for containers without one.
    pub tty: bool,
    /// Where the engine keeps its output: `none`, `json-file` or another of the engine's.
    pub log_driver: String,
    /// Name of the OCI runtime; the engine's default if `None`.
    pub runtime: Option<String>,
    /// The user namespace: `host`, or `keep-id` on rootless podman; the engine's default if `None`.
    pub user_namespace: Option<String>,
    /// The cgroup namespace: `private` or `host`; the engine's default if `None`.
    pub cgroup_namespace: Option<String>,
    /// Files and folders that it sees empty; the engine's own list if empty. On podman they are besides that list.
    pub masked_paths: Vec<String>,
    /// Files and folders below its `/proc` and `/sys` that it cannot write to; the engine's own list if empty. On podman
    /// it does not see those that podman has not in its own list.
    pub read_only_paths: Vec<String>,
    /// The signal that asks it to end; the image's if `None`.
    pub stop_signal: Option<String>,
    /// Annotations of the OCI runtime. Engines before API 1.43 ignore them.
    pub annotations: BTreeMap<String, String>,
}

/// What a container may use. The engine sets no limit where there is `None`, and may ignore those that
/// [`crate::EnforcedLimits`] does not have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of memory and swap together. The engine allows twice the memory if only that is limited.
    pub memory_and_swap: Option<u64>,
    /// Processor time in billionths of one processor.
    pub nano_cpus: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Bytes of `/dev/shm`.
    pub shm: Option<u64>,
}

/// A resource limit of processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// `nofile`, `nproc`, `core` and so on.
    pub name: String,
    /// What a process begins with.
    pub soft: u64,
    /// To what it can be raised.
    pub hard: u64,
}

/// Something mounted into a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where, as an absolute path.
    pub target: String,
    /// Whether it cannot be written to.
    pub read_only: bool,
    /// What.
    pub kind: MountKind,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountKind {
    /// A volume. The engine makes one that does not exist.
    Volume {
        /// Its name.
        name: String,
        /// Whether it stays empty. Otherwise the first container that mounts it fills it with what its image has
        /// at the target. podman 4 fills it all the same where it is empty.
        no_copy: bool,
    },
    /// A file or folder of the engine's host, which must exist.
    Bind {
        /// Its absolute path.
        source: String,
    },
    /// A file system in memory. It is mounted `nosuid` and `nodev`.
    Tmpfs {
        /// Most bytes in it.
        size: u64,
        /// Permissions of its root directory, as in chmod(2).
        mode: u32,
        /// Whether programs in it can be run.
        exec: bool,
        /// Owner of its root directory; root if `None`. Not on podman.
        owner: Option<(u32, u32)>,
    },
}
