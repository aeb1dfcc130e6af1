//! What a run owns on the host besides its directory: recorded before it is used, released in reverse order.
//!
//! A launcher releases the resources of its run however it ends, unless it is killed. `cleanup` then reads
//! the list that the launcher kept in the run's directory, and releases them by the same code. The directory
//! itself is in no list: it is where the list is, and it is removed when the list is empty.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{docker::EngineObject, native::remove_group, smolmachines::MachineObject};

mod process;

pub(crate) use process::ProcessIdentity;

/// Name of the list in the directory of a run.
pub(crate) const LIST: &str = "resources.json";

/// Something that a run owns. What another backend makes becomes a variant, with the name by which it is found
/// again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// A control group, by its folder.
    Cgroup(PathBuf),
    /// A process, and everything in the pid namespace whose first process it is.
    Process(ProcessIdentity),
    /// An object of a container engine.
    Engine(EngineObject),
    /// An object of a container engine that holds what the agent made, or that such an object needs. A run with
    /// work keeps it.
    Work(EngineObject),
    /// A virtual machine.
    Machine(MachineObject),
    /// A virtual machine whose disks hold what the agent made. A run with work keeps it, switched off.
    MachineWork(MachineObject),
}

/// Something outside of a run's folder that holds what its agent made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkObject {
    /// An object of a container engine.
    Engine(EngineObject),
    /// A virtual machine.
    Machine(MachineObject),
}

impl Resource {
    /// Removes or ends it, and returns when it is gone. Succeeds if it does not exist.
    pub(crate) fn release(&self) -> io::Result<()> {
        match self {
            Self::Cgroup(folder) => remove_group(folder),
            Self::Process(process) => process.end(),
            Self::Engine(object) | Self::Work(object) => object.remove(),
            Self::Machine(machine) | Self::MachineWork(machine) => machine.remove(),
        }
    }
}

impl Resource {
    fn is_work(&self) -> bool {
        matches!(self, Self::Work(_) | Self::MachineWork(_))
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cgroup(folder) => write!(formatter, "the cgroup {}", folder.display()),
            Self::Process(process) => write!(formatter, "process {}", process.pid),
            Self::Engine(object) | Self::Work(object) => object.fmt(formatter),
            Self::Machine(machine) | Self::MachineWork(machine) => machine.fmt(formatter),
        }
    }
}

/// The resources of one run, oldest first, with their list on disk.
#[derive(Debug)]
pub struct Resources {
    list: PathBuf,
    entries: Vec<Resource>,
}

impl Resources {
    /// For a run that owns nothing yet.
    pub(crate) fn new(run: &Path) -> Self {
        Self { list: run.join(LIST), entries: Vec::new() }
    }

    /// The resources that a dead run has recorded, or a living one; none if it has no list.
    pub(crate) fn read(run: &Path) -> io::Result<Self> {
        let mut resources = Self::new(run);
        resources.entries = read_json(&resources.list)?;
        Ok(resources)
    }

    /// The same for entries that are listed elsewhere.
    pub(crate) fn with_entries(run: &Path, entries: Vec<Resource>) -> Self {
        Self { entries, ..Self::new(run) }
    }

    /// The entries of a list that may hold resources of kinds that this version does not know.
    pub(crate) fn known_entries(run: &Path) -> Vec<Resource> {
        let entries: Vec<serde_json::Value> = read_json(&run.join(LIST)).unwrap_or_default();
        entries.into_iter().filter_map(|entry| serde_json::from_value(entry).ok()).collect()
    }

    /// Records a resource. To be called before it exists or, for a process, before it executes anything.
    ///
    /// # Errors
    /// When the list cannot be written; the resource must not be made then.
    pub fn add(&mut self, resource: Resource) -> io::Result<()> {
        self.entries.push(resource);
        self.write()
    }

    /// The objects of an engine with what the agent made.
    pub(crate) fn work_in_engine(&self) -> Vec<EngineObject> {
        let work = self.entries.iter().filter_map(|entry| match entry {
            Resource::Work(object) => Some(object.clone()),
            _ => None,
        });
        work.collect()
    }

    /// The machine with what the agent made.
    pub(crate) fn work_machine(&self) -> Option<MachineObject> {
        self.entries.iter().find_map(|entry| match entry {
            Resource::MachineWork(machine) => Some(machine.clone()),
            _ => None,
        })
    }

    /// Whether what the agent made is outside of the run's folder.
    pub(crate) fn has_work(&self) -> bool {
        self.entries.iter().any(Resource::is_work)
    }

    /// The other objects of an engine.
    pub(crate) fn of_engine_but_work(&self) -> Vec<EngineObject> {
        let others = self.entries.iter().rev().filter_map(|entry| match entry {
            Resource::Engine(object) => Some(object.clone()),
            _ => None,
        });
        others.collect()
    }

    /// From now on the agent writes to these objects, and to no others: those that had its work before are ordinary
    /// ones. In one step, so that a launcher that is killed leaves the one or the other.
    pub(crate) fn set_work(&mut self, work: &[WorkObject]) -> io::Result<()> {
        for entry in &mut self.entries {
            *entry = match entry.clone() {
                Resource::Engine(object) | Resource::Work(object) => {
                    let is_work = work.contains(&WorkObject::Engine(object.clone()));
                    if is_work { Resource::Work(object) } else { Resource::Engine(object) }
                }
                Resource::Machine(machine) | Resource::MachineWork(machine) => {
                    let is_work = work.contains(&WorkObject::Machine(machine.clone()));
                    if is_work { Resource::MachineWork(machine) } else { Resource::Machine(machine) }
                }
                other => other,
            };
        }
        self.write()
    }

    /// Releases everything, the newest first: a cgroup cannot be removed before its processes have ended.
    /// Returns what could not be released; the list stays as it was then, for `cleanup`.
    pub(crate) fn release(&mut self) -> Vec<(Resource, io::Error)> {
        self.release_if(|_| true)
    }

    /// The same for everything but the objects with what the agent made, which end and stay.
    pub(crate) fn release_all_but_work(&mut self) -> Vec<(Resource, io::Error)> {
        self.release_if(|resource| !resource.is_work())
    }

    /// An engine finishes what a launcher asked for before it was killed. A container that was not there yet when it
    /// was to be removed may hold a volume by now, so that nothing is struck off before all of it is gone, and what
    /// fails is tried once more from the start.
    fn release_if(&mut self, is_released: impl Fn(&Resource) -> bool) -> Vec<(Resource, io::Error)> {
        let release_once = || -> Vec<(Resource, io::Error)> {
            let released = self.entries.iter().rev().filter(|resource| is_released(resource));
            released.filter_map(|resource| Some((resource.clone(), resource.release().err()?))).collect()
        };
        let mut failed = release_once();
        if !failed.is_empty() {
            failed = release_once();
        }
        if failed.is_empty() {
            self.entries.retain(|resource| !is_released(resource));
            if !self.entries.is_empty() {
                // If this fails the old list stays, and releasing a resource twice does no harm.
                let _ = self.write();
            }
        }
        failed
    }

    /// Processes that still run.
    pub(crate) fn running(&self) -> Vec<u32> {
        running(&self.entries)
    }

    fn write(&self) -> io::Result<()> {
        replace(&self.list, &serde_json::to_vec(&self.entries)?)
    }
}

/// The processes among these resources that still run.
pub(crate) fn running(entries: &[Resource]) -> Vec<u32> {
    let processes = entries.iter().filter_map(|entry| match entry {
        Resource::Process(process) if process.runs() => Some(process.pid.unsigned_abs()),
        _ => None,
    });
    processes.collect()
}

/// Reads a list; empty if there is no file. An empty file is what is left of one after a power failure, which
/// no process and no cgroup outlives.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(list: &Path) -> io::Result<Vec<T>> {
    let invalid = |error: serde_json::Error| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged: {error}", list.display()))
    };
    match fs::read(list) {
        Ok(bytes) if bytes.is_empty() => Ok(Vec::new()),
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(invalid),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Writes a file by renaming a finished one to its name, rename(2): a reader sees the old content or the new
/// one, whenever the writer is killed.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    fs::write(&unfinished, content)?;
    fs::rename(&unfinished, path)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn sleeping() -> (std::process::Child, Resource) {
        let child = Command::new("sleep").arg("100").spawn().expect("a process");
        let identity = ProcessIdentity::of(child.id().cast_signed()).expect("recorded");
        (child, Resource::Process(identity))
    }

    #[test]
    fn a_resource_is_on_disk_when_it_is_added() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut resources = Resources::new(folder.path());
        let group = Resource::Cgroup("/sys/fs/cgroup/bot-bottle-x".into());
        resources.add(group.clone()).expect("recorded");
        assert_eq!(Resources::read(folder.path()).expect("read").entries, [group]);
    }

    #[test]
    fn the_newest_is_released_first_and_all_stays_recorded_until_all_is_gone() {
        let folder = tempfile::tempdir().expect("a folder");
        // Stands for a cgroup that is busy: a folder with something in it.
        let busy = folder.path().join("bot-bottle-busy");
        fs::create_dir_all(busy.join("in")).expect("folders");
        let late = folder.path().join("bot-bottle-late");
        let (mut child, process) = sleeping();
        let mut resources = Resources::new(folder.path());
        let recorded = [Resource::Cgroup(busy.clone()), Resource::Cgroup(late.clone()), process];
        for resource in recorded.clone() {
            resources.add(resource).expect("recorded");
        }
        let failed = resources.release();
        assert!(child.try_wait().is_err() || child.try_wait().expect("waited").is_some(), "it was killed");
        assert_eq!(failed.len(), 1);
        assert_eq!(failed[0].0, recorded[0]);
        assert_eq!(Resources::read(folder.path()).expect("read").entries, recorded);
        // What a launcher had asked for is made after all.
        fs::create_dir(&late).expect("a folder");
        fs::remove_dir(busy.join("in")).expect("removed");
        assert!(resources.release().is_empty(), "the second time it can be released");
        assert!(!busy.exists() && !late.exists());
    }

    #[test]
    fn a_damaged_list_is_an_error_and_an_empty_or_missing_one_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(Resources::read(folder.path()).expect("no list").entries.is_empty());
        fs::write(folder.path().join(LIST), "").expect("a file");
        assert!(Resources::read(folder.path()).expect("an empty list").entries.is_empty());
        for damaged in ["[", "{}", r#"[{"machine":"x"}]"#, r#"[{"process":{"pid":"x","started":1}}]"#] {
            fs::write(folder.path().join(LIST), damaged).expect("a file");
            let error = Resources::read(folder.path()).expect_err(damaged);
            assert!(error.to_string().contains("resources.json is damaged"), "{error}");
        }
    }
}
