//! Writes, copies and removes trees in which an agent may have put anything: links, sockets, mounts, any
//! depth.

pub(crate) mod copy;
pub(crate) mod remove;
pub(crate) mod rooted_dir;
