//! Ids of objects that may not be there: the host's, and those of damaged repositories.

use crate::{InspectError, git::Git};

/// For each id the commit that it names, itself or through tags; `None` if there is no such object.
pub(crate) fn commits(git: &Git, ids: &[impl AsRef<str>]) -> Result<Vec<Option<String>>, InspectError> {
    // What is not an id must not be looked up: `HEAD`, `main~3` and `:/text` name commits too.
    let is_id = |id: &str| matches!(id.len(), 40 | 64) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let asked: Vec<_> = ids.iter().map(AsRef::as_ref).filter(|id| is_id(id)).collect();
    let lines: String = asked.iter().map(|id| format!("{id}^{{commit}}\n")).collect();
    let answer = git.read(&["cat-file", "--batch-check=%(objectname) %(objecttype)"], lines.as_bytes())?;
    let answer = String::from_utf8_lossy(&answer);
    // One line for each, in order; `… missing` for what is not there.
    let mut found = answer.lines().map(|line| line.strip_suffix(" commit").map(str::to_owned));
    Ok(ids.iter().map(|id| if is_id(id.as_ref()) { found.next().flatten() } else { None }).collect())
}
