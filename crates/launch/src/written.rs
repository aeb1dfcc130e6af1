//! What an agent wrote, asked in its bottle: for a backend whose bottles have their files where the launcher cannot
//! look.
//!
//! The agent's processes may still run then, as the same user, and could make the answer a false one. They could as
//! well remove the files.

use std::{
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bot_bottle_core::{
    limits::Limits,
    plan::{AGENT_PROGRAM_FOLDER, BottlePlan},
    work::FileTime,
};
use rustix::{
    fs::{Mode, OFlags, open, openat2},
    process::Signal,
};
use serde::{Deserialize, Serialize};

use crate::{
    backend::{Sandbox, SessionId, StartProgram},
    files::{changes::changed_since, rooted_dir::BENEATH},
    program_run::ProgramRun,
    request::{ProgramStatus, Terminal},
    session::LimitWatchers,
    state::{self, StartRecord, Written, holds_files},
};

/// How long the answer may take: a tree of a million files is walked in about five seconds.
const TIME: Duration = Duration::from_secs(20);

/// Most bytes of an answer.
const MAX_ANSWER_BYTES: usize = 4 << 10;

/// The number of the program; the agent has 0, clients of `exec` count up, and what runs before the agent counts down.
const SESSION: SessionId = SessionId(u64::MAX >> 1);

/// What is asked, as JSON in an argument of `bot-bottle written`.
#[derive(Debug, Serialize, Deserialize)]
struct Question {
    /// When the agent started, by the clock of its file system.
    since: FileTime,
    workspace: PathBuf,
    home: PathBuf,
    /// The folder with the agent's conversations, relative to its home.
    conversations: Option<PathBuf>,
}

/// Answers a question, in the bottle.
///
/// # Errors
/// When it is none, or there is no workspace.
pub fn written(question: &str) -> io::Result<String> {
    let question: Question = serde_json::from_str(question)?;
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let workspace = open(&question.workspace, flags, Mode::empty())?;
    let answer = Written {
        changed: changed_since(workspace.as_fd(), question.since),
        holds_files: holds_files(workspace.as_fd()),
        conversation: question.conversations.is_some_and(|path| has_entries(&question.home, &path)),
    };
    Ok(serde_json::to_string(&answer)?)
}

fn has_entries(home: &Path, folder: &Path) -> bool {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let home = open(home, flags | OFlags::PATH, Mode::empty());
    let opened = home.and_then(|home| openat2(&home, folder, flags | OFlags::PATH, Mode::empty(), BENEATH));
    opened.is_ok_and(|folder| holds_files(folder.as_fd()))
}

/// Asks in the sandbox of a run, and keeps the answer in its folder. Where there is none, everything counts as
/// written.
pub(crate) fn ask(sandbox: &mut dyn Sandbox, plan: &BottlePlan, run: &Path) {
    // One that was told to end may go on writing. Fails only if everything has ended.
    let _ = sandbox.signal(SessionId::AGENT, Signal::KILL);
    if let Ok(written) = answer(sandbox, plan, run) {
        // Without it the run keeps all that it has.
        let _ = written.write(run);
    }
}

fn answer(sandbox: &mut dyn Sandbox, plan: &BottlePlan, run: &Path) -> io::Result<Written> {
    let record = StartRecord::read(run)?.ok_or(io::ErrorKind::NotFound)?;
    let question = Question {
        since: record.baseline.started,
        workspace: plan.guest.workspace.clone(),
        home: plan.guest.home.clone(),
        conversations: state::read_agent(run)?.map(|agent| agent.conversations),
    };
    let program = StartProgram {
        command: vec![
            format!("{AGENT_PROGRAM_FOLDER}/bot-bottle"),
            "written".to_owned(),
            serde_json::to_string(&question)?,
        ],
        environment: [].into(),
        working_directory: "/".into(),
        terminal: Terminal::Pipes,
        size: None,
    };
    let mut text = Vec::new();
    let mut output = |bytes: &[u8]| {
        text.extend_from_slice(bytes);
        if text.len() > MAX_ANSWER_BYTES { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(()) }
    };
    let asking = ProgramRun {
        input: &mut io::empty(),
        output: &mut output,
        signals: None,
        limits: LimitWatchers::new(&Limits::default(), "/".as_ref()),
        deadline: Some(Instant::now() + TIME),
    };
    let end = asking.run(sandbox, SESSION, &program).map_err(io::Error::from)?;
    if end.status != ProgramStatus::Exited(0) {
        return Err(io::Error::other(end.error));
    }
    let written: Written = serde_json::from_slice(&text)?;
    Ok(Written { changed: written.changed || record.is_clock_set_since(), ..written })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_was_written_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("workspace")).expect("made");
        fs::create_dir_all(at("talks")).expect("made");
        let ask = |since| {
            let question = Question {
                since,
                workspace: at("workspace"),
                home: folder.path().to_owned(),
                conversations: Some("talks".into()),
            };
            let answer = written(&serde_json::to_string(&question).expect("JSON")).expect("answered");
            serde_json::from_str::<Written>(&answer).expect("an answer")
        };
        let never = (i64::MAX, 0);
        assert_eq!(ask(never), Written { changed: false, holds_files: false, conversation: false });
        fs::write(at("workspace/file"), "x").expect("written");
        fs::write(at("talks/one"), "x").expect("written");
        assert_eq!(ask(never), Written { changed: false, holds_files: true, conversation: true });
        assert!(ask((0, 0)).changed);
        fs::remove_dir_all(at("workspace")).expect("removed");
        written("{}").expect_err("no question");
    }
}
