//! Paths in an archive.

use bot_bottle_core::{printable::printable, work::ARCHIVE_ITEM};

use super::error::UnpackError;

/// The path of an entry below the item, checked; empty for the item itself. The parts are separated by one
/// slash, none is `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct EntryPath(Vec<u8>);

impl EntryPath {
    /// # Errors
    /// A path that is absolute, has a part `..`, or is not below `item`: tar(1) would write it elsewhere.
    pub(super) fn new(written: &[u8], max_depth: usize) -> Result<Self, UnpackError> {
        let refused = |why| Err(refused(written, why));
        if written.contains(&0) {
            return refused("its name has a NUL");
        }
        if written.starts_with(b"/") {
            return refused("its path is absolute");
        }
        let mut parts = written.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
        if parts.clone().any(|part| part == b"..") {
            return refused("its path leads out of the archive");
        }
        if parts.next() != Some(ARCHIVE_ITEM.as_bytes()) {
            return refused("it is not a part of what was asked for");
        }
        if parts.clone().count() > max_depth {
            return Err(UnpackError::TooLarge { what: "folders inside each other", bound: max_depth as u64 });
        }
        Ok(Self(parts.collect::<Vec<_>>().join(&b'/')))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn is_item(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/').filter(|part| !part.is_empty())
    }

    /// The folder that it is in; `None` for the item.
    pub(super) fn parent(&self) -> Option<Self> {
        let slash = self.0.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        (!self.is_item()).then(|| Self(self.0[..slash].to_vec()))
    }

    /// The paths of the folders that it is in, from the item's on, and its own.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = &[u8]> {
        let slashes = self.0.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let own = (!self.is_item()).then_some(self.0.len());
        std::iter::once(0).chain(slashes).chain(own).map(|end| &self.0[..end])
    }
}

pub(super) fn refused(path: &[u8], why: &'static str) -> UnpackError {
    // Long enough to find the entry; the name may have a megabyte.
    let shown = &path[..path.len().min(300)];
    UnpackError::Refused { path: printable(&String::from_utf8_lossy(shown)), why }
}

/// Why a symbolic link is left out; `None` if it stays within the item wherever that is.
///
/// Only leading `..` are accepted, at most as many as folders are above the link. Those folders are real ones,
/// because nothing is unpacked through a link. What follows goes down, through links to which the same applies,
/// so that no chain of them leads out; `down/..` could, where `down` is a link.
pub(super) fn why_link_is_left_out(at: &EntryPath, target: &[u8]) -> Option<&'static str> {
    if target.starts_with(b"/") {
        return Some("is a link to an absolute path");
    }
    if target.is_empty() || target.contains(&0) {
        return Some("is a link to nothing");
    }
    if crate::dot_git::is_below_dot_git(target) {
        return Some("is a link into a git repository's own files");
    }
    let Some(parent) = at.parent() else { return Some("is a link to something else") };
    let parts: Vec<_> =
        target.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    let up = parts.iter().take_while(|part| **part == b"..").count();
    let leads_out = up > parent.parts().count() || parts[up..].contains(&b"..".as_slice());
    leads_out.then_some("is a link that leads out of what is copied")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_within_the_item() {
        let inside: [(&str, &str); 6] = [
            ("item/a", "b"),
            ("item/a", "./b//c/"),
            ("item/d/a", "../b"),
            ("item/node_modules/.bin/x", "../x/bin/x.js"),
            ("item/d/e/a", "../.."),
            ("item/a", "..b/c..d/..."),
        ];
        let outside = [
            ("item/a", "/etc/passwd"),
            ("item/a", "../b"),
            ("item/d/a", "../../b"),
            ("item/d/a", "./../../b"),
            ("item/a", "b/../c"),
            ("item/a", "d/../../x"),
            ("item/a", ".git/hooks/x"),
            ("item/d/a", "../.GIT/config"),
            ("item", "b"),
            ("item/a", ""),
        ];
        let verdict = |(at, target): (&str, &str)| {
            let at = EntryPath::new(at.as_bytes(), 100).expect("a path");
            why_link_is_left_out(&at, target.as_bytes())
        };
        for link in inside {
            assert_eq!(verdict(link), None, "{link:?}");
        }
        for link in outside {
            assert!(verdict(link).is_some(), "{link:?}");
        }
    }

    #[test]
    fn a_path_knows_its_folders() {
        let path = EntryPath::new(b"./item//a/./b/", 2).expect("a path");
        assert_eq!(path.bytes(), b"a/b");
        assert_eq!(path.prefixes().collect::<Vec<_>>(), [b"".as_slice(), b"a", b"a/b"]);
        assert_eq!(path.parent().map(|path| path.bytes().to_vec()), Some(b"a".to_vec()));
        assert_eq!(path.parent().and_then(|path| path.parent()).map(|path| path.is_item()), Some(true));
        assert!(EntryPath::new(b"item/a/b", 1).is_err());
    }
}
