//! What there is of an agent's work, in words. The names in a summary are the agent's.

use bot_bottle_core::identity::Identity;
use bot_bottle_inspector::{RepositorySummary, Summary};

/// Repositories that are named; more are only counted.
const MAX_NAMED: usize = 5;

/// The command that brings all of it out.
pub(super) fn fetch(run: &Identity, summary: &Summary) -> String {
    match summary.repositories.as_slice() {
        [] => format!("`bot-bottle cp {run}:. FOLDER` copies it"),
        [only] if !only.folder.is_empty() => {
            format!("`bot-bottle pull {run} --repository={}` fetches it", shell_quoted(&only.folder))
        }
        _ => format!("`bot-bottle pull {run}` fetches it"),
    }
}

/// What there is, in words: `3 commits, 2 files not committed, 14 files new`.
pub(super) fn work(summary: &Summary) -> String {
    let count = |number: usize, one: &str, many: &str| match number {
        0 => None,
        1 => Some(format!("1 {one}")),
        _ => Some(format!("{number} {many}")),
    };
    let mut parts = Vec::new();
    let with_work: Vec<_> = summary.repositories.iter().filter(|repository| has_work(repository)).collect();
    for repository in with_work.iter().take(MAX_NAMED) {
        let counts = [
            count(repository.commits, "commit", "commits"),
            count(repository.uncommitted, "file not committed", "files not committed"),
            count(repository.new_files, "file new", "files new"),
        ];
        let counts = counts.into_iter().flatten().collect::<Vec<_>>().join(", ");
        parts.push(match repository.folder.as_str() {
            "" => counts,
            folder => format!("{counts} in {}", shell_quoted(folder)),
        });
    }
    parts.extend(count(
        with_work.len().saturating_sub(MAX_NAMED),
        "further repository",
        "further repositories",
    ));
    let loose = [
        count(summary.files.new, "file new", "files new"),
        count(summary.files.changed, "file changed", "files changed"),
    ];
    parts.extend(loose.into_iter().flatten());
    match (parts.is_empty(), summary.written) {
        (false, _) => parts.join(", "),
        (true, true) => "files that git ignores, or that are gone".to_owned(),
        (true, false) => "nothing was changed".to_owned(),
    }
}

fn has_work(repository: &RepositorySummary) -> bool {
    repository.commits > 0 || repository.uncommitted > 0 || repository.new_files > 0
}

/// A name as one word of a shell's command line, which the operator may copy.
fn shell_quoted(name: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '+' | '@' | '%');
    if name.chars().all(is_plain) { name.to_owned() } else { format!("'{}'", name.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use bot_bottle_inspector::LooseFiles;

    use super::*;

    #[test]
    fn work_is_told_in_words() {
        let repository =
            RepositorySummary { commits: 3, uncommitted: 2, new_files: 14, ..Default::default() };
        let cloned = RepositorySummary { folder: "cloned".to_owned(), commits: 1, ..Default::default() };
        let files = LooseFiles { new: 1, changed: 0 };
        for (summary, words) in [
            (
                Summary { written: true, repositories: vec![repository], ..Default::default() },
                "3 commits, 2 files not committed, 14 files new",
            ),
            (Summary { written: true, repositories: vec![cloned], files }, "1 commit in cloned, 1 file new"),
            (Summary { written: true, ..Default::default() }, "files that git ignores, or that are gone"),
            (Summary::default(), "nothing was changed"),
        ] {
            assert_eq!(work(&summary), words);
        }
    }

    #[test]
    fn a_name_of_the_agents_is_one_word_in_a_command_and_many_do_not_fill_the_screen() {
        let run = "agent-aaaaa".parse().expect("an identity");
        let of =
            |folder: &str| RepositorySummary { folder: folder.to_owned(), commits: 1, ..Default::default() };
        for (folder, word) in [("a b", "'a b'"), ("-rf", "-rf"), ("x'; touch y #", r"'x'\''; touch y #'")] {
            let summary = Summary { repositories: vec![of(folder)], ..Default::default() };
            let command = format!("`bot-bottle pull agent-aaaaa --repository={word}` fetches it");
            assert_eq!(fetch(&run, &summary), command);
            assert_eq!(work(&summary), format!("1 commit in {word}"));
        }
        let repositories = (0..1000).map(|number| of(&number.to_string())).collect();
        let told = work(&Summary { repositories, ..Default::default() });
        assert!(told.ends_with("1 commit in 4, 995 further repositories"), "{told}");
    }
}
