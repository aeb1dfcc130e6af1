//! `provider install`: the package of an agent program, from the npm registry or a file, checked and
//! unpacked.
//!
//! The archive is hashed while it is unpacked into a temporary folder beside the target. The folder is
//! renamed only when the hash matches and the program is in it, so that no search for programs finds an
//! unverified one.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read},
    path::{Path, PathBuf},
};

use bot_bottle_core::{
    error::{IoContext, IoError},
    provider::Package,
};
use bot_bottle_launch::host::programs::{MANIFEST_FILE, ProgramManifest};

mod download;
mod error;
mod integrity;
mod npmrc;
mod registry;
#[cfg(test)]
mod tests;
mod unpack;

pub(crate) use download::Network;
pub(crate) use error::InstallError;
pub(crate) use registry::Registry;

use integrity::{Checked, Integrity};
use unpack::UnpackError;

/// One installation: the package, its source and its target.
#[derive(Debug)]
pub(crate) struct Order<'a> {
    /// The provider's name.
    pub(crate) provider: &'a str,
    /// The package, with the integrity that this version pins.
    pub(crate) package: &'a Package,
    /// The folder of all providers' programs.
    pub(crate) providers_folder: &'a Path,
    /// Where the archive comes from.
    pub(crate) source: Source,
}

/// Where the archive comes from.
#[derive(Debug)]
pub(crate) enum Source {
    /// Downloaded.
    Registry(Registry, Network),
    /// Already here.
    Archive(PathBuf),
}

/// How far an installation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Bytes of the archive that were read.
    pub(crate) received: u64,
    /// Bytes of the archive, where known.
    pub(crate) total: Option<u64>,
}

/// The installed program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Installed {
    /// The program's folder.
    pub(crate) folder: PathBuf,
    /// The program.
    pub(crate) executable: PathBuf,
    /// Whether it had been installed before.
    pub(crate) already: bool,
}

/// An archive that is being read.
struct Opened {
    reader: Box<dyn Read>,
    total: Option<u64>,
    name: String,
}

/// The largest archive that is read, in bytes. The largest known one has 175 MB.
const MAX_ARCHIVE_BYTES: u64 = 1 << 30;

/// The end of the names of folders that are being filled.
const PARTIAL_SUFFIX: &str = ".partial";

/// Installs a package. On failure the providers' folder is left unchanged.
///
/// # Errors
/// See [`InstallError`].
pub(crate) fn install(
    order: &Order<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Installed, InstallError> {
    let integrity = Integrity::parse(order.package.integrity)?;
    let versions = order.providers_folder.join(order.provider);
    let folder = versions.join(order.package.version);
    let installed = |already| Installed {
        folder: folder.clone(),
        executable: folder.join(order.package.tree).join(order.package.executable),
        already,
    };
    if is_installed(&folder, order.package) {
        return Ok(installed(true));
    }

    fs::create_dir_all(&versions).io_context(|| format!("making {}", versions.display()))?;
    let _lock = lock(&versions)?;
    remove_partial(&versions)?;
    let archive = open(order)?;
    let partial = Partial::create(versions.join(format!("{}{PARTIAL_SUFFIX}", order.package.version)))?;
    fill(&partial.folder, archive, &integrity, progress)?;
    write_manifest(&partial.folder, order.package)?;
    partial.become_folder(&folder)?;
    Ok(installed(false))
}

/// Whether this archive, by its integrity, is unpacked there.
fn is_installed(folder: &Path, package: &Package) -> bool {
    let manifest = fs::read(folder.join(MANIFEST_FILE)).ok();
    let manifest: Option<ProgramManifest> = manifest.and_then(|text| serde_json::from_slice(&text).ok());
    manifest == Some(manifest_of(package)) && folder.join(package.tree).join(package.executable).is_file()
}

fn manifest_of(package: &Package) -> ProgramManifest {
    ProgramManifest {
        version: package.version.to_owned(),
        integrity: package.integrity.to_owned(),
        root: package.tree.into(),
        executable: package.executable.into(),
    }
}

/// Locks the provider's folder: two installations at once would unpack into the same place.
fn lock(versions: &Path) -> Result<File, InstallError> {
    let path = versions.join(".lock");
    let file = File::create(&path).io_context(|| format!("making {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(InstallError::Busy { folder: versions.to_owned() }),
        Err(TryLockError::Error(error)) => {
            Err(IoError::new(format!("locking {}", path.display()), error).into())
        }
    }
}

/// Removes the partial folders of killed installations. The lock is held, so no installation is running.
fn remove_partial(versions: &Path) -> Result<(), InstallError> {
    let entries = fs::read_dir(versions).io_context(|| format!("reading {}", versions.display()))?;
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().ends_with(PARTIAL_SUFFIX) {
            fs::remove_dir_all(entry.path()).io_context(|| format!("removing {}", entry.path().display()))?;
        }
    }
    Ok(())
}

fn open(order: &Order<'_>) -> Result<Opened, InstallError> {
    match &order.source {
        Source::Registry(registry, network) => download::open(registry, network, order.package),
        Source::Archive(path) => {
            let file = File::open(path).io_context(|| format!("opening {}", path.display()))?;
            let total = Some(file.metadata().io_context(|| format!("reading {}", path.display()))?.len());
            Ok(Opened { reader: Box::new(file), total, name: path.display().to_string() })
        }
    }
}

fn fill(
    folder: &Path,
    archive: Opened,
    integrity: &Integrity,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), InstallError> {
    let Opened { reader, total, name } = archive;
    let mut report = |received| progress(Progress { received, total });
    let mut checked = Checked::new(reader, MAX_ARCHIVE_BYTES, &mut report);
    let unpacked = unpack::unpack(&mut checked, folder);
    if let Err(UnpackError::Write(error)) = unpacked {
        return Err(error.into());
    }
    // Hash the rest of the archive even if unpacking failed: if it is not the pinned archive, that is the
    // cause to report.
    let drained = io::copy(&mut checked, &mut io::sink());
    let received = checked.received();
    if let Err(source) = drained {
        return Err(if received > MAX_ARCHIVE_BYTES {
            InstallError::TooLarge { from: name, limit: MAX_ARCHIVE_BYTES }
        } else {
            InstallError::BrokenOff { from: name, received, source }
        });
    }
    let found = checked.finish();
    if found != *integrity {
        return Err(InstallError::Integrity {
            from: name,
            expected: integrity.to_string(),
            found: found.to_string(),
        });
    }
    unpacked.map_err(|source| InstallError::Archive { from: name, source })
}

/// Writes the manifest. It comes last, because its presence marks the folder as complete.
fn write_manifest(folder: &Path, package: &Package) -> Result<(), InstallError> {
    let executable = folder.join(package.tree).join(package.executable);
    if !executable.is_file() {
        return Err(InstallError::NoProgram {
            package: package.name.to_owned(),
            executable: Path::new(package.tree).join(package.executable),
        });
    }
    let path = folder.join(MANIFEST_FILE);
    serde_json::to_string_pretty(&manifest_of(package))
        .map_err(io::Error::from)
        .and_then(|text| fs::write(&path, text + "\n"))
        .io_context(|| format!("writing {}", path.display()))?;
    Ok(())
}

/// A temporary folder that is removed on drop unless it was renamed to its final name.
struct Partial {
    folder: PathBuf,
}

impl Partial {
    fn create(folder: PathBuf) -> Result<Self, InstallError> {
        fs::create_dir(&folder).io_context(|| format!("making {}", folder.display()))?;
        Ok(Self { folder })
    }

    fn become_folder(self, folder: &Path) -> Result<(), InstallError> {
        // The target exists if another version of the archive was unpacked or files are missing.
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(IoError::new(format!("removing {}", folder.display()), error).into());
            }
            _ => {}
        }
        fs::rename(&self.folder, folder).io_context(|| format!("renaming to {}", folder.display()))?;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Fails after the rename, because the folder is gone. Otherwise the next installation removes it.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
