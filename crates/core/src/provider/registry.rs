//! The providers that there are.

use std::collections::BTreeSet;

use crate::host::{HostName, HostPattern};

use super::Provider;

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

/// The patterns for names that are written in this program.
pub(super) fn exact_hosts(names: &[&str]) -> BTreeSet<HostPattern> {
    names
        .iter()
        .map(|name| HostPattern::Exact(HostName::parse(name).expect("a provider's own hosts are names")))
        .collect()
}
