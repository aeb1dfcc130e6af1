//! A run that this process makes, and undoes however its launch ends.

use std::io;

use crate::{
    request::Kept,
    resource::Resources,
    state::{self, Outcome, RunDirectory, Settled},
};

/// The directory and the resources of a run. Released when dropped: at an error, a panic and the normal end
/// alike.
#[derive(Debug)]
pub(crate) struct ActiveRun {
    /// Holds the lock, until everything is released.
    directory: Option<RunDirectory>,
    pub(crate) resources: Resources,
    /// How far the run came, which decides what is kept.
    pub(crate) outcome: Outcome,
}

impl ActiveRun {
    pub(crate) fn new(directory: RunDirectory) -> Self {
        let resources = Resources::new(directory.path());
        Self { directory: Some(directory), resources, outcome: Outcome::default() }
    }

    /// The same for a run that goes on, with what it had.
    pub(crate) fn going_on(directory: RunDirectory) -> io::Result<Self> {
        let resources = Resources::read(directory.path())?;
        Ok(Self { directory: Some(directory), resources, outcome: Outcome::default() })
    }

    /// Releases everything. Returns what is kept, and what could not be removed; `cleanup` finds
    /// that later because the lock is free.
    pub(crate) fn release(&mut self) -> Settled {
        let Some(directory) = self.directory.take() else { return Settled::default() };
        let look = || state::kept(directory.path(), self.outcome);
        // Of work in an engine it has to be known before it is released.
        let of_engine = self.resources.has_work().then(look);
        let failed = match of_engine {
            Some(kept) if kept != Kept::default() => self.resources.release_all_but_work(),
            Some(_) | None => self.resources.release(),
        };
        let kept = of_engine.unwrap_or_else(look);
        if failed.is_empty() {
            return state::settle(directory.path(), self.outcome, kept);
        }
        // The directory stays: it has the list that `cleanup` needs.
        let path = directory.path();
        let describe = |(resource, error): (_, io::Error)| {
            (path.to_owned(), io::Error::new(error.kind(), format!("{resource} is still there: {error}")))
        };
        let resource_errors = failed.into_iter().map(describe);
        Settled { kept, not_removed: resource_errors.collect() }
    }
}

impl Drop for ActiveRun {
    fn drop(&mut self) {
        self.release();
    }
}
