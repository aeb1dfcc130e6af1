//! Which file names some file system takes for `.git`.
//!
//! A folder of that name makes its parent a repository, whose configuration and hooks name programs that git
//! runs. The rules are those of git's own `core.protectNTFS` and `core.protectHFS` (git-config(1);
//! CVE-2014-9390, CVE-2019-1352, CVE-2019-1353). They hold on every host, because the operator's folder may be
//! on a mounted share, or be cloned on by a colleague.

/// Whether NTFS, HFS+ or a file system that ignores case opens `.git` under this name.
pub(crate) fn is_dot_git(name: &[u8]) -> bool {
    // Windows takes a backslash for a separator, so each part is a name there.
    name.split(|byte| *byte == b'\\').any(|part| is_ntfs_dot_git(part) || is_hfs_dot_git(part))
}

/// Whether a relative path has a component that [`is_dot_git`].
pub(crate) fn is_below_dot_git(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/').any(is_dot_git)
}

/// NTFS ignores case, trailing spaces and periods, opens a stream of a file after a colon
/// (`.git::$INDEX_ALLOCATION` is the folder itself), and has the short name `git~1`.
fn is_ntfs_dot_git(name: &[u8]) -> bool {
    let end = name.iter().position(|byte| *byte == b':').unwrap_or(name.len());
    let kept = name[..end].iter().rposition(|byte| !matches!(byte, b' ' | b'.')).map_or(0, |last| last + 1);
    let name = &name[..kept];
    name.eq_ignore_ascii_case(b".git") || name.eq_ignore_ascii_case(b"git~1")
}

/// HFS+ ignores case and these characters (git's `next_hfs_char` in utf8.c).
fn is_hfs_dot_git(name: &[u8]) -> bool {
    let Ok(name) = std::str::from_utf8(name) else { return false };
    let ignored = |character: &char| matches!(character, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}');
    name.chars().filter(|character| !ignored(character)).map(|c| c.to_ascii_lowercase()).eq(".git".chars())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_dot_git_is_known_and_no_other_name() {
        for name in [
            ".git",
            ".GIT",
            ".Git",
            "git~1",
            "GIT~1",
            ".git ",
            ".git.",
            ".git . .",
            ".git::$INDEX_ALLOCATION",
            ".git:stream",
            "git~1::$INDEX_ALLOCATION",
            ".g\u{200c}it",
            "\u{feff}.GIT\u{206f}",
            "a\\.git",
            ".git\\config",
        ] {
            assert!(is_dot_git(name.as_bytes()), "{name}");
            assert!(is_below_dot_git(format!("a/{name}/b").as_bytes()), "{name}");
        }
        for name in [
            ".gitignore",
            ".gitmodules",
            ".github",
            "git",
            "git~2",
            "git~10",
            ".git-x",
            "..git",
            "",
            ".",
            "..",
        ] {
            assert!(!is_dot_git(name.as_bytes()), "{name}");
        }
        assert!(!is_dot_git(b".g\xffit"));
    }
}
