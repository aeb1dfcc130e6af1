//! The author identity as a file that git reads.

use std::path::Path;

use thiserror::Error;

use crate::{bottle::GitUser, provider::GuestFile};

/// Why an author identity cannot be written down.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GitConfigError {
    /// It would end the line, or the file, and what follows would be read as another setting.
    #[error("git.user.{0}: the value has a control character")]
    ControlCharacter(&'static str),
    /// Git drops these from identities without a word.
    #[error("git.user.{0}: the value has a `<` or a `>`")]
    AngleBracket(&'static str),
}

impl GitConfigError {
    /// What to do.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::ControlCharacter(_) => "write the value on one line",
            Self::AngleBracket(_) => "write name and email apart, each without brackets",
        }
    }
}

/// `~/.gitconfig`, unless there is nothing to say in it.
pub(super) fn file(home: &Path, user: &GitUser) -> Result<Option<GuestFile>, GitConfigError> {
    let mut content = String::from("[user]\n");
    let fields = [("name", &user.name), ("email", &user.email)];
    for (field, value) in fields.into_iter().filter_map(|(field, value)| Some((field, value.as_ref()?))) {
        content.push_str(&format!("\t{field} = \"{}\"\n", escaped(field, &value.value)?));
    }
    let said = user.name.is_some() || user.email.is_some();
    Ok(said.then(|| GuestFile { path: home.join(".gitconfig"), content, mode: 0o644 }))
}

/// The value as it stands between double quotes (git-config(1), "Syntax"): only these two are escaped, and no
/// line may end inside.
fn escaped(field: &'static str, value: &str) -> Result<String, GitConfigError> {
    if value.chars().any(char::is_control) {
        return Err(GitConfigError::ControlCharacter(field));
    }
    if value.contains(['<', '>']) {
        return Err(GitConfigError::AngleBracket(field));
    }
    Ok(value.replace('\\', "\\\\").replace('"', "\\\""))
}
