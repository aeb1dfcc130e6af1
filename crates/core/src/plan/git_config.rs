//! The author identity as a file that git reads.

use std::{borrow::Cow, path::Path};

use thiserror::Error;

use crate::{bottle::GitUser, error::Hint, provider::GuestFile};

/// Why a git identity is invalid.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GitConfigError {
    /// A line break could add another setting to the file.
    #[error("git.user.{0}: the value has a control character")]
    ControlCharacter(&'static str),
    /// Git silently drops these characters from identities.
    #[error("git.user.{0}: the value has a `<` or a `>`")]
    AngleBracket(&'static str),
}

impl Hint for GitConfigError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        let hint = match self {
            Self::ControlCharacter(_) => "write the value on one line",
            Self::AngleBracket(_) => "write name and email apart, each without brackets",
        };
        Some(hint.into())
    }
}

/// `~/.gitconfig`, or `None` without an identity.
pub(super) fn file(home: &Path, user: &GitUser) -> Result<Option<GuestFile>, GitConfigError> {
    let mut content = String::from("[user]\n");
    let fields = [("name", &user.name), ("email", &user.email)];
    for (field, value) in fields.into_iter().filter_map(|(field, value)| Some((field, value.as_ref()?))) {
        content.push_str(&format!("\t{field} = \"{}\"\n", escaped(field, &value.value)?));
    }
    let said = user.name.is_some() || user.email.is_some();
    Ok(said.then(|| GuestFile { path: home.join(".gitconfig"), content, mode: 0o644 }))
}

/// Escapes a value for double quotes (git-config(1), "Syntax"): only backslash and quote are escaped, and a
/// line break is not allowed.
fn escaped(field: &'static str, value: &str) -> Result<String, GitConfigError> {
    if value.chars().any(char::is_control) {
        return Err(GitConfigError::ControlCharacter(field));
    }
    if value.contains(['<', '>']) {
        return Err(GitConfigError::AngleBracket(field));
    }
    Ok(value.replace('\\', "\\\\").replace('"', "\\\""))
}
