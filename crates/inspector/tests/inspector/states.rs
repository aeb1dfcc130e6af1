//! Repositories in the middle of something, and with other things in them.

use std::{fs, io::Write as _, os::unix::fs::PermissionsExt as _};

use anyhow::Result;
use bot_bottle_inspector::{InspectError, Style};

use crate::fixture::{Work, files};

/// A repository with a branch that conflicts with `main` in `a`.
const CONFLICT: &str = "git checkout -qb other; echo other >a; git commit -qam other; git checkout -q main; \
                        echo main >a; git commit -qam main; ";

#[test]
fn an_interrupted_merge_or_rebase_is_work_in_progress() -> Result<()> {
    for command in ["git merge -q other", "git rebase -q other", "git cherry-pick other"] {
        let mut work = Work::with_two_files(CONFLICT)?;
        work.agent(&format!("! {command} >/dev/null 2>&1; echo new >new; grep -q '<<<<<<<' a"))?;
        let patch = work.patch()?;
        let applied = work.apply(&patch)?;
        assert_eq!(files(&applied)?, files(&work.places.workspace)?, "{command}");
        let bundle = work.bundle()?;
        let (fetched, _) = work.fetch(&bundle)?;
        assert_eq!(
            work.checked_out(&fetched, "refs/bottle/uncommitted")?,
            files(&work.places.workspace)?,
            "{command}"
        );
    }
    Ok(())
}

#[test]
fn a_merge_that_the_operator_had_begun_is_not_the_agents() -> Result<()> {
    let mut work = Work::with_two_files(&format!("{CONFLICT} ! git merge -q other >/dev/null 2>&1"))?;
    assert!(work.baseline.snapshot.is_none(), "the control: git makes no snapshot of a merge");
    assert_eq!(work.diff(Style::NameOnly)?, "");
    assert!(matches!(work.patch(), Err(InspectError::Nothing)));
    work.agent("echo solved >a")?;
    assert_eq!(work.diff(Style::NameOnly)?, "a\n");
    Ok(())
}

#[test]
fn a_lock_left_behind_and_entries_without_content_do_not_matter() -> Result<()> {
    let mut work = Work::with_two_files("")?;
    work.agent("echo new >new; git add -N new; echo x >.git/index.lock; echo x >.git/HEAD.lock")?;
    assert_eq!(work.diff(Style::NameOnly)?, "new\n");
    let patch = work.patch()?;
    assert_eq!(files(&work.apply(&patch)?)?, files(&work.places.workspace)?);
    // Without the index only ignored files could be taken for others.
    work.agent("echo garbage >.git/index")?;
    assert_eq!(work.diff(Style::NameOnly)?, "new\n");
    work.agent("rm .git/index")?;
    assert_eq!(work.diff(Style::NameOnly)?, "new\n");
    Ok(())
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_left_out() -> Result<()> {
    let mut work = Work::with_two_files("")?;
    work.agent("echo x >readable; echo x >closed; chmod 0 closed")?;
    if fs::read(work.places.workspace.join("closed")).is_ok() {
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED a_file_that_cannot_be_read_is_named_and_left_out: this user reads every file"
        );
        return Ok(());
    }
    assert_eq!(work.diff(Style::NameOnly)?, "readable\n");
    assert!(work.left_out.iter().any(|line| line.contains("closed")), "{:?}", work.left_out);
    fs::set_permissions(work.places.workspace.join("closed"), fs::Permissions::from_mode(0o600))?;
    assert_eq!(work.diff(Style::NameOnly)?, "closed\nreadable\n");
    assert_eq!(work.left_out, [""; 0]);
    Ok(())
}

#[test]
fn filters_run_for_what_the_agent_touched_alone() -> Result<()> {
    let mut work = Work::with_two_files(
        "git config filter.big.clean 'tr a-z A-Z'; git config filter.big.smudge 'tr A-Z a-z'; \
         git config filter.big.required true; echo '*.big filter=big' >.gitattributes; \
         for n in 1 2 3; do echo big$n >$n.big; done; touch -d 2001-02-03 *; git add .; git commit -qm big",
    )?;
    work.agent("echo change >1.big")?;
    let cleaned = work.path("tmp/cleaned");
    work.agent(&format!("git config filter.big.clean 'echo %f >>{}; tr a-z A-Z'", cleaned.display()))?;
    assert!(work.diff(Style::Full)?.contains("-BIG1\n+CHANGE\n"));
    let mut names: Vec<_> = fs::read_to_string(&cleaned)?.lines().map(str::to_owned).collect();
    names.dedup();
    assert_eq!(names, ["1.big"]);
    let patch = work.patch()?;
    assert_eq!(files(&work.apply(&patch)?)?, files(&work.places.workspace)?);
    Ok(())
}

#[test]
fn a_filter_that_fails_keeps_back_its_own_files_alone() -> Result<()> {
    let mut work = Work::with_two_files("")?;
    work.agent(
        "git config filter.crypt.clean false; git config filter.crypt.required true; \
         echo '*.key filter=crypt' >.gitattributes; for n in 1 2 3 4 5 6 7; do echo $n >$n; done; \
         echo PLAIN >3.key; echo PLAIN >6.key; echo two >a; rm b/c",
    )?;
    // What a filter has to encrypt must not come out in plain text.
    let diff = work.diff(Style::Full)?;
    assert!(!diff.contains("PLAIN"), "{diff}");
    assert_eq!(work.diff(Style::NameOnly)?, ".gitattributes\n1\n2\n3\n4\n5\n6\n7\na\nb/c\n");
    assert_eq!(work.left_out.len(), 2, "{:?}", work.left_out);
    for (line, name) in work.left_out.iter().zip(["3.key", "6.key"]) {
        assert!(line.contains(name), "{line}");
    }
    work.agent("git config filter.crypt.clean 'echo SEALED'")?;
    assert_eq!(work.diff(Style::Full)?.matches("+SEALED\n").count(), 2);
    Ok(())
}

#[test]
fn a_submodule_is_a_repository_in_another() -> Result<()> {
    let mut work = Work::with_two_files(
        "git clone -q . ../library; git submodule --quiet add \"$TOP/library\" sub; git commit -qm sub",
    )?;
    assert_eq!(work.numbers()?, (0, 0, 0));
    work.agent("cd sub; echo lib >a; git commit -qam lib; echo new >new")?;
    assert_eq!(work.diff(Style::NameOnly)?, "sub\n");
    assert_eq!(work.numbers()?, (0, 1, 0));
    let bundle = work.bundle()?;
    assert_eq!(work.fetch(&bundle)?.1, ["uncommitted Work that the agent had not committed"]);
    let bundle = work.bundle_of("sub", &[])?;
    fs::write(work.path("sub-bundle"), bundle)?;
    let heads = work.shell(&work.operator(), "git bundle list-heads \"$TOP/sub-bundle\" | cut -d' ' -f2")?;
    assert_eq!(heads, "refs/heads/main\nrefs/uncommitted\n");
    Ok(())
}

#[test]
fn repositories_in_the_workspace_do_not_keep_other_files_back() -> Result<()> {
    let mut work = Work::with_two_files("")?;
    work.agent(
        "git init -q empty; echo x >empty/x; git init -q full; cd full; echo y >y; git add y; git commit -qm y; cd ..; \
         git worktree add -q linked; echo z >linked/z; echo new >new",
    )?;
    let names = work.diff(Style::NameOnly)?;
    assert_eq!(names, "full\nlinked\nnew\n");
    for name in ["empty", "full", "linked"] {
        assert!(work.left_out.iter().any(|line| line.contains(name)), "{name}: {:?}", work.left_out);
    }
    // The agent's name for its workspace, in an absolute path.
    let file = work.places.workspace.join("linked/.git");
    fs::write(&file, "gitdir: /home/agent/workspace/.git/worktrees/linked\n")?;
    assert!(work.bundle_of("linked", &[]).is_ok());
    assert!(matches!(work.bundle_of("b", &[]), Err(InspectError::NoRepository(_))));
    Ok(())
}

#[test]
fn a_sparse_checkout_deletes_nothing() -> Result<()> {
    let mut work =
        Work::with_two_files("mkdir d; echo d >d/d; git add .; git commit -qm d; git sparse-checkout set d")?;
    assert!(!work.places.workspace.join("b").exists(), "the control: a file is not checked out");
    work.agent("mkdir b; echo new >b/new; echo change >d/d")?;
    assert_eq!(work.diff(Style::NameOnly)?, "b/new\nd/d\n");
    Ok(())
}

#[test]
fn a_snapshot_or_a_repository_that_is_gone_has_a_substitute() -> Result<()> {
    let mut work = Work::with_two_files("echo mine >>a")?;
    work.agent("git reflog expire --expire=now --all; git gc -q --prune=now; echo new >new")?;
    let snapshot = work.baseline.snapshot.clone().expect("a snapshot");
    assert!(work.agent(&format!("git cat-file -e {snapshot}")).is_err(), "the control: it is gone");
    assert_eq!(work.diff(Style::NameOnly)?, "new\n");
    work.agent("rm -rf .git; git init -q; git add .; git commit -qm again")?;
    assert_eq!(work.diff(Style::NameOnly)?, "a\nb/c\nnew\n");
    let bundle = work.bundle_of("", &[])?;
    assert_eq!(work.fetch(&bundle)?.1, ["heads/main again"]);
    Ok(())
}
