//! Which version of bot-bottle made the directory of a run, and how its resources are read.
//!
//! | format | directory of a run |
//! |---|---|
//! | 1 | no `format` file; `processes.json` and `groups.json` |
//! | 2 | `format`, written first; `resources.json` |
//! | 3 | the agent's home and workspace in the closed folder `agent`; `start.json`. Before, `workspace` had the work |
//!
//! The file `lock` means the same in each of them, so that a living run is never taken for a dead one.

use std::{
    fs, io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags, open},
    io::Errno,
};

use super::{Outcome, has_work, holds_files};
use crate::resource::{ProcessIdentity, Resource, Resources, read_json, replace};

/// Name of the file with the format's number.
pub(crate) const FORMAT_FILE: &str = "format";

/// The format that this version writes.
const CURRENT: &str = "3";

/// Number of the format before it.
const SECOND: &str = "2";

/// The lists of format 1.
const PROCESSES: &str = "processes.json";
const GROUPS: &str = "groups.json";

/// The format of a run's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Made by this version, or one that writes the same.
    Current,
    /// Format 2.
    Second,
    /// Format 1.
    First,
    /// Made by a version that this one knows nothing about.
    Newer,
}

impl Format {
    /// An empty file is what a power failure may leave; such a run cannot be told from an older one, and owns
    /// as little.
    pub(crate) fn of(run: &Path) -> io::Result<Self> {
        match fs::read(run.join(FORMAT_FILE)) {
            Ok(text) if text.trim_ascii() == CURRENT.as_bytes() => Ok(Self::Current),
            Ok(text) if text.trim_ascii() == SECOND.as_bytes() => Ok(Self::Second),
            Ok(text) if text.is_empty() => Ok(Self::First),
            Ok(_) => Ok(Self::Newer),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::First),
            Err(error) => Err(error),
        }
    }

    pub(super) fn write(run: &Path) -> io::Result<()> {
        replace(&run.join(FORMAT_FILE), format!("{CURRENT}\n").as_bytes())
    }

    /// Whether a run in this format that has ended may hold work of its agent's.
    pub(crate) fn has_work(self, run: &Path) -> bool {
        match self {
            Self::Current | Self::Newer => has_work(run, Outcome::Worked),
            Self::First | Self::Second => {
                let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                match open(run.join("workspace"), flags, Mode::empty()) {
                    Ok(workspace) => holds_files(workspace.as_fd()),
                    Err(error) => error != Errno::NOENT,
                }
            }
        }
    }

    /// The resources of a run in this format; of a newer one those that this version knows.
    pub(crate) fn resources(self, run: &Path) -> io::Result<Resources> {
        let entries = match self {
            Self::Current | Self::Second => return Resources::read(run),
            Self::Newer => Resources::known_entries(run),
            Self::First => {
                let groups: Vec<PathBuf> = read_json(&run.join(GROUPS))?;
                let processes: Vec<ProcessIdentity> = read_json(&run.join(PROCESSES))?;
                let groups = groups.into_iter().map(Resource::Cgroup);
                groups.chain(processes.into_iter().map(Resource::Process)).collect()
            }
        };
        Ok(Resources::with_entries(run, entries))
    }
}
