//! When the agent of a run started, so that later it can be told whether it wrote anything.

use std::{fs, io, os::fd::BorrowedFd, path::Path, thread, time::Duration};

use bot_bottle_core::work::{Baseline, FileTime};
use rustix::{
    fs::stat,
    time::{ClockId, clock_gettime},
};
use serde::{Deserialize, Serialize};

use crate::{
    files::changes::{change_time, changed_since},
    resource::replace,
};

/// Its name in the folder of a run. Made when the agent starts, so a run without it never ran a program.
pub(crate) const START_FILE: &str = "start.json";

/// How far the two clocks may drift apart before the file times are not believed.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(1);

/// What was so before the agent's first instruction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StartRecord {
    /// The workspace. Its time is by the clock of its file system: what changes later has a later time.
    pub(crate) baseline: Baseline,
    /// The same moment by the clock of the day and by one that nobody sets, both since their own beginning.
    clocks: [Duration; 2],
}

impl StartRecord {
    /// Records the moment, and the workspace as it is, in the folder of a run. `file_time` is the moment by the clock of
    /// the workspace, where that is not this host's.
    pub(crate) fn write(run: &Path, baseline: Baseline, file_time: Option<FileTime>) -> io::Result<Self> {
        let path = run.join(START_FILE);
        // The time of this very file: the kernel takes the time of a file from a clock that ticks, and so
        // what is written next has the same time or a later one.
        let now = || -> io::Result<FileTime> {
            fs::write(&path, b"")?;
            Ok(change_time(&stat(&path)?))
        };
        let mut started = now()?;
        // git has just written to the repository, maybe in the same tick. It is at most 10 ms long.
        if baseline.head.is_some() {
            let written = started;
            while started == written {
                thread::sleep(Duration::from_millis(1));
                started = now()?;
            }
        }
        let started = file_time.unwrap_or(started);
        let record = Self { baseline: Baseline { started, ..baseline }, clocks: clocks() };
        replace(&path, &serde_json::to_vec(&record)?)?;
        Ok(record)
    }

    /// What was recorded; `None` if no program ever ran.
    pub(crate) fn read(run: &Path) -> io::Result<Option<Self>> {
        match fs::read(run.join(START_FILE)) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether anything in a folder changed since then. Whatever cannot be known counts as a change.
    pub(crate) fn is_changed(&self, folder: BorrowedFd<'_>) -> bool {
        self.is_clock_set_since() || changed_since(folder, self.baseline.started)
    }

    /// Whether the clock of the day was set since.
    pub(crate) fn is_clock_set_since(&self) -> bool {
        self.is_clock_set(clocks())
    }

    /// Whether it was by now: what was written after that may look older than it is.
    fn is_clock_set(&self, now: [Duration; 2]) -> bool {
        let passed = |clock: usize| now[clock].checked_sub(self.clocks[clock]);
        match (passed(0), passed(1)) {
            (Some(by_day), Some(monotonic)) => by_day.abs_diff(monotonic) > CLOCK_TOLERANCE,
            // The machine was booted again, or the clock set back behind the start.
            _ => true,
        }
    }
}

/// The clock of the day, and the time since the machine was booted, sleep included; clock_gettime(2).
fn clocks() -> [Duration; 2] {
    [ClockId::Realtime, ClockId::Boottime].map(|clock| {
        let time = clock_gettime(clock);
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
    })
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsFd};

    use super::*;

    #[test]
    fn a_clock_that_was_set_makes_every_folder_a_changed_one() {
        let run = tempfile::tempdir().expect("a folder");
        let workspace = tempfile::tempdir().expect("a folder");
        assert_eq!(StartRecord::read(run.path()).expect("looked"), None);
        // The folder's own time is of another tick.
        std::thread::sleep(Duration::from_millis(50));
        let start = StartRecord::write(run.path(), Baseline::default(), None).expect("recorded");
        assert_eq!(StartRecord::read(run.path()).expect("read").as_ref(), Some(&start));
        let folder = File::open(workspace.path()).expect("opened");
        assert!(!start.is_changed(folder.as_fd()));

        let later = |day: i64, boot: i64| {
            let add = |time: Duration, seconds: i64| {
                let moved = Duration::from_secs(seconds.unsigned_abs());
                if seconds < 0 { time.checked_sub(moved).unwrap_or_default() } else { time + moved }
            };
            [add(start.clocks[0], day), add(start.clocks[1], boot)]
        };
        assert!(!start.is_clock_set(later(3600, 3600)), "an hour passed");
        assert!(start.is_clock_set(later(10, 3600)), "it was set back");
        assert!(start.is_clock_set(later(-3600, 10)), "behind the start");
        assert!(start.is_clock_set(later(3600, i64::MIN / 2)), "booted again");
        fs::write(workspace.path().join("new"), b"").expect("written");
        assert!(start.is_changed(folder.as_fd()));
    }
}
