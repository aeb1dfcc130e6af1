//! Names of machines.

use std::fmt;

use crate::SmolvmError;

/// Most bytes of a machine's name. smolvm has no limit of its own, and file systems have 255 for the lock file.
const MAX_NAME: usize = 128;

/// The name of a machine: ASCII letters, digits and `_.-`, the first a letter or digit, so that it is neither an
/// option nor a path, and `:` separates it from a path in `cp`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineName(String);

impl MachineName {
    /// Checks a name.
    ///
    /// # Errors
    /// When it is too long or has other characters.
    pub fn new(name: impl Into<String>) -> Result<Self, SmolvmError> {
        let name = name.into();
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        let is_name = name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
            && name.len() <= MAX_NAME
            && name.bytes().all(is_allowed);
        if is_name {
            Ok(Self(name))
        } else {
            Err(SmolvmError::invalid("the name of a machine", &name, "letters, digits and `_.-` are allowed"))
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MachineName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_neither_an_option_nor_a_path() {
        for name in ["a", "bottle-1_x.y", "0"] {
            assert!(MachineName::new(name).is_ok(), "{name}");
        }
        let long = "a".repeat(MAX_NAME + 1);
        for name in ["", "-x", ".a", "..", "a/b", "a:b", "a b", "a\n", "ä", &long] {
            assert!(MachineName::new(name).is_err(), "{name}");
        }
    }
}
