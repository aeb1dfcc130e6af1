//! Archives that are built entry by entry, with whatever a header can say.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};
use bot_bottle_quarantine::unpack::{self, Unpack, UnpackBounds, UnpackError, Unpacked};
use tar::{EntryType, Header};

/// When every entry was modified.
pub(crate) const TIME: u64 = 1_000_000_007;

#[derive(Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
}

impl Archive {
    /// One entry; the name may be anything of up to 100 bytes.
    pub(crate) fn entry(
        mut self,
        kind: EntryType,
        name: &[u8],
        mode: u32,
        link: &[u8],
        content: &[u8],
    ) -> Self {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(TIME);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.bytes.extend(header.as_bytes());
        self.bytes.extend(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend(bytes);
        self
    }

    pub(crate) fn file(self, name: &str, content: &str) -> Self {
        self.entry(EntryType::Regular, name.as_bytes(), 0o644, b"", content.as_bytes())
    }

    pub(crate) fn folder(self, name: &str) -> Self {
        self.entry(EntryType::Directory, name.as_bytes(), 0o755, b"", b"")
    }

    pub(crate) fn link(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, name.as_bytes(), 0o777, target.as_bytes(), b"")
    }

    pub(crate) fn hard_link(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Link, name.as_bytes(), 0o644, target.as_bytes(), b"")
    }

    /// The archive with its end mark.
    pub(crate) fn end(mut self) -> Vec<u8> {
        self.bytes.extend([0; 1024]);
        self.bytes
    }

    /// The archive without it.
    pub(crate) fn cut_off(self) -> Vec<u8> {
        self.bytes
    }
}

/// A folder of the operator, with a file outside of it that must stay as it is.
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::create_dir(folder.path().join("into"))?;
        fs::write(folder.path().join("precious"), "precious")?;
        Ok(Self { folder })
    }

    pub(crate) fn outside(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn target(&self) -> PathBuf {
        self.folder.path().join("into")
    }

    pub(crate) fn request(&self) -> Unpack {
        Unpack {
            destination: self.target(),
            name: OsString::from("work"),
            overwrite: false,
            bounds: UnpackBounds::default(),
        }
    }

    /// Unpacks, and checks that nothing else changed: no staging folder, and nothing at all on an error.
    pub(crate) fn unpack(&self, archive: &[u8], request: &Unpack) -> Result<Result<Unpacked, UnpackError>> {
        let before = tree(self.outside())?;
        let unpacked = unpack::unpack(&mut &*archive, request);
        let after = tree(self.outside())?;
        ensure!(!after.keys().any(|path| path.to_string_lossy().contains(".bot-bottle-")), "{after:?}");
        ensure!(fs::read_to_string(self.outside().join("precious"))? == "precious");
        if unpacked.is_err() {
            ensure!(before == after, "refused, but there is: {after:?}");
        }
        Ok(unpacked)
    }
}

/// What is below a folder: `folder`, the content of a file, or the target of a link after `->`.
pub(crate) fn tree(folder: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let (mut found, mut waiting) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(at) = waiting.pop() {
        for entry in fs::read_dir(&at)? {
            let path = entry?.path();
            let kind = path.symlink_metadata()?;
            let shown = if kind.is_dir() {
                waiting.push(path.clone());
                "folder".to_owned()
            } else if kind.is_symlink() {
                format!("-> {}", fs::read_link(&path)?.display())
            } else if kind.size() > 10_000 {
                format!("{} bytes", kind.size())
            } else {
                String::from_utf8_lossy(&fs::read(&path)?).into_owned()
            };
            found.insert(path.strip_prefix(folder)?.to_owned(), shown);
        }
    }
    Ok(found)
}

/// As [`tree`], as text.
pub(crate) fn listed(folder: &Path) -> Result<Vec<String>> {
    Ok(tree(folder)?.into_iter().map(|(path, shown)| format!("{}: {shown}", path.display())).collect())
}
