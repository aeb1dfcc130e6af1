//! A bottle as data: what its first process does, in order, before any agent runs.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    host::shares::Shares,
    init::spec::{Confinement, NetworkSpec},
};

/// Everything that the bottle's first process does. Made by [`super::render`], without touching anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NativeSpec {
    /// Name of the host in the bottle.
    pub hostname: String,
    /// The bottle's network.
    pub network: NetworkSpec,
    /// Folders and files of the host that are taken before anything is mounted.
    pub trees: Vec<Tree>,
    /// How the bottle's file system is made.
    pub operations: Vec<Operation>,
    /// The bottle's part of what the kernel counts.
    pub shares: Shares,
    /// How each program in the bottle is confined.
    pub confinement: Confinement,
    /// Resident memory at which the bottle's first process ends it, in bytes, where no cgroup does.
    pub memory_watch: Option<u64>,
}

/// A folder or a file of the host that is attached in the bottle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// On the host, absolute, without symbolic links.
    pub source: PathBuf,
    /// Whether the bottle may write to it.
    pub access: Access,
    /// Whether mounts below it come along.
    pub recursive: bool,
}

/// What a bottle may do with a tree of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Read and execute.
    ReadOnly,
    /// Everything that permissions allow, but set-user-id programs and device nodes.
    ReadWrite,
    /// Use a device node.
    Device,
}

/// One operation on the bottle's file system. Paths are absolute, as the bottle will see them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Make a folder, with those above it.
    Directory {
        /// Where.
        path: PathBuf,
        /// Permission bits.
        mode: u32,
    },
    /// Make a symbolic link.
    Symlink {
        /// Where.
        path: PathBuf,
        /// To what.
        target: PathBuf,
    },
    /// Write a file.
    File {
        /// Where.
        path: PathBuf,
        /// Text.
        content: String,
        /// Permission bits.
        mode: u32,
    },
    /// Copy a file of the host, if everyone may read it.
    Copy {
        /// On the host.
        source: PathBuf,
        /// Where.
        path: PathBuf,
    },
    /// Mount an empty file system in memory.
    Tmpfs {
        /// Where.
        path: PathBuf,
        /// Largest size in bytes.
        size: u64,
        /// Most files and folders; each takes about a KiB of the kernel's memory, whatever its size.
        inodes: u64,
        /// Permission bits of its root.
        mode: u32,
    },
    /// Mount a folder of the host through a read-only overlay, below the layer `top`.
    ///
    /// Not by a bind: pathname sockets and FIFOs of the host would then still lead out. An overlay has inodes
    /// of its own, by which neither is found.
    Overlay {
        /// On the host.
        lower: PathBuf,
        /// In the bottle: the layer over `lower`.
        top: PathBuf,
        /// Where.
        path: PathBuf,
        /// Paths of the host below `lower` that the bottle does not have, by whiteouts in `top`. A mount over
        /// a file would disappear when the host renames another file to its name.
        hidden: Vec<PathBuf>,
        /// Whether a bind may replace an overlay that cannot be made: no process of the host has a socket
        /// there.
        or_bind: bool,
    },
    /// Attach a tree by its place in [`NativeSpec::trees`].
    Attach {
        /// Which.
        tree: usize,
        /// Where.
        path: PathBuf,
    },
    /// Mount the bottle's own processes.
    Processes {
        /// Where.
        path: PathBuf,
    },
    /// Mount the bottle's own terminals.
    Terminals {
        /// Where.
        path: PathBuf,
        /// Most of them.
        most: u64,
    },
    /// Hide a file or a folder, if it is there.
    Mask {
        /// Which.
        path: PathBuf,
    },
    /// Make what is mounted or lies here read-only, if it is there.
    ReadOnly {
        /// Which.
        path: PathBuf,
    },
    /// Take a mount away again, with its folder.
    Unmount {
        /// Which.
        path: PathBuf,
    },
}
