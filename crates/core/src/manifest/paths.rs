//! Paths as operators write them.

use std::path::{Component, Path, PathBuf};

/// Makes a path of the operator absolute: `~` is `home`, a relative path starts at the folder of `file`. `..`
/// is kept, because it may follow a symbolic link and the file system is not read.
#[must_use]
pub fn resolve_path(written: &str, file: &Path, home: &Path) -> PathBuf {
    let path = match written.strip_prefix('~') {
        Some("") => home.to_owned(),
        Some(rest) if rest.starts_with('/') => home.join(rest.trim_start_matches('/')),
        Some(_) | None => file.parent().unwrap_or(Path::new("")).join(written),
    };
    path.components().filter(|component| *component != Component::CurDir).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_start_where_the_operator_means() {
        let resolve = |written| {
            resolve_path(written, Path::new("/home/ada/.bot-bottle/bottles/dev.md"), Path::new("/home/ada"))
        };
        assert_eq!(resolve("~/.ssh/id"), Path::new("/home/ada/.ssh/id"));
        assert_eq!(resolve("~"), Path::new("/home/ada"));
        assert_eq!(resolve("./Dockerfile"), Path::new("/home/ada/.bot-bottle/bottles/Dockerfile"));
        assert_eq!(resolve("../x"), Path::new("/home/ada/.bot-bottle/bottles/../x"));
        assert_eq!(resolve("/etc/x"), Path::new("/etc/x"));
        assert_eq!(resolve("~//etc/x"), Path::new("/home/ada/etc/x"));
    }
}
