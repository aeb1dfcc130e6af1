//! Evidence on the host after the run, which does not rely on the report from inside.

use std::{fs, path::Path};

use bot_bottle_probe::{
    Judgement,
    canaries::{ALLOWED_HOST, Canaries},
    operator_fixture::OperatorFixture,
};
use serde::Serialize;

use super::child::Finished;

/// The largest file that is searched for the credential, in bytes.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// One check on the host.
#[derive(Debug, Serialize)]
pub(super) struct Evidence {
    /// The expectation.
    pub(super) what: &'static str,
    /// Whether it is met.
    pub(super) holds: bool,
    /// The finding.
    pub(super) detail: String,
}

impl Evidence {
    /// Makes every check.
    pub(super) fn gather(
        judgement: &Judgement,
        canaries: &Canaries,
        fixture: &OperatorFixture,
        finished: &Finished,
    ) -> Vec<Self> {
        vec![
            credential_injected(canaries),
            credential_not_leaked(fixture.folder(), finished, canaries.credential()),
            no_leaks(judgement),
            receipts_written(&fixture.bot_bottle_home()),
        ]
    }
}

fn credential_injected(canaries: &Canaries) -> Evidence {
    let calls: Vec<_> = canaries.calls().into_iter().filter(|call| call.host == ALLOWED_HOST).collect();
    let with = calls.iter().filter(|call| call.authenticated).count();
    Evidence {
        what: "the service saw the real credential on every call",
        holds: with > 0 && with == calls.len(),
        detail: format!("on {with} of {} calls", calls.len()),
    }
}

fn credential_not_leaked(folder: &Path, finished: &Finished, credential: &str) -> Evidence {
    let mut files = 0;
    let found = if finished.report.contains(credential) {
        Some("what the agent printed".to_owned())
    } else if finished.messages.contains(credential) {
        Some("what the launcher printed".to_owned())
    } else {
        find_in_files(folder, credential.as_bytes(), &mut files)
    };
    Evidence {
        what: "the credential is in nothing that the bottle printed, wrote or logged",
        holds: found.is_none(),
        detail: found
            .map_or(format!("{files} files and all output searched"), |place| format!("it is in {place}")),
    }
}

fn no_leaks(judgement: &Judgement) -> Evidence {
    let seen: usize = judgement.attempts.iter().map(|attempt| attempt.seen_outside.len()).sum();
    let other = judgement.unattributed.first();
    Evidence {
        what: "the recorders on the host saw nothing of the attempts",
        holds: seen == 0 && other.is_none(),
        detail: match other {
            Some(leak) => {
                format!("{}: {}", leak.canary, leak.text.chars().take(80).collect::<String>())
            }
            None => format!("{seen} leaks"),
        },
    }
}

fn receipts_written(bot_bottle_home: &Path) -> Evidence {
    let state = fs::read_dir(bot_bottle_home.join("state")).into_iter().flatten().flatten();
    let lines: usize = state
        .filter_map(|entry| fs::read_to_string(entry.path().join("receipts.jsonl")).ok())
        .map(|text| text.lines().filter(|line| line.contains("\"verdict\":")).count())
        .sum();
    Evidence {
        what: "the gateway's decisions have receipts",
        holds: lines > 0,
        detail: format!("{lines} receipts"),
    }
}

fn find_in_files(folder: &Path, needle: &[u8], files: &mut usize) -> Option<String> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(kind) = fs::symlink_metadata(&path) else { continue };
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && kind.len() <= MAX_FILE_BYTES {
                *files += 1;
                let bytes = fs::read(&path).unwrap_or_default();
                if bytes.windows(needle.len()).any(|window| window == needle) {
                    return Some(path.display().to_string());
                }
            }
        }
    }
    None
}
