//! What an image may not have at places where the engine, its runtime or our first process act as root.

use bot_bottle_core::plan::BottlePlan;
use bot_bottle_engine::{Engine, PathKind, RefusalKind};

use crate::error::LaunchError;

use super::render;

/// Files that the engine and its runtime read, to find the user of the first process. They read what is there to its
/// end: a FIFO holds the engine and the container's lock for ever, and a link to `/dev/zero` takes the memory.
const TABLES: [&str; 2] = ["/etc/passwd", "/etc/group"];

/// Files over which the engine mounts its own. A link there is common, and followed within the container.
const MOUNTED: [&str; 3] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];

/// Refuses an image before anything of its container is started.
pub(super) fn check(
    engine: &Engine,
    container: &str,
    plan: &BottlePlan,
    image: &str,
) -> Result<(), LaunchError> {
    let image = || image.to_owned();
    let folders = render::mount_points(plan);
    for path in &folders {
        match kind(engine, container, path) {
            Ok(None | Some(PathKind::Directory)) => {}
            // A link could lead what goes there elsewhere: to a place that is covered by what the agent may write.
            Ok(Some(PathKind::Symlink)) => {
                return Err(LaunchError::ImageLink { image: image(), path: path.clone() });
            }
            Ok(Some(PathKind::File | PathKind::Special)) => {
                return Err(LaunchError::ImageFolders { image: image(), paths: vec![path.clone()] });
            }
            // The engine mounts the volumes before it looks, and does not say which of them it could not.
            Err(LaunchError::Engine(error)) if matches!(error.refusal(), Some(RefusalKind::Other(_))) => {
                return Err(LaunchError::ImageFolders { image: image(), paths: folders });
            }
            Err(error) => return Err(error),
        }
    }
    for path in TABLES.iter().chain(&MOUNTED) {
        let path = (*path).to_owned();
        match kind(engine, container, &path)? {
            None | Some(PathKind::File) => {}
            Some(PathKind::Symlink) if TABLES.contains(&&*path) => {
                return Err(LaunchError::ImageLink { image: image(), path });
            }
            Some(PathKind::Special) if TABLES.contains(&&*path) => {
                return Err(LaunchError::ImageFile { image: image(), path });
            }
            Some(PathKind::Directory) => return Err(LaunchError::ImageFile { image: image(), path }),
            Some(PathKind::Symlink | PathKind::Special) => {}
        }
    }
    Ok(())
}

/// What an image has at a path; `None` if nothing.
fn kind(engine: &Engine, container: &str, path: &str) -> Result<Option<PathKind>, LaunchError> {
    match engine.stat(container, path) {
        Ok(stat) => Ok(Some(stat.kind)),
        Err(error) if error.refusal() == Some(RefusalKind::NotFound) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
