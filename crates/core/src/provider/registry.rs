//! The providers that there are.

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
