//! What a machine wrote while it started, for errors.

use std::{
    fs::OpenOptions,
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use rustix::fs::OFlags;

use crate::report::shown;

/// The files in a machine's folder: why smolvm's agent did not start, the console of the kernel and the agent, and
/// what the workload wrote.
const FILES: [&str; 3] = ["agent-startup-error.log", "agent-console.log", "workload.log"];

/// Bytes at the end of a file that are looked at.
const TAIL_BYTES: u64 = 16 * 1024;

/// Lines of one file that are shown.
const TAIL_LINES: usize = 8;

/// The last lines of these files, printable. Those that cannot be read are left out.
pub(crate) fn tail(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for name in FILES {
        let Ok(bytes) = end_of(&folder.join(name)) else { continue };
        let text = String::from_utf8_lossy(&bytes);
        let mut lines: Vec<String> = text.lines().map(shown).filter(|line| !line.is_empty()).collect();
        lines.drain(..lines.len().saturating_sub(TAIL_LINES));
        all.extend(lines.into_iter().map(|line| format!("{name}: {line}")));
    }
    all
}

/// The virtual machine's process can write to the folder, so that a name there may stand for a file of the host,
/// or for a pipe that never ends.
fn end_of(path: &Path) -> io::Result<Vec<u8>> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    file.seek(SeekFrom::Start(metadata.len().saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_end_of_each_file_is_shown_and_no_other_file_of_the_host() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("writing");
        assert_eq!(tail(folder.path()), Vec::<String>::new());
        write(
            "agent-console.log",
            &("x".repeat(200_000) + "\n" + &"line\n".repeat(20) + "\u{1b}[1mlast\u{1b}[0m\n"),
        );
        write("secret", "of the host\n");
        std::os::unix::fs::symlink(folder.path().join("secret"), folder.path().join("workload.log"))
            .expect("a link");
        rustix::fs::mkfifoat(rustix::fs::CWD, folder.path().join("agent-startup-error.log"), 0o600.into())
            .expect("a pipe");
        let lines = tail(folder.path());
        assert_eq!(lines.len(), TAIL_LINES, "{lines:?}");
        assert_eq!(lines.last().map(String::as_str), Some("agent-console.log: last"));
        assert!(!lines.concat().contains("of the host"));
    }
}
