//! The machine's clock, by which its files get their times. It is not the host's: what is written right after the agent's
//! start could look older than that.

use std::{io, path::Path, thread, time::Duration};

use bot_bottle_core::work::FileTime;
use rustix::fs::fstat;

use crate::files::changes::change_time;

/// How long to wait before the clock is looked at again. It ticks every 10 ms at least.
const PAUSE: Duration = Duration::from_millis(1);

/// A time that no file has yet, by the clock of a folder's file system.
///
/// # Errors
/// When no file can be made there.
pub fn file_time(folder: &Path) -> io::Result<FileTime> {
    let now = || -> io::Result<FileTime> {
        let file = tempfile_in(folder)?;
        Ok(change_time(&fstat(&file)?))
    };
    let before = now()?;
    loop {
        let time = now()?;
        if time > before {
            return Ok(time);
        }
        thread::sleep(PAUSE);
    }
}

/// A file without a name, open(2).
fn tempfile_in(folder: &Path) -> io::Result<std::os::fd::OwnedFd> {
    use rustix::fs::{Mode, OFlags, open};
    Ok(open(folder, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR)?)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt};

    use super::*;

    #[test]
    fn what_was_written_is_older_and_what_is_written_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let written = |name: &str| {
            let path = folder.path().join(name);
            fs::write(&path, "").expect("written");
            let file = fs::metadata(&path).expect("there");
            (file.ctime(), u32::try_from(file.ctime_nsec()).expect("less than a second"))
        };
        let before = written("before");
        let time = file_time(folder.path()).expect("a time");
        assert!(before < time && written("after") >= time);
    }
}
