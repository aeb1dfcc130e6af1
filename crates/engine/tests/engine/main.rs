//! The client against a real engine: docker, and podman where `BOT_BOTTLE_TEST_PODMAN` names its socket.
//!
//! Needs a static busybox, of which the images are made: there is no registry.

mod archive;
mod attach;
mod connect;
mod container;
mod fixture;
mod image;
mod pull;
mod spec;
mod storage;
