//! The agent's files as a tar archive, which is unpacked in its bottle where that has folders of its own.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use bot_bottle_core::{
    error::{IoContext, IoError},
    plan::BottlePlan,
};
use tar::{Builder, EntryType, Header, HeaderMode};

use crate::{files::remove::empty, steps::allocate::Run};

/// A folder of the agent's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackedFolder {
    /// Where it is, absolute.
    pub(crate) path: PathBuf,
    /// The folder of this host with what is in it at first.
    pub(crate) content: Option<PathBuf>,
    /// Whether it is made, or gets its owner. Otherwise it is there.
    pub(crate) is_made: bool,
}

impl PackedFolder {
    /// Those of a plan: its home, and its workspace, which gets its owner if it is new.
    pub(crate) fn of_agent(plan: &BottlePlan, run: &Run, is_new: bool) -> Vec<Self> {
        let (guest, staged) = (&plan.guest, &run.folders);
        // What is looked at is there.
        let content = |folder: &PathBuf| staged.inspected.is_none().then(|| folder.clone());
        let home = Self { path: guest.home.clone(), content: content(&staged.home), is_made: true };
        let mut folders = vec![home];
        if guest.workspace != guest.home {
            let (path, content) = (guest.workspace.clone(), content(&staged.workspace));
            folders.push(Self { path, content, is_made: is_new });
        }
        folders
    }
}

/// Removes here what was packed: only the bottle's copy is the agent's.
pub(crate) fn remove_packed(folders: &[PackedFolder]) -> Result<(), IoError> {
    for staged in folders.iter().filter_map(|folder| folder.content.as_ref()) {
        empty(staged).io_context(|| format!("removing what is in {}", staged.display()))?;
    }
    Ok(())
}

/// Writes folders with what is below them, owned by this user and its group. Links stay links, files with two names
/// stay one file, and times and modes are kept. What is neither file, folder nor link is left out.
pub(crate) fn pack(folders: &[PackedFolder], owner: u64, to: impl Write) -> io::Result<()> {
    let mut archive = Packer { builder: Builder::new(to), owner, linked: BTreeMap::new() };
    for folder in folders {
        let name = folder.path.strip_prefix("/").unwrap_or(&folder.path);
        if folder.is_made {
            archive.made(name)?;
        }
        if let Some(content) = &folder.content {
            archive.folder(content, name)?;
        }
    }
    archive.builder.into_inner()?.flush()
}

struct Packer<W: Write> {
    builder: Builder<W>,
    owner: u64,
    /// The first name of each file with more than one, by device and inode.
    linked: BTreeMap<(u64, u64), PathBuf>,
}

impl<W: Write> Packer<W> {
    fn made(&mut self, name: &Path) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Directory);
        header.set_mode(0o755);
        header.set_size(0);
        header.set_uid(self.owner);
        header.set_gid(self.owner);
        self.builder.append_data(&mut header, name, io::empty())
    }

    fn folder(&mut self, folder: &Path, name: &Path) -> io::Result<()> {
        let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let (path, name) = (entry.path(), name.join(entry.file_name()));
            let metadata = fs::symlink_metadata(&path)?;
            let mut header = Header::new_gnu();
            header.set_metadata_in_mode(&metadata, HeaderMode::Complete);
            header.set_uid(self.owner);
            header.set_gid(self.owner);
            if metadata.is_dir() {
                self.builder.append_data(&mut header, &name, io::empty())?;
                self.folder(&path, &name)?;
            } else if metadata.is_symlink() {
                header.set_size(0);
                self.builder.append_link(&mut header, &name, fs::read_link(&path)?)?;
            } else if metadata.is_file() {
                self.file(&path, name, &metadata, &mut header)?;
            }
        }
        Ok(())
    }

    fn file(
        &mut self,
        path: &Path,
        name: PathBuf,
        metadata: &fs::Metadata,
        header: &mut Header,
    ) -> io::Result<()> {
        let inode = (metadata.dev(), metadata.ino());
        if metadata.nlink() > 1
            && let Some(first) = self.linked.get(&inode)
        {
            header.set_entry_type(EntryType::Link);
            header.set_size(0);
            return self.builder.append_link(header, &name, first);
        }
        self.builder.append_data(header, &name, File::open(path)?)?;
        if metadata.nlink() > 1 {
            self.linked.insert(inode, name);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_tree_arrives_as_it_is_with_another_owner() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("tree");
        fs::create_dir_all(root.join("bin")).expect("folders");
        fs::write(root.join("bin/tool"), "#!/bin/sh\n").expect("written");
        fs::set_permissions(root.join("bin/tool"), fs::Permissions::from_mode(0o750)).expect("set");
        fs::hard_link(root.join("bin/tool"), root.join("again")).expect("linked");
        symlink("/nowhere/at/all", root.join("dangling")).expect("linked");
        let long = "a".repeat(200);
        fs::write(root.join(&long), "x").expect("written");
        let mut bytes = Vec::new();
        let folder = |path: &str, content: Option<&Path>, is_made| PackedFolder {
            path: path.into(),
            content: content.map(Path::to_owned),
            is_made,
        };
        let folders = [folder("/home/agent", None, true), folder("/work", Some(&root), false)];
        pack(&folders, 1000, &mut bytes).expect("packed");

        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries: Vec<(String, EntryType, u64, u32, Option<PathBuf>)> = archive
            .entries()
            .expect("entries")
            .map(|entry| {
                let entry = entry.expect("an entry");
                let header = entry.header();
                (
                    entry.path().expect("a path").to_string_lossy().into_owned(),
                    header.entry_type(),
                    header.uid().expect("an owner"),
                    header.mode().expect("a mode") & 0o777,
                    entry.link_name().expect("a name").map(std::borrow::Cow::into_owned),
                )
            })
            .collect();
        let names: Vec<&str> = entries.iter().map(|entry| entry.0.as_str()).collect();
        let below = [&long, "again", "bin", "bin/tool", "dangling"].map(|name: &str| format!("work/{name}"));
        assert_eq!(names[0].trim_end_matches('/'), "home/agent");
        assert_eq!(names[1..], below);
        assert!(entries.iter().all(|entry| entry.2 == 1000));
        assert_eq!((entries[0].1, entries[0].3), (EntryType::Directory, 0o755));
        assert_eq!((entries[2].1, entries[2].3), (EntryType::Regular, 0o750));
        assert_eq!((entries[4].1, entries[4].4.as_deref()), (EntryType::Link, Some(Path::new("work/again"))));
        assert_eq!(entries[5].4.as_deref(), Some(Path::new("/nowhere/at/all")));
    }
}
