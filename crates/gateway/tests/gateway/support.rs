//! What every test here needs: a gateway, an upstream with a certificate of its own, and clients.

pub(crate) mod client;
pub(crate) mod descriptors;
pub(crate) mod gateway;
pub(crate) mod launcher;
pub(crate) mod proxy;
pub(crate) mod upstream;
