//! The shape of one attempt.

use serde::{Deserialize, Serialize};

use crate::{
    outcome::{Observation, Outcome},
    scene::Scene,
};

/// One way to try to get out. Adding one is adding an entry to a file of [`crate::table`].
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// Stable and unique: `<group>.<what>`, in lower case with dashes. It travels in every request that the
    /// attempt makes, so that the stage can say whose request it saw.
    pub id: &'static str,
    /// The promise that it tests, by its number in `PROMISES.md`.
    pub promise: u8,
    /// What it does, as a sentence without a subject.
    pub what: &'static str,
    /// Where it comes from: a specification, a manual page, a paper, a bug.
    pub source: &'static str,
    /// Makes the attempt. It must do no harm where it succeeds, and must undo what it did.
    pub make: fn(&Scene) -> Observation,
}

/// What an attempt plays with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// Names and addresses that no route allows, in all their spellings.
    Names,
    /// Resolvers other than the gateway.
    Dns,
    /// Ways that are not TCP through the gateway.
    Protocols,
    /// What HTTP and its parsers disagree about.
    Http,
    /// Git other than through the git gate.
    Git,
    /// System calls and what the kernel offers by file.
    Kernel,
    /// What the operator has on the host.
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

    /// What the group plays with, for the documentation.
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
    pub fn run(&self, group: Group, scene: &Scene) -> Outcome {
        // An attempt of its own must not be able to end the run: a panic is an attempt that was not made.
        let scene = scene.clone().during(self.id);
        let observation = std::panic::catch_unwind(|| (self.make)(&scene))
            .unwrap_or_else(|_| Observation::NotMade("the attempt itself failed".into()));
        Outcome {
            id: self.id.to_owned(),
            group,
            promise: self.promise,
            what: self.what.to_owned(),
            observation,
        }
    }
}
