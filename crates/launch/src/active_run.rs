//! A run that this process makes, and undoes however its launch ends.

use std::io;

use crate::{
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

    /// Releases everything. Returns what is kept, and what could not be removed; `cleanup` finds
    /// that later because the lock is free.
    pub(crate) fn release(&mut self) -> Settled {
        let Some(directory) = self.directory.take() else { return Settled::default() };
        let failed = self.resources.release();
        if failed.is_empty() {
            return state::settle(directory.path(), self.outcome);
        }
        // The directory stays: it has the list that `cleanup` needs.
        let path = directory.path();
        let describe = |(resource, error): (_, io::Error)| {
            (path.to_owned(), io::Error::new(error.kind(), format!("{resource} is still there: {error}")))
        };
        let resource_errors = failed.into_iter().map(describe);
        Settled { kept: state::kept(path, self.outcome), not_removed: resource_errors.collect() }
    }
}

impl Drop for ActiveRun {
    fn drop(&mut self) {
        self.release();
    }
}
