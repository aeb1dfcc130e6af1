//! Finds and removes what dead runs left.

use std::{io, path::PathBuf, time::SystemTime};

use bot_bottle_core::{error::IoContext, identity::Identity, limits::ByteSize};
use serde::Serialize;

use crate::{
    agent_folder::AgentFolder,
    docker::EngineObject,
    error::LaunchError,
    files::remove::remove_tree,
    home::BotBottleHome,
    kept::FetchState,
    resource::Resources,
    state::{self, Format},
};

/// What one run left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leftover {
    /// Whose; `None` for a folder that is not named like a run.
    pub identity: Option<Identity>,
    /// The folder that is removed.
    pub folder: PathBuf,
    /// Processes that still run, by process id.
    pub processes: Vec<u32>,
    /// Whether there may be work of the agent's.
    pub has_work: bool,
    /// Whether that was brought out.
    pub fetched: FetchState,
    /// When something was last written into its folder; `None` where the system does not say.
    pub last_written: Option<SystemTime>,
    /// Whether this version of bot-bottle can remove it.
    pub state: LeftoverState,
}

/// Whether, and how well, this version of bot-bottle understands what a run left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LeftoverState {
    /// Made by this version.
    Own,
    /// Made by an older version whose files are understood: it is removed like its own.
    Older,
    /// Made by a newer version, which alone knows what else belongs to it: it is not removed.
    Newer,
    /// Its list of resources is damaged, so that they would be left behind: it is not removed.
    Damaged(String),
}

impl Leftover {
    /// Whether [`apply`] removes it.
    #[must_use]
    pub fn is_removable(&self) -> bool {
        matches!(self.state, LeftoverState::Own | LeftoverState::Older)
    }

    /// Objects of a container engine that it has left besides its work, the newest first. Only a launcher that was
    /// killed leaves some.
    #[must_use]
    pub fn objects(&self) -> Vec<EngineObject> {
        Resources::read(&self.folder).map(|resources| resources.of_engine_but_work()).unwrap_or_default()
    }

    /// Switches the virtual machine off that holds its work. A launcher that was killed may have left it running, if the
    /// agent has broken out of its confinement there.
    ///
    /// # Errors
    /// When it still runs.
    pub fn stop_machine(&self) -> Result<(), LaunchError> {
        let reading = || format!("reading {}", self.folder.display());
        let machine = Resources::read(&self.folder).io_context(reading)?.work_machine();
        machine.map_or(Ok(()), |machine| machine.stop())
    }

    /// Whether it holds work that is nowhere else.
    #[must_use]
    pub fn is_only_copy(&self) -> bool {
        self.has_work && self.fetched != FetchState::Fetched
    }

    /// Bytes that the agent's work takes on the disk; `None` where there is none, or it cannot be measured.
    #[must_use]
    pub fn work_size(&self) -> Option<ByteSize> {
        AgentFolder::size_of_run(&self.folder).filter(|_| self.has_work)
    }

    /// What the operator should know about it, in one line.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        let running = match self.processes.as_slice() {
            [] => String::new(),
            processes => {
                let numbers: Vec<_> = processes.iter().map(u32::to_string).collect();
                format!("; still running: {}", numbers.join(", "))
            }
        };
        match &self.state {
            LeftoverState::Own => None,
            LeftoverState::Older => Some("made by another version of bot-bottle".to_owned()),
            LeftoverState::Newer => {
                Some(format!("made by another version of bot-bottle, newer than this one{running}"))
            }
            LeftoverState::Damaged(why) => Some(why.clone()),
        }
    }

    /// How to remove it, if [`apply`] does not.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let folder = self.folder.display();
        match self.state {
            LeftoverState::Own | LeftoverState::Older => None,
            LeftoverState::Newer => Some("run `cleanup` of that version".to_owned()),
            LeftoverState::Damaged(_) => Some(format!(
                "end the processes that have {folder} in their command line or open, and remove the folder by hand"
            )),
        }
    }
}

/// What dead runs left. Living runs are never in it.
///
/// # Errors
/// When the state directory cannot be read.
pub fn plan(home: &BotBottleHome) -> io::Result<Vec<Leftover>> {
    let mut leftovers = Vec::new();
    for folder in state::folders(home)? {
        if state::is_alive(&folder)? {
            continue;
        }
        let last_written = std::fs::metadata(&folder).and_then(|metadata| metadata.modified()).ok();
        let format = Format::of(&folder)?;
        // A launcher that was killed did not look whether anything was written.
        let has_work = format.has_work(&folder);
        let identity = state::identity_of(&folder);
        let (processes, state) = match (format.resources(&folder), format) {
            (Ok(resources), Format::Current) => (resources.running(), LeftoverState::Own),
            // An interrupted removal may have taken the file `format` away already.
            (Ok(resources), Format::First | Format::Second) if identity.is_none() => {
                (resources.running(), LeftoverState::Own)
            }
            (Ok(resources), Format::First | Format::Second) => (resources.running(), LeftoverState::Older),
            (Ok(resources), Format::Newer) => (resources.running(), LeftoverState::Newer),
            (Err(error), _) => (Vec::new(), LeftoverState::Damaged(error.to_string())),
        };
        let fetched = FetchState::of(&folder);
        leftovers.push(Leftover { identity, processes, has_work, fetched, last_written, state, folder });
    }
    Ok(leftovers)
}

/// Removes what was planned and can be removed, after checking again that each run is dead.
///
/// # Errors
/// The first thing that could not be removed; the others are removed all the same.
pub fn apply(home: &BotBottleHome, leftovers: &[Leftover]) -> io::Result<()> {
    let mut first = Ok(());
    for leftover in leftovers.iter().filter(|leftover| leftover.is_removable()) {
        let removed = remove(home, leftover);
        if first.is_ok() {
            first = removed;
        }
    }
    first
}

fn remove(home: &BotBottleHome, leftover: &Leftover) -> io::Result<()> {
    // No run is made while this is held, so a run that is dead stays dead. It is held only until the folder
    // has another name: an agent can leave so many files that their removal takes hours, during which no
    // bottle could start.
    let registry = state::lock_registry(home)?;
    if leftover.folder.parent() != Some(home.state().as_path()) || state::is_alive(&leftover.folder)? {
        return Ok(());
    }
    let mut resources = Format::of(&leftover.folder)?.resources(&leftover.folder)?;
    if let Some((resource, error)) = resources.release().into_iter().next() {
        return Err(io::Error::new(error.kind(), format!("{resource} is still there: {error}")));
    }
    let folder = state::set_aside(&leftover.folder)?;
    drop(registry);
    remove_tree(&folder)
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use bot_bottle_core::work::Baseline;

    use super::*;
    use crate::{
        resource::{ProcessIdentity, Resource},
        state::{RunDirectory, StartRecord},
    };

    fn sleeping() -> (std::process::Child, ProcessIdentity) {
        let child = Command::new("sleep").arg("100").spawn().expect("a process");
        let identity = ProcessIdentity::of(child.id().cast_signed()).expect("it runs");
        (child, identity)
    }

    #[test]
    fn the_dead_go_and_the_living_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = BotBottleHome::new(folder.path());
        let identity = |text: &str| text.parse::<Identity>().expect("an identity");
        let living = RunDirectory::create(&home, &identity("agent-aaaaa")).expect("made");
        let dead = RunDirectory::create(&home, &identity("agent-bbbbb")).expect("made");
        let agent = AgentFolder::of(dead.path());
        agent.create(None).expect("made");
        StartRecord::write(dead.path(), Baseline::default(), None).expect("recorded");
        fs::write(agent.workspace().join("work"), b"x").expect("a file");
        agent.close().expect("closed");
        let (child, recorded) = sleeping();
        // The second stands for a later process that has the same number.
        let reused = ProcessIdentity { pid: std::process::id().cast_signed(), started: 1 };
        let mut resources = Resources::new(dead.path());
        for process in [recorded, reused] {
            resources.add(Resource::Process(process)).expect("recorded");
        }
        drop(dead);

        let leftovers = plan(&home).expect("planned");
        assert_eq!(leftovers.len(), 1);
        assert_eq!(leftovers[0].identity, Some(identity("agent-bbbbb")));
        assert_eq!(leftovers[0].processes, [child.id()]);
        assert!(leftovers[0].has_work && leftovers[0].work_size().is_some());
        apply(&home, &leftovers).expect("removed");
        assert!(!recorded.runs(), "it was killed");
        drop(child);
        assert!(plan(&home).expect("planned").is_empty());
        assert!(living.path().exists());
    }

    #[test]
    fn bottles_start_while_a_dead_run_is_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = BotBottleHome::new(folder.path());
        let dead = RunDirectory::create(&home, &"agent-bbbbb".parse().expect("an identity")).expect("made");
        for number in 0..30_000 {
            fs::write(dead.path().join(format!("file-{number}")), b"").expect("a file");
        }
        drop(dead);
        let set_aside = || {
            let folders = crate::state::folders(&home).expect("listed");
            folders.into_iter().any(|folder| crate::state::identity_of(&folder).is_none())
        };
        let leftovers = plan(&home).expect("planned");
        std::thread::scope(|scope| {
            let removal = scope.spawn(|| apply(&home, &leftovers));
            while !set_aside() {
                assert!(!removal.is_finished(), "it was removed under its own name");
                std::thread::yield_now();
            }
            let living = RunDirectory::create(&home, &"agent-aaaaa".parse().expect("an identity"));
            assert!(set_aside(), "it was made only when the other was gone");
            assert!(living.is_ok());
            removal.join().expect("no panic").expect("removed");
        });
        assert!(!set_aside(), "it is gone");
    }

    #[test]
    fn a_removal_that_was_broken_off_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = BotBottleHome::new(folder.path());
        let dead = RunDirectory::create(&home, &"agent-bbbbb".parse().expect("an identity")).expect("made");
        fs::write(dead.path().join("file"), b"").expect("a file");
        let path = dead.path().to_owned();
        drop(dead);
        let aside = crate::state::set_aside(&path).expect("renamed");
        let leftovers = plan(&home).expect("planned");
        assert_eq!(leftovers.iter().map(|leftover| &leftover.folder).collect::<Vec<_>>(), [&aside]);
        apply(&home, &leftovers).expect("removed");
        assert!(plan(&home).expect("planned").is_empty() && !aside.exists());
    }

    /// A dead run whose files another version wrote.
    fn foreign(home: &BotBottleHome, name: &str, files: &[(&str, String)]) -> PathBuf {
        let folder = home.run(&name.parse().expect("an identity"));
        fs::create_dir_all(&folder).expect("a folder");
        for (name, content) in files.iter().chain(&[("lock", String::new())]) {
            fs::write(folder.join(name), content).expect("a file");
        }
        folder
    }

    #[test]
    fn a_run_of_the_first_format_is_told_apart_and_removed_with_its_processes() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = BotBottleHome::new(folder.path());
        let (child, process) = sleeping();
        let group = folder.path().join("bot-bottle-group");
        let foreign_group = folder.path().join("somebody-elses");
        for group in [&group, &foreign_group] {
            fs::create_dir(group).expect("a folder stands for a cgroup");
        }
        let run = foreign(
            &home,
            "agent-aaaaa",
            &[
                ("processes.json", format!(r#"[{{"pid":{},"started":{}}}]"#, process.pid, process.started)),
                ("groups.json", serde_json::to_string(&[&group, &foreign_group]).expect("JSON")),
                ("plan.json", "{}".to_owned()),
            ],
        );
        let leftovers = plan(&home).expect("planned");
        assert_eq!(leftovers.len(), 1);
        assert_eq!(leftovers[0].processes, [child.id()]);
        assert_eq!(leftovers[0].note().as_deref(), Some("made by another version of bot-bottle"));
        apply(&home, &leftovers).expect("removed");
        assert!(!process.runs() && !group.exists() && !run.exists());
        assert!(foreign_group.exists(), "only groups with our prefix are touched");
    }

    #[test]
    fn a_run_of_a_newer_format_is_kept_with_its_processes_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = BotBottleHome::new(folder.path());
        let (mut child, process) = sleeping();
        let (pid, started) = (process.pid, process.started);
        let resources = format!(r#"[{{"machine":"m1"}},{{"process":{{"pid":{pid},"started":{started}}}}}]"#);
        let run =
            foreign(&home, "agent-aaaaa", &[("format", "9\n".to_owned()), ("resources.json", resources)]);
        let older = foreign(&home, "agent-bbbbb", &[]);
        let leftovers = plan(&home).expect("planned");
        let note = leftovers[0].note().expect("a note");
        assert!(note.ends_with(&format!("newer than this one; still running: {pid}")), "{note}");
        assert!(leftovers[0].hint().is_some_and(|hint| hint.contains("of that version")));
        apply(&home, &leftovers).expect("the other one is removed");
        assert!(process.runs() && run.join("resources.json").exists() && !older.exists());
        child.kill().expect("killed");
        child.wait().expect("waited");
    }

    #[test]
    fn a_run_with_a_damaged_list_is_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = BotBottleHome::new(folder.path());
        for (name, files) in [
            ("agent-aaaaa", vec![("format", "3\n".to_owned()), ("resources.json", "[{".to_owned())]),
            ("agent-bbbbb", vec![("processes.json", "nonsense".to_owned())]),
            ("agent-ccccc", vec![("groups.json", "nonsense".to_owned())]),
        ] {
            let run = foreign(&home, name, &files);
            let leftovers = plan(&home).expect("planned");
            let leftover = leftovers.iter().find(|leftover| leftover.folder == run).expect("it is listed");
            assert!(leftover.note().is_some_and(|note| note.contains(".json is damaged")), "{leftover:?}");
            assert!(leftover.hint().is_some_and(|hint| hint.contains(&*run.to_string_lossy())));
            apply(&home, &leftovers).expect("nothing to remove");
            assert!(run.exists());
        }
    }
}
