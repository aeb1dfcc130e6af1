//! Workspaces without a repository, and with several.

use anyhow::Result;
use bot_bottle_inspector::{InspectError, LooseFiles, RepositorySummary, Style, Summary};

use crate::fixture::Work;

#[test]
fn files_without_a_repository_are_listed() -> Result<()> {
    let mut work = Work::begin("mkdir d; echo 1 >one; echo 2 >d/two; echo 3 >d/three")?;
    let before = work.summary()?;
    assert!(
        !before.written && before.repositories.is_empty() && before.files == LooseFiles::default(),
        "{before:?}"
    );
    work.agent("echo more >>d/two; echo result >result.txt; echo x >\"$(printf 'a\\nM b')\"; mkdir -p .git")?;
    let names = work.diff(Style::NameOnly)?;
    let new = if names.contains("A result.txt") { 2 } else { 0 };
    // A file system that does not tell when a file was made makes all of them changed ones.
    let letter = if new > 0 { 'A' } else { 'M' };
    assert_eq!(names, format!("{letter} \"a\\012M b\"\nM d/two\n{letter} result.txt\n"));
    assert_eq!(work.diff(Style::Full)?, names);
    assert!(work.diff(Style::Stat)?.contains("M d/two (7 bytes)\n"));
    let summary = work.summary()?;
    assert!(summary.written);
    assert_eq!(summary.files, LooseFiles { new, changed: 3 - new });
    assert!(matches!(work.patch(), Err(InspectError::NoRepository(_))));
    assert!(matches!(work.bundle(), Err(InspectError::NoRepository(_))));
    Ok(())
}

#[test]
fn deleting_is_touching() -> Result<()> {
    let mut work = Work::begin("mkdir d; echo 2 >d/two")?;
    assert!(!work.summary()?.written);
    work.agent("rm d/two")?;
    assert!(work.summary()?.written);
    Ok(())
}

#[test]
fn the_repositories_of_subfolders_are_looked_at_one_by_one() -> Result<()> {
    let mut work = Work::begin(
        "for name in one two; do git init -q $name; cd $name; echo a >a; git add a; \
         GIT_COMMITTER_DATE='2001-01-01T00:00:00Z' git commit -qm first; git branch stale; cd ..; done; ln -s one link",
    )?;
    let summary = work.summary()?;
    let numbers = |summary: &Summary| {
        let number = |found: &RepositorySummary| {
            (found.folder.clone(), found.commits, found.uncommitted, found.new_files)
        };
        summary.repositories.iter().map(number).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&summary), [("one".into(), 0, 0, 0), ("two".into(), 0, 0, 0)]);
    work.agent("cd two; echo b >>a; git commit -qam second; echo c >c; echo loose >../loose")?;
    let summary = work.summary()?;
    assert_eq!(numbers(&summary), [("one".into(), 0, 0, 0), ("two".into(), 1, 0, 1)]);
    assert_eq!(summary.files.new + summary.files.changed, 1);
    let bundle = work.bundle_of("two", &[])?;
    assert_eq!(
        work.fetch(&bundle)?.1,
        ["heads/main second", "uncommitted Work that the agent had not committed"]
    );
    assert!(matches!(work.bundle_of("one", &[]), Err(InspectError::Nothing)));
    assert!(matches!(work.bundle_of("../operator/one", &[]), Err(InspectError::NoRepository(_))));
    Ok(())
}
