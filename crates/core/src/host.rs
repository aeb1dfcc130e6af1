//! Host names, normalised before any policy looks at them.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A destination as a client named it: a DNS name or an address literal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Host {
    /// A DNS name.
    Name(HostName),
    /// An IPv4 or IPv6 address literal, without brackets.
    Address(IpAddr),
}

/// A DNS name in its one canonical spelling: ASCII (IDNs in Punycode, RFC 5891), lower case, no trailing dot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

/// Which names a route is for: one, or every name below one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HostPattern {
    /// Exactly this name.
    Exact(HostName),
    /// `*.example.org`: one or more labels below the name, never the name itself.
    Below(HostName),
}

/// Not a host name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HostError {
    /// Nothing was written.
    #[error("a host name is empty")]
    Empty,
    /// Longer than a DNS name can be (RFC 1035 section 2.3.4).
    #[error("`{0}` is longer than the 253 characters that a host name may have")]
    TooLong(String),
    /// A label has no character, too many (63, RFC 1035), or one that host names do not have.
    #[error("`{0}` is not a host name")]
    Malformed(String),
    /// An address in a notation that only some programs read as one (`0x7f.1`, `2130706433`, `127.1`).
    #[error("`{0}` is an IPv4 address in disguise, not a host name")]
    DisguisedAddress(String),
    /// A `*` somewhere else than as the whole first label.
    #[error("`{0}` has a `*` that is not the whole first label; `*.example.org` is the only wildcard")]
    Wildcard(String),
    /// An address where only names are allowed.
    #[error("`{0}` is an address, and routes are for names")]
    Address(String),
}

impl HostName {
    /// Reads a name, whatever its case, trailing dot or script.
    ///
    /// # Errors
    /// See [`HostError`].
    pub fn parse(written: &str) -> Result<Self, HostError> {
        let malformed = || HostError::Malformed(written.to_owned());
        let name = written.strip_suffix('.').unwrap_or(written);
        if name.is_empty() {
            return Err(HostError::Empty);
        }
        let ascii = if name.is_ascii() {
            name.to_ascii_lowercase()
        } else {
            idna::domain_to_ascii_strict(name).map_err(|_| malformed())?
        };
        if ascii.len() > 253 {
            return Err(HostError::TooLong(written.to_owned()));
        }
        let valid_label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if !ascii.split('.').all(valid_label) {
            return Err(malformed());
        }
        // The URL standard reads a name whose last label is a number as an IPv4 address; so do inet_aton(3)
        // and with it many clients. Such a "name" would be checked as a name and dialled as an address.
        let last = ascii.rsplit('.').next().unwrap_or_default();
        let hexadecimal = |digits: &str| digits.bytes().all(|b| b.is_ascii_hexdigit());
        if last.bytes().all(|b| b.is_ascii_digit()) || last.strip_prefix("0x").is_some_and(hexadecimal) {
            return Err(HostError::DisguisedAddress(written.to_owned()));
        }
        Ok(Self(ascii))
    }

    /// The canonical spelling.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Host {
    /// Reads what a client wrote as a host: a name, an IPv4 literal, or an IPv6 literal with or without
    /// brackets.
    ///
    /// # Errors
    /// See [`HostError`].
    pub fn parse(written: &str) -> Result<Self, HostError> {
        let unbracketed = written.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Some(inner) = unbracketed {
            let address = inner.parse().map_err(|_| HostError::Malformed(written.to_owned()))?;
            return Ok(Self::Address(IpAddr::V6(address)));
        }
        match written.parse::<IpAddr>() {
            Ok(address) => Ok(Self::Address(address)),
            Err(_) => HostName::parse(written).map(Self::Name),
        }
    }

    /// The name, unless it is an address.
    #[must_use]
    pub fn name(&self) -> Option<&HostName> {
        match self {
            Self::Name(name) => Some(name),
            Self::Address(_) => None,
        }
    }
}

impl HostPattern {
    /// Whether the pattern is for this name.
    #[must_use]
    pub fn matches(&self, name: &HostName) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Below(parent) => name
                .as_str()
                .strip_suffix(parent.as_str())
                .is_some_and(|above| above.len() > 1 && above.ends_with('.')),
        }
    }
}

impl FromStr for HostPattern {
    type Err = HostError;

    fn from_str(written: &str) -> Result<Self, Self::Err> {
        let (below, name) = match written.strip_prefix("*.") {
            Some(parent) => (true, parent),
            None => (false, written),
        };
        if name.contains('*') {
            return Err(HostError::Wildcard(written.to_owned()));
        }
        match Host::parse(name)? {
            Host::Address(_) => Err(HostError::Address(written.to_owned())),
            Host::Name(name) if below => Ok(Self::Below(name)),
            Host::Name(name) => Ok(Self::Exact(name)),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name.as_str()),
            Self::Below(name) => write!(f, "*.{}", name.as_str()),
        }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

macro_rules! string_conversions {
    ($($type:ident via $parse:expr),+ $(,)?) => {$(
        impl TryFrom<String> for $type {
            type Error = HostError;

            fn try_from(written: String) -> Result<Self, Self::Error> {
                $parse(&written)
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    )+};
}

string_conversions! {
    Host via Host::parse,
    HostName via HostName::parse,
    HostPattern via str::parse::<HostPattern>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_name_are_one_name() {
        let canonical = HostName::parse("api.example.org").expect("a name");
        for spelling in ["API.Example.ORG", "api.example.org."] {
            assert_eq!(HostName::parse(spelling).as_ref(), Ok(&canonical), "{spelling}");
        }
        assert_eq!(HostName::parse("bücher.example").map(String::from), Ok("xn--bcher-kva.example".into()));
        assert_eq!(HostName::parse("ａpi.example.org"), Ok(canonical), "full-width letters fold");
    }

    #[test]
    fn addresses_in_disguise_are_not_names() {
        for disguised in ["2130706433", "0x7f000001", "127.1", "0177.0.0.1", "1.2.3.4.5", "a.0x7f"] {
            assert!(
                matches!(Host::parse(disguised), Err(HostError::DisguisedAddress(_))),
                "{disguised}: {:?}",
                Host::parse(disguised)
            );
        }
        assert_eq!(Host::parse("[::1]"), Ok(Host::Address("::1".parse().expect("an address"))));
    }

    #[test]
    fn what_is_not_a_name_is_refused() {
        for bad in ["", ".", "a..b", "-a.b", "a b", "a/b", "user@host", "a:1", "a\0b", "[1.2.3.4]", "*.a"] {
            assert!(Host::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_wildcard_is_for_what_lies_below_and_never_for_the_apex() {
        let pattern: HostPattern = "*.Example.org".parse().expect("a pattern");
        let name = |name| HostName::parse(name).expect("a name");
        assert!(pattern.matches(&name("a.example.org")));
        assert!(pattern.matches(&name("a.b.example.org")));
        assert!(!pattern.matches(&name("example.org")));
        assert!(!pattern.matches(&name("badexample.org")));
        for bad in ["*", "*.", "a.*.org", "*a.org", "10.0.0.1", "*.10.0.0.1"] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
        }
    }
}
