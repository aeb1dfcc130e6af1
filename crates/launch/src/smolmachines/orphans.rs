//! What smolvm has of runs that are gone, and images that no machine needs, for `cleanup`.

use std::{fmt, fs, io, path::PathBuf, time::SystemTime};

use bot_bottle_core::{
    error::{IoContext, IoError},
    identity::Identity,
};
use serde::Serialize;

use crate::{error::LaunchError, files::remove::remove_tree, home::BotBottleHome};

use super::{MachineObject, image::unused_archives, names::RUN_LABEL};

/// Something that belongs to no run any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MachineOrphan {
    /// A machine of a run whose folder is gone.
    Machine(MachineObject),
    /// A copy of an image that no machine is made of: a file, or a folder of smolvm's.
    Image(PathBuf),
}

impl fmt::Display for MachineOrphan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine(machine) => machine.fmt(formatter),
            Self::Image(path) => write!(formatter, "the copy of an image {}", path.display()),
        }
    }
}

/// What belongs to no run of this home any more. Nothing of a living run is among it, nor of one that left something.
/// Without smolvm's program only the images that were saved for it are found.
///
/// # Errors
/// When smolvm, or a folder of its, cannot be asked.
pub fn orphans(program: Option<PathBuf>, home: &BotBottleHome) -> Result<Vec<MachineOrphan>, LaunchError> {
    let (images, now) = (home.machine_images(), SystemTime::now());
    let saved = unused_archives(&images, now).io_context(|| format!("reading {}", images.display()))?;
    let mut orphans: Vec<MachineOrphan> = saved.into_iter().map(MachineOrphan::Image).collect();
    let state_dir = home.machines();
    // Where none was ever made, smolvm has nothing.
    let Some(program) = program.filter(|_| state_dir.is_dir()) else { return Ok(orphans) };
    let smolvm = super::open(&program, state_dir.clone())?;
    // Before the folders are looked at: a machine that is listed has been made by a run that had one.
    for machine in smolvm.machines()? {
        let run = machine.labels.get(RUN_LABEL).and_then(|run| run.parse::<Identity>().ok());
        if run.is_some_and(|run| !home.run(&run).exists()) {
            let (program, state_dir) = (program.clone(), state_dir.clone());
            orphans.push(MachineOrphan::Machine(MachineObject { program, state_dir, name: machine.name }));
        }
    }
    orphans.extend(smolvm.unused_images(now)?.into_iter().map(MachineOrphan::Image));
    Ok(orphans)
}

/// Removes them.
///
/// # Errors
/// The first that could not be removed; the others are removed all the same.
pub fn remove_orphans(orphans: &[MachineOrphan]) -> Result<(), IoError> {
    let mut first = Ok(());
    for orphan in orphans {
        let removed = match orphan {
            MachineOrphan::Machine(machine) => machine.remove(),
            MachineOrphan::Image(path) if path.is_dir() => remove_tree(path),
            MachineOrphan::Image(path) => match fs::remove_file(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            },
        };
        if first.is_ok() {
            first = removed.io_context(|| format!("removing {orphan}"));
        }
    }
    first
}
