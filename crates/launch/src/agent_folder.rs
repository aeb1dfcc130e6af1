//! The folder of a run with everything that its agent writes: its home and its workspace.
//!
//! It is closed: its mode is 0 from before the agent starts, so that no program of the operator's walks into
//! it by accident. An agent can leave a repository anywhere below whose configuration names programs
//! (`core.fsmonitor`, `core.hooksPath`, git-config(1)), and prompts and editors run git wherever they are, as
//! the operator. git checks who owns a repository (CVE-2022-24765), but the bottle of an ordinary user writes
//! as that user. What is in here is brought out by a bottle instead, [`crate::inspect()`].
//!
//! A bottle does not notice: it has mounts of the two folders, and the mode of what is above a mount's root
//! does not count.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use bot_bottle_core::limits::ByteSize;
use rustix::{
    fs::{Mode, OFlags, chmod, fstat, open, openat},
    io::Errno,
    process::getegid,
};

use crate::{
    files::{
        remove::measure_tree,
        rooted_dir::{Owner, new_folder},
    },
    host::user::HostUser,
    state::Written,
};

/// Its name in the folder of a run.
pub(crate) const NAME: &str = "agent";

/// How often opening is tried again because another process of ours has closed it in between.
const ATTEMPTS: usize = 100;

/// Where home and workspace of a run lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AgentFolder {
    path: PathBuf,
}

/// Both folders, open. Their content can be walked from here though the folder above them is closed.
#[derive(Debug)]
pub(crate) struct AgentFolders {
    pub(crate) home: OwnedFd,
    pub(crate) workspace: OwnedFd,
}

impl AgentFolder {
    /// The one of a run.
    pub(crate) fn of(run: &Path) -> Self {
        Self { path: run.join(NAME) }
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.path.join("home")
    }

    pub(crate) fn workspace(&self) -> PathBuf {
        self.path.join("workspace")
    }

    /// Makes it with both folders in it, open.
    pub(crate) fn create(&self, owner: Owner) -> io::Result<()> {
        new_folder(&self.path, 0o700, None)?;
        // The bottle's first process passes the mode by a capability that counts where user and group are
        // mapped in its user namespace, user_namespaces(7). A set-group-ID folder above gives another group.
        rustix::fs::chown(&self.path, None, Some(getegid()))?;
        new_folder(&self.home(), 0o755, owner)?;
        new_folder(&self.workspace(), 0o755, owner)
    }

    /// Closes it.
    pub(crate) fn close(&self) -> io::Result<()> {
        Ok(chmod(&self.path, Mode::empty())?)
    }

    /// Opens both folders; `None` if there is no such folder. A closed folder is open for that moment alone.
    pub(crate) fn open(&self) -> io::Result<Option<AgentFolders>> {
        for _ in 0..ATTEMPTS {
            match self.open_both() {
                Err(Errno::NOENT) => return Ok(None),
                Err(Errno::ACCESS) => {}
                other => return Ok(Some(other?)),
            }
            chmod(&self.path, Mode::RWXU)?;
            let opened = self.open_both();
            self.close()?;
            match opened {
                Err(Errno::ACCESS) => {}
                other => return Ok(Some(other?)),
            }
        }
        Err(Errno::ACCESS.into())
    }

    /// Opens both folders of a run that has them.
    pub(crate) fn open_existing(&self) -> io::Result<AgentFolders> {
        self.open()?.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// As whom the bottle ran that wrote here, and one has to run that reads all of it; `None` if there is no such
    /// folder.
    pub(crate) fn user(&self) -> io::Result<Option<HostUser>> {
        let Some(folders) = self.open()? else { return Ok(None) };
        Ok(Some(HostUser::owning(fstat(&folders.workspace)?.st_uid)))
    }

    /// Bytes of both folders on the disk; `None` if there are none.
    pub(crate) fn size(&self) -> io::Result<Option<u64>> {
        let Some(folders) = self.open()? else { return Ok(None) };
        let measured = [folders.home, folders.workspace].map(|folder| measure_tree(folder.as_fd()));
        measured.into_iter().sum::<Result<u64, _>>().map(Some).map_err(|(_, error)| error)
    }

    /// Bytes that home and workspace of a run take on the disk; `None` where there are none, or they cannot be
    /// measured, as those that an engine has.
    pub(crate) fn size_of_run(run: &Path) -> Option<ByteSize> {
        match Written::of(run) {
            Some(_) => None,
            None => Self::of(run).size().ok().flatten().map(ByteSize),
        }
    }

    fn open_both(&self) -> rustix::io::Result<AgentFolders> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let parent = open(&self.path, flags, Mode::empty())?;
        let within = |name: &str| openat(&parent, name, flags | OFlags::PATH, Mode::empty());
        Ok(AgentFolders { home: within("home")?, workspace: within("workspace")? })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn it_is_walked_by_descriptor_while_it_is_closed() {
        let run = tempfile::tempdir().expect("a folder");
        let folder = AgentFolder::of(run.path());
        assert!(folder.open().expect("looked").is_none());
        folder.create(None).expect("made");
        fs::write(folder.workspace().join("result"), b"x").expect("open until it is closed");
        folder.close().expect("closed");
        let mode = || fs::metadata(run.path().join(NAME)).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(), 0);
        let open = folder.open().expect("opened").expect("there");
        assert_eq!(mode(), 0, "it is closed again");
        assert!(rustix::fs::statat(&open.workspace, "result", rustix::fs::AtFlags::empty()).is_ok());
        if !rustix::process::geteuid().is_root() {
            assert!(fs::read_dir(folder.workspace()).is_err(), "no path leads in");
        }
    }
}
