//! What the host asks for.

use bot_bottle_core::work::Baseline;
use serde::{Deserialize, Serialize};

/// One question about an agent's work. `repository` is a folder below the workspace, empty for the workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// What there is: one JSON document, a [`crate::Summary`].
    Summary {
        /// The start.
        baseline: Baseline,
    },
    /// The difference between the start and the working tree, for a person to read.
    Diff {
        /// The start.
        baseline: Baseline,
        /// Which repository.
        repository: String,
        /// How much of it.
        style: Style,
        /// Whether the text is coloured.
        colour: bool,
    },
    /// The same as a patch that `git apply` takes.
    Patch {
        /// The start.
        baseline: Baseline,
        /// Which repository.
        repository: String,
    },
    /// The agent's commits, and what it did not commit, as a git bundle.
    Bundle {
        /// The start.
        baseline: Baseline,
        /// Which repository.
        repository: String,
        /// Commits that the host's repository has, which are left out with all of their history.
        known: Vec<String>,
    },
    /// A file or folder as a tar archive with one top entry, `item`.
    Archive {
        /// As the agent names it: absolute, or relative to the workspace.
        path: String,
    },
    /// Writes such an archive, which follows on standard input, into the bottle.
    Unpack {
        /// As in [`Request::Archive`]. Where a folder is, the item goes into it.
        path: String,
        /// What the item is called if it goes into a folder.
        name: String,
    },
}

/// How much of a difference is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Style {
    /// Every changed line.
    Full,
    /// One line for each file, with how much of it changed.
    Stat,
    /// The name of each file; without a repository with `A` or `M` before it.
    NameOnly,
}
