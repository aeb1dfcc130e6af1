//! Open files, of which a test with many connections needs many.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Whether this process may have so many open; raises its soft limit. Says so if not.
pub(crate) fn has_descriptors(wanted: usize) -> bool {
    let wanted = u64::try_from(wanted).expect("a number");
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|maximum| maximum < wanted) {
        return bot_bottle_testkit::require("descriptors", false);
    }
    let raised = Rlimit { current: limit.maximum.map(|maximum| maximum.min(65_536)), ..limit };
    setrlimit(Resource::Nofile, raised).expect("raised");
    true
}
