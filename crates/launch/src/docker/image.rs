//! The image of the gateway's container: this binary, and folders with their owners. Neither a Dockerfile nor a
//! registry has a part in it.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Seek},
    path::{Path, PathBuf},
};

use bot_bottle_core::error::IoContext;
use bot_bottle_engine::{Engine, EngineError, RefusalKind};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::{
    agent_image::{IMAGE_LABEL, TAG_DIGITS},
    error::LaunchError,
    static_program,
};

use super::{
    hand_over::GATEWAY_USER,
    names::{HAND_OVER_FOLDER, PROGRAM},
};

/// Repository of the image. Its tag is the hash of what is in it.
const REPOSITORY: &str = "bot-bottle-gateway";

/// Changes with the layout of the image.
const LAYOUT: &str = "1";

/// Its value for images of gateways.
pub(super) const GATEWAY_IMAGE: &str = "gateway";

/// Makes sure that the engine has the gateway's image, and returns its reference.
///
/// # Errors
/// [`LaunchError::NotStatic`] where this binary needs libraries that the image would not have.
pub(super) fn gateway(engine: &Engine, executable: &Path) -> Result<String, LaunchError> {
    let reading = || format!("reading {}", executable.display());
    let mut file = static_program::open(executable)?;
    let mut hash = Sha256::new_with_prefix(LAYOUT);
    io::copy(&mut file, &mut hash).io_context(reading)?;
    let digits: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let reference = format!("{REPOSITORY}:{}", &digits[..TAG_DIGITS]);
    match engine.image(&reference) {
        Ok(_) => return Ok(reference),
        Err(error) if error.refusal() == Some(RefusalKind::NotFound) => {}
        Err(error) => return Err(error.into()),
    }
    file.rewind().io_context(reading)?;
    let archive = root_file_system(&mut file).io_context(reading)?;
    let label = format!("LABEL {IMAGE_LABEL}={GATEWAY_IMAGE}");
    engine.import(&reference, &[label], &mut archive.as_slice())?;
    Ok(reference)
}

fn root_file_system(executable: &mut File) -> io::Result<Vec<u8>> {
    let mut builder = Builder::new(Vec::new());
    for (path, (mode, owner)) in folders() {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Directory);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_size(0);
        builder.append_data(&mut header, relative(&path.to_string_lossy()), io::empty())?;
    }
    let mut header = Header::new_gnu();
    header.set_mode(0o755);
    header.set_size(executable.metadata()?.len());
    builder.append_data(&mut header, relative(PROGRAM), executable)?;
    builder.into_inner()
}

/// The folders of the image with their modes and owners, each after the one that it is in. All are named, because
/// engines differ in the modes of those that are not.
fn folders() -> BTreeMap<PathBuf, (u32, u64)> {
    // The engine puts files of its own into `/etc`, and cannot make it where the root is read-only.
    let named = ["/etc/hosts", HAND_OVER_FOLDER, PROGRAM];
    let above = named.iter().flat_map(|path| Path::new(path).ancestors().skip(1));
    let mut folders: BTreeMap<PathBuf, (u32, u64)> =
        above.filter(|path| path.parent().is_some()).map(|path| (path.to_owned(), (0o755, 0))).collect();
    // What is handed over in there is for the gateway's user alone.
    folders.insert(HAND_OVER_FOLDER.into(), (0o700, GATEWAY_USER.into()));
    folders
}

fn relative(path: &str) -> &str {
    path.trim_start_matches('/')
}

impl From<EngineError> for LaunchError {
    fn from(error: EngineError) -> Self {
        Self::Engine(Box::new(error))
    }
}
