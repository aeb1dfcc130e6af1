//! What of the operator's folder stays out of the copy: patterns of the bottle, and the folder's own
//! `.bottleignore`, both as gitignore(5) has them.

use std::{borrow::Cow, fs, io, path::Path};

use bot_bottle_core::error::{Hint, IoError};
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use thiserror::Error;

/// The name of the file in the folder.
const FILE: &str = ".bottleignore";

/// Longest such file, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The patterns of one copy.
#[derive(Debug, Clone)]
pub(crate) struct Exclusions {
    patterns: Gitignore,
}

/// Why patterns cannot be used.
#[derive(Debug, Error)]
pub enum ExclusionError {
    /// Not a pattern of gitignore(5).
    #[error("{place}: `{pattern}` is no pattern: {why}")]
    Pattern {
        /// The key, or the file with its line.
        place: String,
        /// As it is written.
        pattern: String,
        /// What is wrong.
        why: String,
    },
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] IoError),
}

impl Hint for ExclusionError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Pattern { .. } => {
                Some("patterns are those of gitignore(5): `data/`, `*.iso`, `!keep`".into())
            }
            Self::File(error) => error.hint(),
        }
    }
}

impl Exclusions {
    /// Reads the patterns of a bottle and of a folder. Those of the folder come last, so that `!name` there takes
    /// something back.
    ///
    /// # Errors
    /// When a pattern is none, or the file cannot be read.
    pub(crate) fn read(folder: &Path, patterns: &[String]) -> Result<Self, ExclusionError> {
        // Relative to the folder, as the paths that are asked for.
        let mut builder = GitignoreBuilder::new("");
        let mut add = |place: String, pattern: &str| {
            builder.add_line(None, pattern).map(|_| ()).map_err(|error| ExclusionError::Pattern {
                place,
                pattern: pattern.to_owned(),
                why: error.to_string(),
            })
        };
        for pattern in patterns {
            add("workspace.exclude".to_owned(), pattern)?;
        }
        let file = folder.join(FILE);
        for (number, line) in lines(&file)?.lines().enumerate() {
            add(format!("{}:{}", file.display(), number + 1), line)?;
        }
        let patterns = builder.build().map_err(|error| ExclusionError::Pattern {
            place: "workspace.exclude".to_owned(),
            pattern: patterns.join(", "),
            why: error.to_string(),
        })?;
        Ok(Self { patterns })
    }

    /// Whether an entry stays out. Whatever lies in a folder that does is not asked for.
    pub(crate) fn excludes(&self, path: &Path, is_folder: bool) -> bool {
        self.patterns.matched(path, is_folder).is_ignore()
    }
}

/// The text of the file; empty if there is none. It may come from a stranger: it is read up to a bound, and only
/// if it is a file.
fn lines(file: &Path) -> Result<String, IoError> {
    let failed = |error: io::Error| IoError::new(format!("reading {}", file.display()), error);
    let metadata = match fs::symlink_metadata(file) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(failed(error)),
    };
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        return Err(failed(io::Error::other(format!("it is no file of at most {MAX_BYTES} bytes"))));
    }
    fs::read_to_string(file).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_gitignore() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join(FILE), "# kept\n/top\n!keep.iso\n").expect("a file");
        let patterns = ["data/", "*.iso", ".env*", "build/out"].map(str::to_owned);
        let exclusions = Exclusions::read(folder.path(), &patterns).expect("patterns");
        let excludes = |path: &str, is_folder| exclusions.excludes(Path::new(path), is_folder);
        assert!(excludes("data", true) && excludes("deep/data", true) && !excludes("data", false));
        assert!(excludes("a.iso", false) && excludes("deep/a.iso", false) && !excludes("keep.iso", false));
        assert!(excludes(".env", false) && excludes("app/.env.local", false));
        assert!(excludes("build/out", true) && !excludes("deep/build/out", true));
        assert!(excludes("top", false) && !excludes("deep/top", false));
        assert!(!excludes("src/main.rs", false));
    }

    #[test]
    fn a_bad_pattern_is_named_with_its_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = Exclusions::read(folder.path(), &["a{b".to_owned()]).expect_err("refused");
        assert!(error.to_string().starts_with("workspace.exclude: `a{b` is no pattern: "), "{error}");
        fs::write(folder.path().join(FILE), "fine\n[z-a]\n").expect("a file");
        let error = Exclusions::read(folder.path(), &[]).expect_err("refused");
        assert!(error.to_string().contains(".bottleignore:2: `[z-a]` is no pattern: "), "{error}");
        fs::remove_file(folder.path().join(FILE)).expect("removed");
        std::os::unix::fs::symlink("/dev/zero", folder.path().join(FILE)).expect("a link");
        assert!(matches!(Exclusions::read(folder.path(), &[]), Err(ExclusionError::File(_))));
    }
}
