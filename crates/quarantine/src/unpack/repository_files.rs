//! Which files together make git take a folder for a bare repository.
//!
//! Git looks for `HEAD`, and for `objects` and `refs`, or for a file `commondir` that tells where those are
//! (`is_git_directory` in git's setup.c). Such a folder has a configuration, and so programs that git runs when
//! somebody enters it (CVE-2024-32465; `safe.bareRepository` in git-config(1) is not set by default).

/// The files of that kind that a folder has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RepositoryFiles(u8);

const HEAD: u8 = 1;
const OBJECTS: u8 = 2;
const REFS: u8 = 4;
const COMMON_DIR: u8 = 8;

impl RepositoryFiles {
    /// The one with this name, whatever its case: some file systems ignore that.
    pub(super) fn of(name: &[u8]) -> Self {
        let names =
            [(b"HEAD".as_slice(), HEAD), (b"objects", OBJECTS), (b"refs", REFS), (b"commondir", COMMON_DIR)];
        Self(names.iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map_or(0, |(_, bit)| *bit))
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn is_none(self) -> bool {
        self.0 == 0
    }

    pub(super) fn is_head(self) -> bool {
        self.0 == HEAD
    }

    /// Whether git takes a folder with these files for a repository.
    pub(super) fn make_repository(self) -> bool {
        let has = |bits| self.0 & bits == bits;
        has(HEAD | OBJECTS | REFS) || has(HEAD | COMMON_DIR)
    }
}
