//! The name of one run of an agent.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::error::Hint;

/// `<agent>-<5 base36>`, such as `reviewer-k3x9a`. Its state lies in `~/.bot-bottle/state/<identity>/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Identity(String);

/// Not the name of a run.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not the identity of a run, which looks like `reviewer-k3x9a`")]
pub struct IdentityError(String);

const SUFFIX_LENGTH: usize = 5;
const BASE36: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

impl Hint for IdentityError {}

impl Identity {
    /// Names a run after its agent and five random bytes that the caller drew.
    ///
    /// # Errors
    /// When the agent's name is not one (`^[a-z][a-z0-9-]*$`).
    pub fn new(agent: &str, random: [u8; SUFFIX_LENGTH]) -> Result<Self, IdentityError> {
        let suffix = random.map(|byte| char::from(BASE36[usize::from(byte) % BASE36.len()]));
        format!("{agent}-{}", suffix.iter().collect::<String>()).parse()
    }

    /// The whole name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The agent's part of the name.
    #[must_use]
    pub fn agent(&self) -> &str {
        &self.0[..self.0.len() - SUFFIX_LENGTH - 1]
    }
}

/// Whether `name` may be the name of a bottle, an agent or a skill: `^[a-z][a-z0-9-]*$`, at most 64 bytes.
#[must_use]
pub fn is_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(written: &str) -> Result<Self, Self::Err> {
        let valid = written.rsplit_once('-').is_some_and(|(agent, suffix)| {
            is_name(agent)
                && suffix.len() == SUFFIX_LENGTH
                && suffix.bytes().all(|byte| BASE36.contains(&byte))
        });
        if valid { Ok(Self(written.to_owned())) } else { Err(IdentityError(written.to_owned())) }
    }
}

impl TryFrom<String> for Identity {
    type Error = IdentityError;

    fn try_from(written: String) -> Result<Self, Self::Error> {
        written.parse()
    }
}

impl From<Identity> for String {
    fn from(identity: Identity) -> Self {
        identity.0
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_agent_and_five_characters() {
        let identity = Identity::new("my-agent", [0, 9, 10, 35, 36]).expect("a valid name");
        assert_eq!(identity.as_str(), "my-agent-09az0");
        assert_eq!(identity.agent(), "my-agent");
        for bad in ["", "a", "Agent-abcde", "a-ABCDE", "../x-abcde", "a-abcd"] {
            assert!(bad.parse::<Identity>().is_err(), "{bad}");
        }
    }
}
