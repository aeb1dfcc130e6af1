//! The shape of one attempt.

use serde::{Deserialize, Serialize};

use crate::{
    context::Context,
    outcome::{Observation, Outcome},
};

/// One way to try to get out. Adding one is adding an entry to a file of [`crate::table`].
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// Stable and unique: `<group>.<what>`, in lower case with dashes. It travels in every request that the
    /// attempt makes, so that the canaries can attribute what they record.
    pub id: &'static str,
    /// The promise that it tests, by its number in `PROMISES.md`.
    pub promise: u8,
    /// The action, as a sentence without a subject.
    pub what: &'static str,
    /// Where it comes from: a specification, a manual page, a paper, a bug.
    pub source: &'static str,
    /// Makes the attempt. It must do no harm where it succeeds, and must undo its effects.
    pub run: fn(&Context) -> Observation,
}

/// The surface that an attempt attacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// Names and addresses that no route allows, in all their spellings.
    Names,
    /// Resolvers other than the gateway.
    Dns,
    /// Protocols and sockets other than TCP through the gateway.
    Protocols,
    /// HTTP: policy limits, smuggling, headers.
    Http,
    /// Git other than through the git gate.
    Git,
    /// System calls, `/proc`, `/sys` and devices.
    Kernel,
    /// The operator's files, keys and environment on the host.
    Operator,
}

impl Group {
    /// Every group, in the order of the table.
    pub const ALL: [Self; 7] =
        [Self::Names, Self::Dns, Self::Protocols, Self::Http, Self::Git, Self::Kernel, Self::Operator];

    /// As written in ids and options.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Names => "names",
            Self::Dns => "dns",
            Self::Protocols => "protocols",
            Self::Http => "http",
            Self::Git => "git",
            Self::Kernel => "kernel",
            Self::Operator => "operator",
        }
    }

    /// The group's heading in the documentation.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Names => "Names and addresses",
            Self::Dns => "DNS",
            Self::Protocols => "Other protocols",
            Self::Http => "HTTP",
            Self::Git => "Git",
            Self::Kernel => "Kernel and files",
            Self::Operator => "The operator's side",
        }
    }
}

impl std::fmt::Display for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Attempt {
    /// Makes the attempt and reports it.
    #[must_use]
    pub fn execute(&self, group: Group, context: &Context) -> Outcome {
        // A panic in one attempt must not end the run and hide the attempts after it.
        let context = context.clone().during(self.id);
        let observation = std::panic::catch_unwind(|| (self.run)(&context))
            .unwrap_or_else(|_| Observation::Inconclusive("the attempt itself failed".into()));
        Outcome {
            id: self.id.to_owned(),
            group,
            promise: self.promise,
            what: self.what.to_owned(),
            observation,
        }
    }
}
