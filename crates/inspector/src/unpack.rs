//! Writes an archive of the host's into the bottle.

use std::{
    fs::{self, File, FileTimes, Permissions},
    io::{self, Read},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Component, Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use bot_bottle_core::{
    error::{IoContext as _, IoError},
    work::ARCHIVE_ITEM,
};
use tar::{Archive, Entry, EntryType};

use crate::{InspectError, quote::in_a_line};

/// Unpacks an archive with one top entry, [`ARCHIVE_ITEM`], as `docker cp` does: into `path` under `name` where a folder
/// is, else as `path`. Files and links are replaced, folders merged. Links to folders are followed, which leads
/// nowhere but into the bottle.
///
/// `into` says that `path` has to be a folder.
pub(crate) fn unpack(path: &Path, into: bool, name: &str, input: &mut dyn Read) -> Result<(), InspectError> {
    let destination = match path.is_dir() {
        true => path.join(single(name)?),
        false if into => return Err(InspectError::NoFolder(path.to_owned())),
        false => path.to_owned(),
    };
    let mut archive = Archive::new(input);
    let entries = archive.entries().io_context(read)?;
    let mut folders = Vec::new();
    let mut is_empty = true;
    for entry in entries {
        let mut entry = entry.io_context(read)?;
        let below = below_item(&entry.path_bytes())?;
        let to = if below.as_os_str().is_empty() { destination.clone() } else { destination.join(below) };
        is_empty = false;
        match entry.header().entry_type() {
            EntryType::Directory => {
                let is_new = make_folder(&to)?;
                folders.extend(is_new.then_some((to, mode_of(&entry)?, time_of(&entry))));
            }
            EntryType::Regular | EntryType::Continuous => write_file(&mut entry, &to)?,
            EntryType::Symlink => {
                make_room(&to, "a link")?;
                let target = link_name(&entry)?;
                symlink(target, &to).io_context(|| format!("making {}", to.display()))?;
            }
            EntryType::Link => {
                let target = destination.join(below_item(link_name(&entry)?.as_os_str().as_encoded_bytes())?);
                make_room(&to, "a file")?;
                fs::hard_link(&target, &to).io_context(|| format!("linking {}", to.display()))?;
            }
            // Devices, and headers for the whole archive.
            _ => {}
        }
    }
    if is_empty {
        return Err(IoError::new(read(), io::Error::from(io::ErrorKind::UnexpectedEof)).into());
    }
    // Afterwards: a folder may be read-only, and what is made in it changes its time.
    for (folder, mode, time) in folders.into_iter().rev() {
        let finish = || {
            File::open(&folder)?.set_times(FileTimes::new().set_modified(time))?;
            fs::set_permissions(&folder, mode)
        };
        finish().io_context(|| format!("setting the mode of {}", folder.display()))?;
    }
    Ok(())
}

fn read() -> &'static str {
    "reading the archive"
}

/// A name of one component.
fn single(name: &str) -> Result<&Path, InspectError> {
    let path = Path::new(name);
    match path.components().collect::<Vec<_>>()[..] {
        [Component::Normal(only)] if only == path.as_os_str() => Ok(path),
        _ => Err(InspectError::StrayEntry(in_a_line(path))),
    }
}

/// The path below the top entry, empty for the entry itself.
fn below_item(path: &[u8]) -> Result<PathBuf, InspectError> {
    let path = crate::changes::as_path(path);
    let below = path.strip_prefix(ARCHIVE_ITEM).ok();
    let below = below.filter(|below| below.components().all(|part| matches!(part, Component::Normal(_))));
    below.map(Path::to_owned).ok_or_else(|| InspectError::StrayEntry(in_a_line(path)))
}

fn link_name<R: Read>(entry: &Entry<'_, R>) -> Result<PathBuf, IoError> {
    let missing = || IoError::new(read(), io::Error::from(io::ErrorKind::InvalidData));
    let name = entry.link_name_bytes().ok_or_else(missing)?;
    Ok(crate::changes::as_path(&name).to_owned())
}

fn mode_of<R: Read>(entry: &Entry<'_, R>) -> Result<Permissions, IoError> {
    Ok(Permissions::from_mode(entry.header().mode().io_context(read)? & 0o777))
}

fn time_of<R: Read>(entry: &Entry<'_, R>) -> std::time::SystemTime {
    UNIX_EPOCH + Duration::from_secs(entry.header().mtime().unwrap_or_default())
}

/// Makes a folder; false if there is one.
fn make_folder(to: &Path) -> Result<bool, InspectError> {
    match fs::metadata(to) {
        Ok(found) if found.is_dir() => Ok(false),
        Ok(_) => Err(InspectError::OtherKind { path: to.to_owned(), found: "a file", wanted: "a folder" }),
        Err(_) => {
            fs::create_dir(to).io_context(|| format!("making {}", to.display()))?;
            Ok(true)
        }
    }
}

/// Removes the file or link that is replaced.
fn make_room(to: &Path, wanted: &'static str) -> Result<(), InspectError> {
    match fs::symlink_metadata(to) {
        Ok(found) if found.is_dir() => {
            Err(InspectError::OtherKind { path: to.to_owned(), found: "a folder", wanted })
        }
        Ok(_) => Ok(fs::remove_file(to).io_context(|| format!("replacing {}", to.display()))?),
        Err(_) => Ok(()),
    }
}

fn write_file<R: Read>(entry: &mut Entry<'_, R>, to: &Path) -> Result<(), InspectError> {
    make_room(to, "a file")?;
    let writing = || format!("writing {}", to.display());
    let mut file = File::create_new(to).io_context(writing)?;
    let copied = io::copy(entry, &mut file).io_context(writing)?;
    if copied != entry.size() {
        return Err(IoError::new(read(), io::Error::from(io::ErrorKind::UnexpectedEof)).into());
    }
    file.set_times(FileTimes::new().set_modified(time_of(entry))).io_context(writing)?;
    file.set_permissions(mode_of(entry)?).io_context(writing)?;
    Ok(())
}
