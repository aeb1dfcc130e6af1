//! What `diff`, `pull`, `cp` and the closing lines have in common: a question to the inspector, which looks
//! at an agent's work in a throw-away bottle, and its answer as a stream.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read, Seek, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::Duration,
};

use bot_bottle_core::{baseline::Baseline, bottle::BackendName, error::IoContext, identity::Identity};
use bot_bottle_inspector::{Request, Summary};
use bot_bottle_launch::{
    home::BotBottleHome,
    inspect::{InspectRequest, WorkAccess},
    kept::{self, WorkOrigin},
    request::{Kept, ProgramStatus},
};

use super::prepare;
use crate::{exit::CommandError, system, ui::Ui};

/// Most bytes of one answer.
const MAX_ANSWER_BYTES: u64 = 64 << 30;

/// Most bytes of a summary.
const MAX_SUMMARY_BYTES: u64 = 1 << 20;

/// How long the closing lines may wait for it.
const SUMMARY_TIME: Duration = Duration::from_secs(20);

/// The exit code of the inspector where the agent changed nothing.
const NOTHING: u8 = 3;

/// The work of a run.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) home: BotBottleHome,
    pub(super) run: Identity,
    pub(super) baseline: Baseline,
    backend: BackendName,
}

/// Whether a question has an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// The stream is whole.
    Whole,
    /// The agent changed nothing.
    Nothing,
}

/// What the inspector may do, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) access: WorkAccess,
    pub(super) time: Option<Duration>,
}

impl Terms {
    /// To read, as long as it takes.
    pub(super) const READ: Self = Self { access: WorkAccess::Read, time: None };
}

impl Work {
    /// The work of a run, if there is any.
    pub(super) fn of(run: &Identity) -> Result<Self, CommandError> {
        let home = prepare::home()?;
        let WorkOrigin { baseline, backend } = kept::origin(&home, run).map_err(CommandError::from_error)?;
        Ok(Self { home, run: run.clone(), baseline, backend })
    }

    /// Asks the inspector. `archive` follows the request on its standard input; `output` takes its answer,
    /// which may be anything: the agent's own repository can make git say what it likes. An answer is whole
    /// only if this succeeds.
    pub(super) fn ask(
        &self,
        request: &Request,
        terms: Terms,
        archive: &mut dyn Read,
        output: &mut dyn FnMut(&[u8]) -> io::Result<()>,
        ui: &Ui,
    ) -> Result<Answer, CommandError> {
        let mut line = serde_json::to_vec(request).map_err(io::Error::from).io_context(|| "asking")?;
        line.push(b'\n');
        let inspection = InspectRequest {
            run: self.run.clone(),
            identity: prepare::identity("look")?,
            backend: self.backend,
            arguments: vec!["inspect".to_owned()],
            access: terms.access,
            time: terms.time,
            home: self.home.clone(),
            operator_home: system::home().ok(),
            executable: system::own_binary()?,
        };
        let backend = prepare::implementation(inspection.backend)?;
        let mut input = line.as_slice().chain(archive);
        let end = bot_bottle_launch::inspect(backend, &inspection, &mut input, output)
            .map_err(CommandError::from_error)?;
        match end.status {
            ProgramStatus::Exited(0) => {
                end.error.lines().for_each(|left_out| ui.warn(left_out));
                Ok(Answer::Whole)
            }
            ProgramStatus::Exited(NOTHING) => Ok(Answer::Nothing),
            ProgramStatus::Exited(_) | ProgramStatus::Signalled(_) => {
                let (why, hint) = match end.error.rsplit_once("\nhint: ") {
                    Some((why, hint)) => (why, Some(hint)),
                    None => (end.error.as_str(), None),
                };
                let error = CommandError::failed(format!("the work of {} cannot be read: {why}", self.run));
                Err(hint.into_iter().fold(error, CommandError::with_hint))
            }
        }
    }

    /// The same with the answer in a file, which has no name.
    pub(super) fn ask_for_file(
        &self,
        request: &Request,
        quarantine: &Quarantine,
        ui: &Ui,
    ) -> Result<(Answer, File), CommandError> {
        let staging = || "writing what comes out of the bottle";
        let mut file = quarantine.file().io_context(staging)?;
        let mut bytes = 0_u64;
        let answer = self.ask(
            request,
            Terms::READ,
            &mut io::empty(),
            &mut |piece| {
                bytes += piece.len() as u64;
                if bytes > MAX_ANSWER_BYTES {
                    return Err(io::ErrorKind::FileTooLarge.into());
                }
                file.write_all(piece)
            },
            ui,
        )?;
        file.rewind().io_context(staging)?;
        Ok((answer, file))
    }

    /// What there is, in numbers.
    pub(super) fn summary(&self, time: Option<Duration>, ui: &Ui) -> Result<Summary, CommandError> {
        let mut text = Vec::new();
        let request = Request::Summary { baseline: self.baseline.clone() };
        let terms = Terms { time, ..Terms::READ };
        let mut output = |piece: &[u8]| {
            text.extend_from_slice(piece);
            if text.len() as u64 > MAX_SUMMARY_BYTES {
                Err(io::ErrorKind::FileTooLarge.into())
            } else {
                Ok(())
            }
        };
        self.ask(&request, terms, &mut io::empty(), &mut output, ui)?;
        let summary = serde_json::from_slice(&text).map_err(io::Error::from);
        Ok(summary.io_context(|| format!("reading what there is of {}", self.run))?)
    }

    /// Records that everything was brought out.
    pub(super) fn mark_fetched(&self) -> Result<(), CommandError> {
        let marked = kept::mark_fetched(&self.home, &self.run);
        Ok(marked.io_context(|| format!("recording that the work of {} was fetched", self.run))?)
    }
}

/// A private folder for what is not verified yet, beside the runs. Removed when dropped.
#[derive(Debug)]
pub(super) struct Quarantine {
    folder: PathBuf,
}

impl Quarantine {
    pub(super) fn create(home: &BotBottleHome) -> Result<Self, CommandError> {
        let folder = home.path().join("quarantine").join(prepare::identity("look")?.as_str());
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .io_context(|| format!("making {}", folder.display()))?;
        Ok(Self { folder })
    }

    pub(super) fn path(&self) -> &Path {
        &self.folder
    }

    /// A file without a name.
    pub(super) fn file(&self) -> io::Result<File> {
        let path = self.folder.join("stream");
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        fs::remove_file(&path)?;
        Ok(file)
    }
}

impl Drop for Quarantine {
    fn drop(&mut self) {
        // What stays is in a private folder, and is nothing that anybody uses.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The closing lines of a run: what there is, how it is fetched, and how the conversation goes on. A summary
/// that takes long is left out, and so is one that the repository does not allow; the work is there all the
/// same.
pub(super) fn tell(run: &Identity, kept: Kept, ui: &Ui) {
    if kept.work {
        tell_work(run, ui);
    }
    if kept.conversation {
        ui.progress(&format!("`bot-bottle resume {run}` goes on with the conversation"));
    }
}

fn tell_work(run: &Identity, ui: &Ui) {
    let summary = Work::of(run).and_then(|work| work.summary(Some(SUMMARY_TIME), ui));
    let (what, fetch) = match &summary {
        Ok(summary) => (described(summary), fetch(run, summary)),
        Err(_) => ("the agent's work".to_owned(), format!("`bot-bottle cp {run}:. FOLDER` copies it")),
    };
    ui.progress(&format!("kept: {what}; `bot-bottle diff {run}` shows it, {fetch}"));
}

/// The command that brings all of it out.
fn fetch(run: &Identity, summary: &Summary) -> String {
    match summary.repositories.as_slice() {
        [] => format!("`bot-bottle cp {run}:. FOLDER` copies it"),
        [only] if !only.folder.is_empty() => {
            format!("`bot-bottle pull {run} --repository {}` fetches it", only.folder)
        }
        _ => format!("`bot-bottle pull {run}` fetches it"),
    }
}

/// What there is, in words: `3 commits, 2 files not committed, 14 files new`.
pub(super) fn described(summary: &Summary) -> String {
    let count = |number: usize, one: &str, many: &str| match number {
        0 => None,
        1 => Some(format!("1 {one}")),
        _ => Some(format!("{number} {many}")),
    };
    let mut parts = Vec::new();
    for repository in &summary.repositories {
        let counts = [
            count(repository.commits, "commit", "commits"),
            count(repository.uncommitted, "file not committed", "files not committed"),
            count(repository.new_files, "file new", "files new"),
        ];
        let counts: Vec<String> = counts.into_iter().flatten().collect();
        match (counts.is_empty(), repository.folder.as_str()) {
            (true, _) => {}
            (false, "") => parts.push(counts.join(", ")),
            (false, folder) => parts.push(format!("{} in {folder}", counts.join(", "))),
        }
    }
    let loose = [
        count(summary.files.new, "file new", "files new"),
        count(summary.files.changed, "file changed", "files changed"),
    ];
    parts.extend(loose.into_iter().flatten());
    match (parts.is_empty(), summary.written) {
        (false, _) => parts.join(", "),
        (true, true) => "files that git ignores, or that are gone".to_owned(),
        (true, false) => "nothing was changed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use bot_bottle_inspector::{LooseFiles, RepositorySummary};

    use super::*;

    #[test]
    fn work_is_told_in_words() {
        let repository =
            RepositorySummary { commits: 3, uncommitted: 2, new_files: 14, ..Default::default() };
        let cloned = RepositorySummary { folder: "cloned".to_owned(), commits: 1, ..Default::default() };
        let files = LooseFiles { new: 1, changed: 0 };
        for (summary, words) in [
            (
                Summary { written: true, repositories: vec![repository], ..Default::default() },
                "3 commits, 2 files not committed, 14 files new",
            ),
            (Summary { written: true, repositories: vec![cloned], files }, "1 commit in cloned, 1 file new"),
            (Summary { written: true, ..Default::default() }, "files that git ignores, or that are gone"),
            (Summary::default(), "nothing was changed"),
        ] {
            assert_eq!(described(&summary), words);
        }
    }
}
