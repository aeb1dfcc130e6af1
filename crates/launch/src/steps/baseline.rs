//! Finds out what git has of the workspace before the agent changes it.
//!
//! git runs in the sandbox, as every program that reads the operator's repository does: its configuration may
//! come from a stranger. The host only keeps what it says, which serves to show the agent's work and nothing
//! else.

use std::{
    io,
    path::PathBuf,
    time::{Duration, Instant},
};

use bot_bottle_core::{limits::Limits, plan::BottlePlan, work::Baseline};

use crate::{
    backend::{Sandbox, SessionId, StartProgram},
    program_run::ProgramRun,
    request::{LaunchEvent, ProgramStatus, Terminal},
    session::LimitWatchers,
};

/// How long both commands may take together. A repository with changes in so many files that git needs longer
/// is compared with its last commit.
const TIME: Duration = Duration::from_secs(10);

/// Paths in one command line: 128 KiB may be used even where each has 1,000 bytes (execve(2)).
const PATHS_AT_ONCE: usize = 100;

/// Most output of one command, in bytes: about 100,000 branches and tags.
const MAX_OUTPUT_BYTES: usize = 8 << 20;

/// Observes the workspace of a plan. Where something cannot be found out, that part of the answer is empty,
/// and the agent starts all the same.
pub(crate) fn observe(
    plan: &BottlePlan,
    left_out: &[PathBuf],
    sandbox: &mut dyn Sandbox,
    on_event: &mut dyn FnMut(LaunchEvent),
) -> Baseline {
    let mut baseline = Baseline::default();
    // Without a repository there is nothing to ask. Whatever `.git` is, it is only looked at.
    let is_repository = |folder: &PathBuf| folder.join(".git").symlink_metadata().is_ok();
    if !plan.workspace.as_ref().is_some_and(is_repository) {
        return baseline;
    }
    let deadline = Instant::now() + TIME;
    let mut git = Git { plan, sandbox, deadline, session: SessionId(u64::MAX) };
    match git.run(&["show-ref", "--head", "--heads", "--tags"]) {
        Ok(text) => read_refs(&text, &mut baseline),
        Err(error) => {
            let why = format!("git does not read the workspace's repository: {error}");
            on_event(LaunchEvent::Note(why));
            return baseline;
        }
    }
    if baseline.head.is_none() {
        return baseline;
    }
    if let Err(error) = git.pass_over(left_out) {
        on_event(LaunchEvent::Note(format!("git will show as deleted what was not copied: {error}")));
    }
    match git.run(&["stash", "create", "the workspace at the start"]) {
        Ok(text) => baseline.snapshot = Some(text.trim().to_owned()).filter(|id| is_object_id(id)),
        Err(error) => on_event(LaunchEvent::Note(format!(
            "what you had not committed will be shown as the agent's work: git cannot record it: {error}"
        ))),
    }
    baseline
}

/// Runs git in the sandbox, before the agent.
struct Git<'a> {
    plan: &'a BottlePlan,
    sandbox: &'a mut dyn Sandbox,
    deadline: Instant,
    /// The number of the next command, counted down: clients of `exec` count up.
    session: SessionId,
}

impl Git<'_> {
    /// Has git take files that are tracked and were not copied for unchanged. Otherwise the agent's next
    /// `commit --all` would delete them (git-update-index(1), "Skip-worktree bit").
    fn pass_over(&mut self, left_out: &[PathBuf]) -> io::Result<()> {
        for paths in left_out.chunks(PATHS_AT_ONCE) {
            let paths: Vec<String> =
                paths.iter().filter_map(|path| Some(format!(":(top,literal){}", path.to_str()?))).collect();
            let mut arguments = vec!["ls-files", "--deleted", "-z", "--"];
            arguments.extend(paths.iter().map(String::as_str));
            let deleted = self.run(&arguments)?;
            if !deleted.is_empty() {
                self.run_with(
                    &["update-index", "--skip-worktree", "-z", "--stdin"],
                    &mut deleted.as_bytes(),
                )?;
            }
        }
        Ok(())
    }

    fn run(&mut self, arguments: &[&str]) -> io::Result<String> {
        self.run_with(arguments, &mut io::empty())
    }

    fn run_with(&mut self, arguments: &[&str], input: &mut dyn io::Read) -> io::Result<String> {
        let program = program(self.plan, arguments);
        let mut text = Vec::new();
        let mut output = |bytes: &[u8]| {
            text.extend_from_slice(bytes);
            if text.len() > MAX_OUTPUT_BYTES { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(()) }
        };
        let run = ProgramRun {
            input,
            output: &mut output,
            // They are for the agent, which is about to start.
            signals: None,
            limits: LimitWatchers::new(&Limits::default(), "/".as_ref()),
            deadline: Some(self.deadline),
        };
        let session = self.session;
        self.session.0 -= 1;
        let end = run.run(self.sandbox, session, &program).map_err(io::Error::from)?;
        match end.status {
            ProgramStatus::Exited(0) => Ok(String::from_utf8_lossy(&text).into_owned()),
            // `show-ref` of a repository without any commit.
            ProgramStatus::Exited(1) if end.error.is_empty() => Ok(String::new()),
            ProgramStatus::Exited(_) | ProgramStatus::Signalled(_) => Err(io::Error::other(end.error)),
        }
    }
}

fn program(plan: &BottlePlan, arguments: &[&str]) -> StartProgram {
    // The times of a copy are those of its original, but its inodes are not: without `minimal` git would read
    // every file to see that none has changed (git-config(1), core.checkStat).
    let settings = [
        "core.checkStat=minimal",
        "core.trustctime=false",
        "core.fsmonitor=false",
        "core.hooksPath=/dev/null",
        "commit.gpgSign=false",
    ];
    let mut command = vec!["git".to_owned()];
    command.extend(settings.iter().flat_map(|setting| ["-c".to_owned(), (*setting).to_owned()]));
    command.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    let environment = [
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("HOME", "/nonexistent"),
        ("LC_ALL", "C"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_AUTHOR_NAME", "bot-bottle"),
        ("GIT_AUTHOR_EMAIL", "bot-bottle@localhost"),
        ("GIT_COMMITTER_NAME", "bot-bottle"),
        ("GIT_COMMITTER_EMAIL", "bot-bottle@localhost"),
    ];
    StartProgram {
        command,
        environment: environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        working_directory: plan.guest.workspace.clone(),
        terminal: Terminal::Pipes,
        size: None,
    }
}

/// `<id> <name>` on each line, the first for `HEAD` if it has a commit, git-show-ref(1).
fn read_refs(text: &str, baseline: &mut Baseline) {
    for line in text.lines() {
        match line.split_once(' ') {
            Some((id, "HEAD")) if is_object_id(id) => baseline.head = Some(id.to_owned()),
            Some((id, name)) if is_object_id(id) => {
                drop(baseline.refs.insert(name.to_owned(), id.to_owned()))
            }
            _ => {}
        }
    }
}

/// The name of an object by SHA-1 or SHA-256.
fn is_object_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refs_are_read_and_nothing_else() {
        let id = "5".repeat(40);
        let mut baseline = Baseline::default();
        read_refs(&format!("{id} HEAD\n{id} refs/heads/main\nwarning: x\nzz refs/heads/y\n"), &mut baseline);
        assert_eq!(baseline.head.as_ref(), Some(&id));
        assert_eq!(baseline.refs, [("refs/heads/main".to_owned(), id)].into());
    }
}
