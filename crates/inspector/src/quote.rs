//! File names in lines of text, as git quotes them.

use std::{os::unix::ffi::OsStrExt as _, path::Path};

use bot_bottle_core::printable::git_quoted;

/// The path as it is if it is one line of plain text, else [`git_quoted`].
pub(crate) fn in_a_line(path: &Path) -> String {
    match path.to_str() {
        Some(text) if !text.chars().any(|c| c.is_control() || c == '"' || c == '\\') => text.to_owned(),
        _ => git_quoted(path.as_os_str().as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn a_name_never_takes_more_than_its_line() {
        for (name, plain) in [
            (&b"a b.txt"[..], "a b.txt"),
            ("ü".as_bytes(), "ü"),
            (b"a\nM b", r#""a\012M b""#),
            (b"\xff\"", r#""\377\"""#),
        ] {
            assert_eq!(in_a_line(Path::new(OsStr::from_bytes(name))), plain);
        }
        assert_eq!(git_quoted("ü".as_bytes()), r#""\303\274""#);
    }
}
