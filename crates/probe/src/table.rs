//! Every attempt. `docs/attempts.md` is this table; a test fails when it is stale.

use crate::attempt::{Attempt, Group};

mod addresses;
mod calls;
mod dns;
mod files;
mod filtered;
mod git;
mod host_files;
mod http;
mod kernel;
mod names;
mod operator;
mod protocols;
mod smuggling;
mod sockets;

/// The table: groups in order, each with its attempts.
const TABLE: [(Group, &[Attempt]); 14] = [
    (Group::Names, names::ATTEMPTS),
    (Group::Names, addresses::ATTEMPTS),
    (Group::Dns, dns::ATTEMPTS),
    (Group::Protocols, protocols::ATTEMPTS),
    (Group::Protocols, sockets::ATTEMPTS),
    (Group::Http, http::ATTEMPTS),
    (Group::Http, smuggling::ATTEMPTS),
    (Group::Git, git::ATTEMPTS),
    (Group::Kernel, kernel::ATTEMPTS),
    (Group::Kernel, calls::ATTEMPTS),
    (Group::Kernel, filtered::ATTEMPTS),
    (Group::Kernel, files::ATTEMPTS),
    (Group::Kernel, host_files::ATTEMPTS),
    (Group::Operator, operator::ATTEMPTS),
];

/// Every attempt with its group, in order.
pub fn all() -> impl Iterator<Item = (Group, &'static Attempt)> {
    TABLE.into_iter().flat_map(|(group, attempts)| attempts.iter().map(move |attempt| (group, attempt)))
}

/// The attempt with this id.
#[must_use]
pub fn find(id: &str) -> Option<(Group, &'static Attempt)> {
    all().find(|(_, attempt)| attempt.id == id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_entry_is_whole() {
        let mut ids = BTreeSet::new();
        for (group, attempt) in all() {
            assert!(ids.insert(attempt.id), "{} is there twice", attempt.id);
            let name = attempt.id.strip_prefix(group.as_str()).and_then(|rest| rest.strip_prefix('.'));
            let valid =
                |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            assert!(name.is_some_and(valid), "{} is not `{group}.<what>`", attempt.id);
            assert!((1..=15).contains(&attempt.promise), "{}: there is no such promise", attempt.id);
            assert!(attempt.source.starts_with("https://"), "{}: a source is a link", attempt.id);
            assert!(
                !attempt.what.ends_with('.') && attempt.what.len() < 110,
                "{}: {}",
                attempt.id,
                attempt.what
            );
        }
        assert!(ids.len() >= 100, "there are {} attempts", ids.len());
    }
}
