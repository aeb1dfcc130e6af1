//! The steps of a launch that are the same for every backend. Each is a function of what it is given;
//! [`crate::launch()`] has their order.

pub(crate) mod allocate;
pub(crate) mod attach;
pub(crate) mod baseline;
pub(crate) mod files;
pub(crate) mod gateway;
pub(crate) mod system_files;
pub(crate) mod trust;
