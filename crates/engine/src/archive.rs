//! Files of a container: `/containers/{id}/archive`.

use std::io::{Read, Write};

use bollard::{
    body_try_stream,
    query_parameters::{ContainerArchiveInfoOptions, DownloadFromContainerOptions, UploadToContainerOptions},
};
use serde::{Deserialize, Serialize};

use crate::{Engine, EngineError, body, connection::CALL_LIMIT, error::Purpose, name};

/// What lies at a path of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathStat {
    /// Its kind. A link is not followed.
    pub kind: PathKind,
    /// The permissions of chmod(2), at most 0o7777.
    pub mode: u32,
    /// Bytes of a file.
    pub size: u64,
    /// Where a link points, resolved by the engine to an absolute path of the container.
    pub link_target: Option<String>,
}

/// Kinds of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A socket, a FIFO or a device.
    Special,
}

impl PathStat {
    /// From the mode bits of Go's `fs.FileMode`, which are not those of stat(2).
    fn new(mode: u32, size: i64, link_target: String) -> Self {
        const DIRECTORY: u32 = 1 << 31;
        const SYMLINK: u32 = 1 << 27;
        const DEVICE: u32 = 1 << 26;
        const NAMED_PIPE: u32 = 1 << 25;
        const SOCKET: u32 = 1 << 24;
        const CHARACTER_DEVICE: u32 = 1 << 21;
        const IRREGULAR: u32 = 1 << 19;
        const SPECIAL: u32 = DEVICE | NAMED_PIPE | SOCKET | CHARACTER_DEVICE | IRREGULAR;
        let kind = if mode & DIRECTORY != 0 {
            PathKind::Directory
        } else if mode & SYMLINK != 0 {
            PathKind::Symlink
        } else if mode & SPECIAL != 0 {
            PathKind::Special
        } else {
            PathKind::File
        };
        // Go's ModeSetuid, ModeSetgid and ModeSticky.
        let special = [(1 << 23, 0o4000), (1 << 22, 0o2000), (1 << 20, 0o1000)];
        let special = special.iter().filter(|(go, _)| mode & go != 0).map(|(_, unix)| unix).sum::<u32>();
        Self {
            kind,
            mode: mode & 0o777 | special,
            size: size.try_into().unwrap_or_default(),
            // podman gives the path itself for what is no link.
            link_target: (kind == PathKind::Symlink).then_some(link_target),
        }
    }
}

impl Engine {
    /// Unpacks a tar archive into a directory of a container, which need not run. Owners and modes are those of
    /// the archive. Links in `path` are followed within the container.
    ///
    /// # Errors
    /// `NotFound` when there is no such container or directory. When `tar` cannot be read, a part may be there.
    pub fn upload(&self, container: &str, path: &str, tar: &mut dyn Read) -> Result<(), EngineError> {
        let container = name::object(container)?;
        let action = format!("copying files into the container {container}");
        let options = UploadToContainerOptions { path: path.to_owned(), ..Default::default() };
        let action = action.as_str();
        let request = |body| async move {
            let upload = self.docker().upload_to_container(container, Some(options), body_try_stream(body));
            upload.await.map_err(|error| EngineError::new(action, Purpose::Other, error))
        };
        self.block_on(body::send(action, tar, Some(CALL_LIMIT), request))
    }

    /// Writes what lies at a path of a container to `target` as a tar archive, whose one top entry has the last
    /// name of the path. The archive is as large as the container made it: `target` sets a limit by failing.
    /// Returns its size in bytes.
    ///
    /// # Errors
    /// `NotFound` when there is no such container or path, and `target`'s own.
    pub fn download(&self, container: &str, path: &str, target: &mut dyn Write) -> Result<u64, EngineError> {
        let container = name::object(container)?;
        let action = format!("copying {path} out of the container {container}");
        let options = DownloadFromContainerOptions { path: path.to_owned() };
        let body = self.docker().download_from_container(container, Some(options));
        self.block_on(body::receive(&action, body, target))
    }

    /// What lies at a path of a container.
    ///
    /// # Errors
    /// `NotFound` when there is no such container or path: the engine does not say which.
    pub fn stat(&self, container: &str, path: &str) -> Result<PathStat, EngineError> {
        let container = name::object(container)?;
        let action = format!("looking at {path} in the container {container}");
        let options = ContainerArchiveInfoOptions { path: path.to_owned() };
        let stat = self.docker().get_container_archive_info(container, Some(options));
        let stat = self.call(&action, Purpose::Other, stat)?;
        Ok(PathStat::new(stat.file_mode, stat.size, stat.link_target))
    }
}
