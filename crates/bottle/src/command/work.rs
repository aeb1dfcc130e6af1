//! What `diff`, `pull`, `cp` and the closing lines have in common: a question to the inspector, which looks
//! at an agent's work in a throw-away bottle, and its answer as a stream.

use std::{
    fs::File,
    io::{self, Read, Seek, Write},
    time::Duration,
};

use bot_bottle_core::{
    bottle::BackendName, error::IoContext, identity::Identity, printable::printable, provider::GuestPaths,
    work::Baseline,
};
use bot_bottle_inspector::{HINTS, Places, Request, Summary};
use bot_bottle_launch::{
    home::BotBottleHome,
    inspect::{InspectRequest, WorkAccess},
    kept::{self, FetchBegin, WorkOrigin},
    request::{Kept, ProgramStatus},
};

use super::{described, prepare, quarantine::Quarantine};
use crate::{exit::CommandError, system, ui::Ui};

/// Most bytes of one answer.
const MAX_ANSWER_BYTES: u64 = 64 << 30;

/// After how many bytes of an answer it is looked whether the disk has room.
const CHECKED_BYTES: u64 = 64 << 20;

/// Bytes of the disk that are left to others: an answer may have no end.
const SPARED_BYTES: u64 = 1 << 30;

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
    pub(super) backend: BackendName,
    /// From before it was looked at.
    begin: FetchBegin,
}

/// Whether a question has an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// The stream is whole.
    Whole,
    /// It ended well, and the operator was warned that something was left out of it.
    InPart,
    /// The agent changed nothing.
    Nothing,
}

/// What the inspector may do, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) access: WorkAccess,
    /// Whether the agent's home is needed.
    pub(super) home: bool,
    pub(super) time: Option<Duration>,
}

impl Terms {
    /// To read, as long as it takes.
    pub(super) const READ: Self = Self { access: WorkAccess::Read, home: false, time: None };
}

impl Work {
    /// The work of a run, if there is any.
    pub(super) fn of(run: &Identity) -> Result<Self, CommandError> {
        let home = prepare::home()?;
        let WorkOrigin { baseline, backend } = kept::origin(&home, run).map_err(CommandError::from_error)?;
        let begin = FetchBegin::of(&home, run).io_context(|| format!("looking whether {run} is running"))?;
        Ok(Self { home, run: run.clone(), baseline, backend, begin })
    }

    /// How files at a path of the agent's are asked for.
    pub(super) fn terms_for(&self, path: &str, access: WorkAccess) -> Terms {
        let home = Places::is_outside_workspace(&GuestPaths::default().workspace, path);
        Terms { access, home, time: None }
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
            needs_home: terms.home,
            time: terms.time,
            home: self.home.clone(),
            operator_home: system::home().ok(),
            executable: system::own_binary()?,
        };
        let backend = prepare::implementation(inspection.backend)?;
        let mut input = line.as_slice().chain(archive);
        let end = bot_bottle_launch::inspect(&*backend, &inspection, &mut input, output)
            .map_err(CommandError::from_error)?;
        match end.status {
            ProgramStatus::Exited(0) => {
                // The agent's filters write there as well: it must not look like a word of ours.
                end.error.lines().for_each(|line| ui.warn(&format!("the bottle says: {line}")));
                Ok(if end.error.is_empty() { Answer::Whole } else { Answer::InPart })
            }
            ProgramStatus::Exited(NOTHING) => Ok(Answer::Nothing),
            ProgramStatus::Exited(_) | ProgramStatus::Signalled(_) => {
                // Advice of the agent's is no advice.
                let (why, hint) = match end.error.rsplit_once("\nhint: ") {
                    Some((why, hint)) if HINTS.contains(&hint) => (why, Some(hint)),
                    _ => (end.error.as_str(), None),
                };
                let why = printable(why);
                let error = CommandError::failed(format!(
                    "the work of {} cannot be read; the bottle says: {why}",
                    self.run
                ));
                Err(hint.into_iter().fold(error, CommandError::with_hint))
            }
        }
    }

    /// The same with the answer in a file, which has no name.
    pub(super) fn ask_for_file(
        &self,
        request: &Request,
        terms: Terms,
        quarantine: &Quarantine,
        ui: &Ui,
    ) -> Result<(Answer, File), CommandError> {
        let staging = || "writing what comes out of the bottle";
        let mut file = quarantine.file().io_context(staging)?;
        let (mut bytes, mut checked) = (0_u64, 0);
        let answer = self.ask(
            request,
            terms,
            &mut io::empty(),
            &mut |piece| {
                bytes += piece.len() as u64;
                if bytes > MAX_ANSWER_BYTES {
                    return Err(io::ErrorKind::FileTooLarge.into());
                }
                if bytes / CHECKED_BYTES > checked {
                    checked = bytes / CHECKED_BYTES;
                    let disk = rustix::fs::fstatvfs(&file)?;
                    if disk.f_bavail.saturating_mul(disk.f_frsize) < SPARED_BYTES {
                        return Err(io::ErrorKind::StorageFull.into());
                    }
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

    /// Records that the work was brought out, all of it or not.
    pub(super) fn mark_fetched(&self, is_whole: bool) -> Result<(), CommandError> {
        let marked = kept::mark_fetched(&self.home, &self.run, &self.begin, is_whole);
        Ok(marked.io_context(|| format!("recording that the work of {} was fetched", self.run))?)
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
        Ok(summary) => (described::work(summary), described::fetch(run, summary)),
        Err(_) => ("the agent's work".to_owned(), format!("`bot-bottle cp {run}:. FOLDER` copies it")),
    };
    ui.progress(&format!("kept: {what}; `bot-bottle diff {run}` shows it, {fetch}"));
}

/// Why nothing is shown: git sees no change, which does not say that there is none.
pub(super) fn nothing(run: &Identity) -> String {
    format!(
        "there is no change that git sees; `bot-bottle cp {run}:PATH FOLDER` brings files that it ignores"
    )
}
