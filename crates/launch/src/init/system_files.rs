//! The files of root's in a bottle whose root file system is an image's.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bot_bottle_core::error::{IoContext, IoError};
use serde::{Deserialize, Serialize};

/// Most of the image's `/etc/passwd` that is read, in bytes.
const MAX_TABLE_BYTES: u64 = 1 << 20;

/// The permissions that `/etc/passwd` has at least: every program reads it, passwd(5).
const TABLE_MODE: u32 = 0o444;

/// What the agent cannot change, sent once the gateway serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SystemFiles {
    /// The agent's home, for its line in `/etc/passwd` where the image has none for its user.
    pub(crate) home: PathBuf,
    /// Files that are written over what the image has.
    pub(crate) files: Vec<SystemFile>,
}

/// A file of root's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SystemFile {
    /// Absolute.
    pub(crate) path: PathBuf,
    /// Base64 of its content.
    pub(crate) content: String,
    /// Whether it is made where the image has none.
    pub(crate) create: bool,
}

impl SystemFiles {
    /// Writes them all, and names the agent's user. Its paths are those of the image; the caller is root and needs no
    /// capability for it.
    pub(crate) fn install(&self, user: u32) -> Result<(), IoError> {
        let home = self.home.display();
        let entries = [
            ("/etc/passwd", format!("agent:x:{user}:{user}:agent:{home}:/bin/sh")),
            ("/etc/group", format!("agent:x:{user}:")),
        ];
        for (table, line) in entries {
            add_entry(Path::new(table), user, &line).io_context(|| format!("adding the agent to {table}"))?;
        }
        for file in &self.files {
            write(file).io_context(|| format!("writing {}", file.path.display()))?;
        }
        Ok(())
    }
}

/// Writes one file. The engine may have mounted one at its place (`/etc/resolv.conf`), so it is not replaced by
/// renaming another to its name.
fn write(file: &SystemFile) -> io::Result<()> {
    if !file.create && fs::metadata(&file.path).is_err() {
        return Ok(());
    }
    let content = STANDARD.decode(&file.content).map_err(io::Error::other)?;
    if let Some(folder) = file.path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut opened = regular(&file.path, OpenOptions::new().write(true).create(true).truncate(true))?;
    opened.write_all(&content)
}

/// Adds a line to `/etc/passwd` or `/etc/group` where none has this number: programs look up their user, and some
/// end where it has no name.
fn add_entry(table: &Path, number: u32, line: &str) -> io::Result<()> {
    let mut opened = regular(table, OpenOptions::new().read(true).append(true).create(true))?;
    // Engines make an absent one for root alone, and programs look up their user in it.
    let mode = opened.metadata()?.permissions().mode();
    if mode & TABLE_MODE != TABLE_MODE {
        opened.set_permissions(Permissions::from_mode(mode | TABLE_MODE))?;
    }
    let mut text = String::new();
    Read::by_ref(&mut opened).take(MAX_TABLE_BYTES).read_to_string(&mut text)?;
    let number = number.to_string();
    // Both tables have it in the third field, passwd(5) and group(5).
    if text.lines().any(|line| line.split(':').nth(2) == Some(&number)) {
        return Ok(());
    }
    let separator = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    opened.write_all(format!("{separator}{line}\n").as_bytes())
}

/// Opens a file. An image can have a FIFO there, whose opening would never return.
fn regular(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = options.mode(0o644).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the image has no ordinary file there"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_added_where_its_number_has_no_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let table = folder.path().join("passwd");
        let read = || fs::read_to_string(&table).expect("read");
        add_entry(&table, 1000, "agent:x:1000:1000::/home/agent:/bin/sh").expect("made");
        assert_eq!(read(), "agent:x:1000:1000::/home/agent:/bin/sh\n");
        fs::write(&table, "root:x:0:0::/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh")
            .expect("written");
        add_entry(&table, 1000, "agent:x:1000:1000::/home/agent:/bin/sh").expect("looked");
        assert!(!read().contains("agent"));
        fs::set_permissions(&table, Permissions::from_mode(0o600)).expect("set");
        add_entry(&table, 1001, "agent:x:1001:1001::/home/agent:/bin/sh").expect("added");
        assert_eq!(fs::metadata(&table).expect("there").permissions().mode() & 0o777, 0o644);
        assert!(read().ends_with("/home/node:/bin/sh\nagent:x:1001:1001::/home/agent:/bin/sh\n"));
    }

    #[test]
    fn what_is_no_ordinary_file_is_refused_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("resolv.conf");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
            .expect("a FIFO");
        let file = SystemFile { path: path.clone(), content: STANDARD.encode("x"), create: true };
        write(&file).expect_err("nobody reads it");
        fs::remove_file(&path).expect("removed");
        write(&file).expect("written");
        assert_eq!(fs::read(&path).expect("read"), b"x");
        let absent = SystemFile { path: folder.path().join("absent"), create: false, ..file };
        write(&absent).expect("left out");
        assert!(!absent.path.exists());
    }
}
