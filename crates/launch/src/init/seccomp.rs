//! The seccomp filter of every program in a bottle: a list of what is allowed. A call that is not in it is
//! answered with ENOSYS, as by a kernel that is too old to have it, so that programs take the older one.
//!
//! Namespaces and lost capabilities already stop most of what is refused. The filter takes the kernel's code
//! behind it out of reach as well, because that code is where kernel bugs become escapes. It is assembled
//! here and not by a crate, because one filter answers with different errors and has to know the x32 calls,
//! which have numbers of their own under the same architecture and so pass a list made for the usual ones.
//!
//! The decisions lie in [`table`], with their reasons; `docs/system-calls.md` is that table in words.

use libc::{c_int, c_long, sock_filter};

use super::spec::Confinement;

mod document;
mod number;
mod program;
mod table;

pub use document::markdown as system_calls_page;

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// The kernel does it.
    Allow,
    /// It fails with this error.
    Refuse(c_int),
    /// It succeeds, and nothing is done.
    Pretend,
    /// The process ends.
    Kill,
}

/// A test of one argument. Only its lower 32 bits count, but for a pointer: the kernel reads an `int` as 32
/// bits, and flags have their bits there (CVE-2023-1523 is a filter that compared all 64).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Test {
    /// One of these values, under this mask.
    OneOf { argument: u32, mask: u32, values: &'static [u32] },
    /// Any of these bits.
    AnyOf { argument: u32, bits: u32 },
    /// A null pointer.
    Null { argument: u32 },
}

/// The answer to a call whose arguments pass every test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Case {
    tests: &'static [Test],
    answer: Answer,
}

/// The decision about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    /// The same answer always.
    Always(Answer),
    /// By its arguments: the first case that fits.
    ByArgument { cases: &'static [Case], otherwise: Answer },
}

/// A system call.
#[derive(Debug, Clone, Copy)]
struct Call {
    name: &'static str,
    /// None on an architecture that does not have it.
    number: Option<c_long>,
}

/// Calls about which the same is decided for the same reason.
#[derive(Debug, Clone, Copy)]
struct Rule {
    calls: &'static [Call],
    decision: Decision,
    /// The decision in words, for the documentation.
    says: &'static str,
    reason: &'static str,
    /// What Docker's default profile (without capabilities) or Flatpak's decides, where it is something else.
    elsewhere: &'static str,
}

/// For calls that are in no rule, and calls that programs do without.
const UNKNOWN: Answer = Answer::Refuse(libc::ENOSYS);

/// For calls that exist but are denied to a bottle.
const REFUSED: Answer = Answer::Refuse(libc::EPERM);

impl Rule {
    const fn new(
        calls: &'static [Call],
        decision: Decision,
        says: &'static str,
        reason: &'static str,
    ) -> Self {
        Self { calls, decision, says, reason, elsewhere: "" }
    }

    const fn allowed(calls: &'static [Call], reason: &'static str) -> Self {
        Self::new(calls, Decision::Always(Answer::Allow), "allowed", reason)
    }

    const fn refused(calls: &'static [Call], reason: &'static str) -> Self {
        Self::new(calls, Decision::Always(REFUSED), "`EPERM`", reason)
    }

    const fn unknown(calls: &'static [Call], reason: &'static str) -> Self {
        Self::new(calls, Decision::Always(UNKNOWN), "`ENOSYS`", reason)
    }

    const fn by_argument(
        calls: &'static [Call],
        cases: &'static [Case],
        otherwise: Answer,
        says: &'static str,
        reason: &'static str,
    ) -> Self {
        Self::new(calls, Decision::ByArgument { cases, otherwise }, says, reason)
    }

    const fn elsewhere(self, elsewhere: &'static str) -> Self {
        Self { elsewhere, ..self }
    }
}

/// Builds the filter.
pub(crate) fn assemble(confinement: &Confinement) -> Vec<sock_filter> {
    let mut decisions: Vec<(u32, Decision)> = table::GROUPS
        .iter()
        .flat_map(|(_, rules)| *rules)
        .flat_map(|rule| rule.calls.iter().map(|call| (call.number, rule.decision)))
        .filter_map(|(number, decision)| Some((number_of(number?), decision)))
        .collect();
    if confinement.processors.is_some() {
        let affinity = number_of(libc::SYS_sched_setaffinity);
        for (_, decision) in decisions.iter_mut().filter(|(number, _)| *number == affinity) {
            *decision = Decision::Always(REFUSED);
        }
    }
    program::assemble(decisions)
}

fn number_of(number: c_long) -> u32 {
    u32::try_from(number).expect("numbers of system calls are small and positive")
}

#[cfg(test)]
mod tests;
