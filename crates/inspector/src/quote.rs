//! File names in lines of text, as git quotes them.

use std::{fmt::Write as _, os::unix::ffi::OsStrExt as _, path::Path};

/// The path in double quotes, with every byte that is not printable ASCII in octal: what git's
/// `unquote_c_style` reads, for example in `objects/info/alternates`.
pub(crate) fn quoted(path: &Path) -> String {
    let mut text = String::from("\"");
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'"' | b'\\' => {
                text.push('\\');
                text.push(char::from(byte));
            }
            b' '..=b'~' => text.push(char::from(byte)),
            // Writing to a string does not fail.
            other => drop(write!(text, "\\{other:03o}")),
        }
    }
    text.push('"');
    text
}

/// The path as it is if it is one line of plain text, else [`quoted`].
pub(crate) fn in_a_line(path: &Path) -> String {
    match path.to_str() {
        Some(text) if !text.chars().any(|c| c.is_control() || c == '"' || c == '\\') => text.to_owned(),
        _ => quoted(path),
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
        assert_eq!(quoted(Path::new("ü")), r#""\303\274""#);
    }
}
