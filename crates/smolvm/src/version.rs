//! Versions of smolvm, and what they can do.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A version of smolvm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version {
    /// Raised with incompatible changes.
    pub major: u32,
    /// Raised with new features.
    pub minor: u32,
    /// Raised with corrections.
    pub patch: u32,
}

/// How a version of smolvm confines a machine's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EgressControl {
    /// Every TCP connection is handed to a process of the caller.
    Interceptor,
    /// smolvm compares addresses with a list.
    AllowList,
}

impl Version {
    /// The oldest that can be used, and the oldest that was tested. 1.20.2 has `--allow-cidr` too, but its answers
    /// do not tell a machine with an allow list from one whose network is open, and it has no `--error-format`.
    pub const OLDEST: Self = Self::new(1, 28, 1);
    /// The oldest that is used with an interceptor.
    pub const OLDEST_WITH_INTERCEPTOR: Self = Self::new(1, 32, 0);
    /// The newest that was tested.
    pub const NEWEST_TESTED: Self = Self::new(1, 32, 2);

    const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }

    /// Reads the output of `smolvm --version`: `smolvm 1.32.2`. What follows the numbers, such as `-rc.1`, is
    /// not looked at.
    #[must_use]
    pub fn parse(output: &str) -> Option<Self> {
        let line = output.lines().find_map(|line| line.strip_prefix("smolvm "))?;
        let numbers = line.trim().split(['-', '+', ' ']).next()?;
        let mut numbers = numbers.split('.').map(str::parse::<u32>);
        let version = Self::new(numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
        numbers.next().is_none().then_some(version)
    }

    /// How a machine's network is confined.
    #[must_use]
    pub fn egress_control(self) -> EgressControl {
        if self >= Self::OLDEST_WITH_INTERCEPTOR {
            EgressControl::Interceptor
        } else {
            EgressControl::AllowList
        }
    }

    /// Whether it is newer than what was tested: then its answers may have another form, which is an error where
    /// it matters.
    #[must_use]
    pub fn is_untested(self) -> bool {
        (self.major, self.minor) > (Self::NEWEST_TESTED.major, Self::NEWEST_TESTED.minor)
    }

    /// Whether there is `--state-dir`: 1.29.1 has none, 1.31.0 has it.
    pub(crate) fn has_state_dir(self) -> bool {
        self >= Self::new(1, 31, 0)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared_by_number() {
        let parse = |text: &str| Version::parse(text);
        assert_eq!(parse("smolvm 1.32.2\n"), Some(Version::new(1, 32, 2)));
        assert_eq!(parse("smolvm 1.33.0-rc.1+abc"), Some(Version::new(1, 33, 0)));
        assert!(parse("smolvm 1.9.0") < parse("smolvm 1.32.0"));
        for text in
            ["", "smolvm", "smolvm 1", "smolvm 1.32", "smolvm 1.x.2", "smolvm 1.2.3.4", "docker 1.2.3"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_interceptor_needs_a_version_that_has_it() {
        assert_eq!(Version::new(1, 32, 0).egress_control(), EgressControl::Interceptor);
        assert_eq!(Version::new(1, 31, 9).egress_control(), EgressControl::AllowList);
        assert!(!Version::new(1, 32, 99).is_untested() && Version::new(1, 33, 0).is_untested());
        assert!(Version::new(2, 0, 0).is_untested());
    }
}
