//! Writes, copies and removes trees in which an agent may have put anything: links, sockets, mounts, any
//! depth.

pub(crate) mod changes;
pub(crate) mod copy;
pub(crate) mod exclusions;
mod git_config;
pub(crate) mod git_credentials;
pub(crate) mod git_metadata;
pub(crate) mod remove;
pub(crate) mod rooted_dir;
mod tree;
