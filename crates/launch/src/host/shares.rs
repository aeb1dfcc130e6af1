//! A bottle's share of what the kernel counts for a user or for the whole host, so that one bottle cannot
//! take it from the operator or from another bottle.

use std::fs;

use serde::{Deserialize, Serialize};

/// A bottle gets this part of the host's amount, so that the operator and two more bottles can work beside
/// one that has used up its own.
pub(crate) const PART: u64 = 4;

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

/// Longest core dump, in bytes. Not 0, which does not keep the kernel from giving a core to a program of the
/// host (`core_pattern` with a pipe); at 1 it gives none to anybody, core(5).
pub(crate) const CORE_BYTES: u64 = 1;

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
}
