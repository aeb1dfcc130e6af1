//! The providers that there are.

use std::collections::BTreeSet;

use crate::host::HostPattern;

use super::{Provider, route::exact_hosts};

/// Every provider that is built in, in the order in which they are offered.
#[must_use]
pub fn all() -> [&'static dyn Provider; 2] {
    [&super::claude::Claude, &super::codex::Codex]
}

/// The provider of this name.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static dyn Provider> {
    all().into_iter().find(|provider| provider.name() == name)
}

/// The hosts that no bottle may reach, whichever provider it has or none: any program may be run in it.
#[must_use]
pub fn forbidden_hosts() -> BTreeSet<HostPattern> {
    all().into_iter().flat_map(|provider| exact_hosts(provider.forbidden_hosts())).collect()
}
