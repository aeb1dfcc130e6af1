//! Starts the demo's bottle as the operator would: with `bot-bottle run`, in a process of its own.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use bot_bottle_core::error::{IoContext, IoError};
use bot_bottle_probe::{
    Line,
    operator_fixture::{BOTTLE, OperatorFixture, TOKEN_REFERENCE},
};

use crate::{
    exit::{CommandError, Failure},
    system,
    ui::Ui,
};

/// The time limit of the whole run.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// The most that is kept of stdout and of stderr, in bytes each.
const MAX_OUTPUT_BYTES: u64 = 4 * 1024 * 1024;

/// The output and the end of the bottle.
pub(super) struct Finished {
    /// The agent's report, one JSON object per line.
    pub(super) report: String,
    /// The launcher's messages.
    pub(super) messages: String,
    /// `None`: the time limit passed and the bottle was killed.
    status: Option<ExitStatus>,
}

/// Runs the script in a bottle and shows its progress.
pub(super) fn run(
    fixture: &OperatorFixture,
    credential: &str,
    script: &str,
    ui: &Ui,
) -> Result<Finished, CommandError> {
    let mut child = Command::new(system::own_binary()?)
        .args(["--json", "run", "--bottle", BOTTLE, "--backend", "native", "--own-binary", "--cwd", "--"])
        .args(["bot-bottle", "demo-agent", script])
        .current_dir(fixture.workspace())
        .env("HOME", fixture.operator_home())
        .env("BOT_BOTTLE_HOME", fixture.bot_bottle_home())
        .env(TOKEN_REFERENCE, credential)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .io_context(|| "this program cannot start itself again")?;
    let (sender, lines) = mpsc::channel();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let messages = thread::spawn(move || read_all(stderr));
    thread::spawn(move || {
        let Some(stdout) = stdout else { return };
        for line in BufReader::new(stdout.take(MAX_OUTPUT_BYTES)).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });

    let deadline = Instant::now() + TIME_LIMIT;
    let mut report = String::new();
    while let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        match serde_json::from_str(&line) {
            Ok(Line::Step(step)) => ui.progress_line(&step.what),
            Ok(Line::Attempt(attempt)) => ui.progress_line(&attempt.what),
            Ok(Line::Done) | Err(_) => {}
        }
        report.push_str(&line);
        report.push('\n');
    }
    ui.end_progress_line();
    let status = wait(&mut child, deadline)?;
    // A panicked reader has no messages.
    Ok(Finished { report, messages: messages.join().unwrap_or_default(), status })
}

impl Finished {
    /// Passes on why the bottle failed: a bottle that never ran must not look like one that blocked
    /// everything.
    pub(super) fn require_a_report(&self) -> Result<(), CommandError> {
        let Some(status) = self.status else {
            let limit = TIME_LIMIT.as_secs();
            return Err(CommandError::failed(format!(
                "the demo's bottle was still running after {limit} s and was ended"
            )));
        };
        if status.success() {
            return Ok(());
        }
        let failure = match status.code() {
            Some(2) => Failure::Usage,
            Some(3) => Failure::Manifest,
            Some(4) => Failure::Backend,
            Some(70) => Failure::Internal,
            _ => Failure::Failed,
        };
        let reported = self.messages.lines().rev().find_map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).ok()?;
            let text = |key: &str| value["error"][key].as_str().map(str::to_owned);
            Some((text("message")?, text("hint")))
        });
        let (message, hint) = reported.unwrap_or_else(|| {
            let last = self.messages.trim().lines().last().unwrap_or("it said nothing").to_owned();
            (format!("the demo's bottle failed ({status}): {last}"), None)
        });
        let error = CommandError::new(failure, message);
        Err(match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        })
    }
}

fn wait(child: &mut Child, deadline: Instant) -> Result<Option<ExitStatus>, CommandError> {
    const STEP: Duration = Duration::from_millis(5);
    let lost = |error| {
        CommandError::from_error(IoError::new("the demo's bottle was lost", error))
            .with_failure(Failure::Internal)
    };
    loop {
        if let Some(status) = child.try_wait().map_err(lost)? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill().map_err(lost)?;
            child.wait().map_err(lost)?;
            return Ok(None);
        }
        thread::sleep(STEP);
    }
}

fn read_all(stream: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        // On an error the bytes before it are kept.
        let _ = stream.take(MAX_OUTPUT_BYTES).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
