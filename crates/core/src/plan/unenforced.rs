//! Keys that are understood but cannot be enforced: a bottle that uses one refuses to start.

use std::fmt;

use crate::bottle::{BackendName, Bottle, Settings};

/// One key that cannot be enforced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unenforced {
    /// The key, as a path: `egress.routes[api.example.org].tls: splice`.
    pub key: String,
    /// Why not.
    pub why: String,
    /// What to do.
    pub hint: String,
}

impl fmt::Display for Unenforced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` cannot be enforced: {}", self.key, self.why)
    }
}

/// Every key of the bottle and the settings that this version, with this backend, cannot enforce.
#[must_use]
pub fn unenforced(_bottle: &Bottle, _settings: &Settings, _backend: BackendName) -> Vec<Unenforced> {
    unimplemented!()
}
