//! A bottle's share of what the kernel counts for a user or for the whole host, so that one bottle cannot
//! take it from the operator or from another bottle.
//!
//! Where the kernel counts by namespace the bottle's first process lowers the limit of its own one, before it
//! gives up its capabilities; where it counts by user it lowers the resource limit, which the kernel then
//! holds against the whole user namespace of the programs (`set_userns_rlimit_max` in kernel/ucount.c).

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

/// A bottle gets this part of the host's amount, so that the operator and two more bottles can work beside
/// one that has used up its own.
const PART: u64 = 4;

/// The fewest pseudo-terminals that a bottle gets.
const MIN_TERMINALS: u64 = 16;

/// The most pseudo-terminals that a bottle gets.
const MAX_TERMINALS: u64 = 1024;

/// The host's own value, the setting of a namespace that bounds a share of it (namespaces(7), inotify(7)).
const BY_NAMESPACE: [(&str, &str); 2] = [
    ("fs/inotify/max_user_instances", "user/max_inotify_instances"),
    ("fs/inotify/max_user_watches", "user/max_inotify_watches"),
];

/// Settings of an IPC namespace. Kernels let a new one make objects that take more memory than any host has
/// (ipc_namespaces(7), sem(7), proc_sys_kernel(5)); these are what servers and databases need, many times
/// over.
const OBJECTS: [(&str, &str); 4] = [
    // Per set, of all sets, operations per call, sets: those of Linux before 3.19, with four times the sets.
    ("kernel/sem", "250 32000 100 128"),
    ("kernel/msgmni", "256"),
    ("kernel/shmmni", "1024"),
    ("fs/mqueue/queues_max", "64"),
];

/// Resource limits that the kernel counts for a user, of which a bottle gets its part, getrlimit(2).
const BY_USER: [Resource; 3] = [Resource::Sigpending, Resource::Msgqueue, Resource::Memlock];

/// Resource limits that would let a program take priority over others on the host.
const PRIVILEGES: [Resource; 2] = [Resource::Nice, Resource::Rtprio];

/// The shares of one bottle, as data.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shares {
    /// Settings below `/proc/sys` with their values.
    pub settings: Vec<(String, String)>,
    /// Most pseudo-terminals.
    pub terminals: u64,
}

impl Shares {
    /// From what the host has.
    pub(crate) fn of_the_host() -> Self {
        let value = |name: &str| -> Option<u64> {
            fs::read_to_string(format!("/proc/sys/{name}")).ok()?.trim().parse().ok()
        };
        let part = |name: &str| value(name).map(|value| (value / PART).max(1));
        let shares = BY_NAMESPACE
            .iter()
            .filter_map(|(of_host, own)| Some(((*own).to_owned(), part(of_host)?.to_string())));
        let objects = OBJECTS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self {
            settings: shares.chain(objects).collect(),
            terminals: part("kernel/pty/max").unwrap_or(MIN_TERMINALS).clamp(MIN_TERMINALS, MAX_TERMINALS),
        }
    }

    /// Lowers the settings of this process's namespaces. Returns those that could not be lowered: on older
    /// kernels only the host's root may set some.
    pub(super) fn apply(&self) -> Vec<&str> {
        let refused =
            |(name, value): &&(String, String)| fs::write(format!("/proc/sys/{name}"), value).is_err();
        self.settings.iter().filter(refused).map(|(name, _)| name.as_str()).collect()
    }
}

/// Longest core dump, in bytes. Not 0, which does not keep the kernel from giving a core to a program of the
/// host (`core_pattern` with a pipe); at 1 it gives none to anybody, core(5).
pub(super) const CORE_BYTES: u64 = 1;

/// Lowers a resource limit of this process, the soft and the hard one; one that is lower stays.
pub(super) fn lower(resource: Resource, value: u64) -> rustix::io::Result<()> {
    let lowered = getrlimit(resource).maximum.map_or(value, |maximum| maximum.min(value));
    setrlimit(resource, Rlimit { current: Some(lowered), maximum: Some(lowered) })
}

/// Lowers this process's resource limits; before the programs' user namespace is made, which remembers them.
pub(super) fn lower_limits() -> rustix::io::Result<()> {
    for resource in BY_USER {
        let limit = getrlimit(resource);
        // An unlimited resource has no share: the kernel does not count it.
        if let Some(value) = limit.current.or(limit.maximum) {
            lower(resource, value / PART)?;
        }
    }
    PRIVILEGES.into_iter().try_for_each(|resource| lower(resource, 0))
}
