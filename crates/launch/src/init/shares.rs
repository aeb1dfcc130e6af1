//! Lowers what the kernel counts for a bottle to its [`Shares`].
//!
//! Where the kernel counts by namespace the bottle's first process lowers the limit of its own one, before it
//! gives up its capabilities; where it counts by user it lowers the resource limit, which the kernel then
//! holds against the whole user namespace of the programs (`set_userns_rlimit_max` in kernel/ucount.c).

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::host::shares::{PART, Shares};

/// Resource limits that the kernel counts for a user, of which a bottle gets its part, getrlimit(2).
const BY_USER: [Resource; 3] = [Resource::Sigpending, Resource::Msgqueue, Resource::Memlock];

/// Resource limits that would let a program take priority over others on the host.
const PRIVILEGES: [Resource; 2] = [Resource::Nice, Resource::Rtprio];

/// Lowers the settings of this process's namespaces. Returns those that could not be lowered: on older
/// kernels only the host's root may set some.
pub(crate) fn apply(shares: &Shares) -> Vec<&str> {
    let refused = |(name, value): &&(String, String)| fs::write(format!("/proc/sys/{name}"), value).is_err();
    shares.settings.iter().filter(refused).map(|(name, _)| name.as_str()).collect()
}

/// Lowers a resource limit of this process, the soft and the hard one; one that is lower stays.
pub(crate) fn lower(resource: Resource, value: u64) -> rustix::io::Result<()> {
    let lowered = getrlimit(resource).maximum.map_or(value, |maximum| maximum.min(value));
    setrlimit(resource, Rlimit { current: Some(lowered), maximum: Some(lowered) })
}

/// Lowers this process's resource limits; before the programs' user namespace is made, which remembers them.
pub(crate) fn lower_limits() -> rustix::io::Result<()> {
    for resource in BY_USER {
        let limit = getrlimit(resource);
        // An unlimited resource has no share: the kernel does not count it.
        if let Some(value) = limit.current.or(limit.maximum) {
            lower(resource, value / PART)?;
        }
    }
    PRIVILEGES.into_iter().try_for_each(|resource| lower(resource, 0))
}
