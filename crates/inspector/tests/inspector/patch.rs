//! Diffs and patches.

use anyhow::Result;
use bot_bottle_inspector::{InspectError, Request, Style};

use crate::fixture::{Work, files};

#[test]
fn a_patch_gives_the_agents_tree() -> Result<()> {
    let mut work =
        Work::with_two_files("printf '\\0binary' >d; ln -s a link; git add .; git commit -qm second")?;
    work.agent(
        "echo two >a; git commit -qam work; printf '\\0other' >d; git mv b/c moved; chmod +x a; rm link; \
         mkdir n; echo new >n/new; ln -s /nowhere absolute; : >empty",
    )?;
    let patch = work.patch()?;
    let applied = work.apply(&patch)?;
    assert_eq!(files(&applied)?, files(&work.places.workspace)?);
    assert_eq!(work.left_out, [""; 0]);

    let names = work.diff(Style::NameOnly)?;
    assert_eq!(names, "a\nabsolute\nd\nempty\nlink\nmoved\nn/new\n");
    assert!(work.diff(Style::Full)?.contains("rename from b/c\nrename to moved\n"));
    assert!(work.diff(Style::Stat)?.contains("7 files changed"), "{}", work.diff(Style::Stat)?);
    Ok(())
}

#[test]
fn colours_are_there_when_they_are_wanted() -> Result<()> {
    let mut work = Work::with_two_files("")?;
    work.agent("git config color.ui always; git config color.diff always; echo two >a")?;
    for (colour, style) in
        [true, false].into_iter().flat_map(|colour| [(colour, Style::Full), (colour, Style::Stat)])
    {
        let baseline = work.baseline.clone();
        let text = work.ask(&Request::Diff { baseline, repository: String::new(), style, colour })?;
        assert_eq!(text.contains(&0x1b), colour, "{style:?} {}", String::from_utf8_lossy(&text));
    }
    Ok(())
}

#[test]
fn what_the_operator_had_changed_is_not_the_agents() -> Result<()> {
    let mut work = Work::with_two_files(
        "echo secret >ignored; echo ignored >.gitignore; git add .gitignore; git commit -qm ignore; \
         echo mine >>a; echo staged >s; git add s; echo note >untracked; rm b/c",
    )?;
    assert!(work.baseline.snapshot.is_some(), "the control: there were uncommitted changes");
    assert!(!work.summary()?.written);
    assert_eq!(work.numbers()?, (0, 0, 0));
    assert!(matches!(work.patch(), Err(InspectError::Nothing)));
    assert!(matches!(work.bundle(), Err(InspectError::Nothing)));
    assert_eq!(work.diff(Style::Full)?, "");

    work.agent("echo theirs >t; echo more >>s; cp -p a copy")?;
    assert_eq!(work.diff(Style::NameOnly)?, "copy\ns\nt\n");
    assert_eq!(work.numbers()?, (0, 0, 3));
    let patch = work.patch()?;
    let applied = work.apply(&patch)?;
    assert_eq!(files(&applied)?, files(&work.places.workspace)?);

    // The agent's work may need what the operator had changed; what was untracked is not known to git.
    let bundle = work.bundle()?;
    let (fetched, refs) = work.fetch(&bundle)?;
    assert_eq!(refs, ["uncommitted Work that the agent had not committed"]);
    let mut all = files(&work.places.workspace)?;
    all.retain(|path, _| path.as_os_str() != "untracked" && path.as_os_str() != "ignored");
    assert_eq!(work.checked_out(&fetched, "refs/bottle/uncommitted")?, all);
    Ok(())
}

#[test]
fn untracked_files_of_the_operators_are_only_told_when_they_are_touched() -> Result<()> {
    let mut work = Work::with_two_files("echo 1 >one; mkdir notes; echo 2 >notes/two; echo 3 >notes/three")?;
    assert!(work.baseline.snapshot.is_none(), "the control: nothing tracked had changed");
    work.agent("echo more >>notes/two; echo 4 >notes/four")?;
    assert_eq!(work.diff(Style::NameOnly)?, "notes/four\nnotes/two\n");
    assert_eq!(work.numbers()?, (0, 0, 2));
    // Committed, it is the agent's work.
    work.agent("git add one; git commit -qm one")?;
    assert_eq!(work.diff(Style::NameOnly)?, "notes/four\nnotes/two\none\n");
    assert_eq!(work.numbers()?, (1, 0, 2));
    Ok(())
}

#[test]
fn a_moved_folder_is_not_only_deleted() -> Result<()> {
    let mut work = Work::with_two_files("echo note >note")?;
    // The files in it keep their ctime.
    work.agent("mv b moved")?;
    assert_eq!(work.diff(Style::NameOnly)?, "moved/c\n");
    assert!(work.diff(Style::Full)?.contains("rename from b/c"));
    let patch = work.patch()?;
    let applied = work.apply(&patch)?;
    assert_eq!(files(&applied)?, files(&work.places.workspace)?);
    Ok(())
}

#[test]
fn names_of_any_bytes_come_through() -> Result<()> {
    let mut work = Work::with_two_files("")?;
    work.agent(
        "for name in \"$(printf 'line\\nbreak')\" \"$(printf 'not\\377utf8')\" '-dash' 'a:b' ' space ' '\"q\\uote' \
         '*' ':(top)x' 'ü' 'tab\t'; do echo \"$name\" >\"./$name\"; done; git add .; git commit -qm odd",
    )?;
    let patch = work.patch()?;
    let applied = work.apply(&patch)?;
    assert_eq!(files(&applied)?, files(&work.places.workspace)?);
    assert_eq!(work.diff(Style::NameOnly)?.lines().count(), 10);
    let bundle = work.bundle()?;
    let (fetched, _) = work.fetch(&bundle)?;
    assert_eq!(work.checked_out(&fetched, "refs/bottle/heads/main")?, files(&work.places.workspace)?);
    Ok(())
}

#[test]
fn commits_that_a_patch_has_not_are_named() -> Result<()> {
    let mut work = Work::with_two_files("")?;
    work.agent("echo two >a; git commit -qam here")?;
    work.patch()?;
    assert_eq!(work.left_out, [""; 0]);
    work.agent(
        "git checkout -qb other; echo x >x; git add x; git commit -qm elsewhere; git checkout -q main",
    )?;
    work.patch()?;
    assert_eq!(work.left_out, ["1 commit on another branch, which `pull` brings without `--patch`"]);
    Ok(())
}

#[test]
fn content_that_git_only_points_to_is_named() -> Result<()> {
    let mut work = Work::with_two_files("mkdir -p .git/lfs/objects/aa; echo old >.git/lfs/objects/aa/old")?;
    work.agent("echo two >a; git commit -qam pointer")?;
    work.bundle()?;
    assert_eq!(work.left_out, [""; 0], "it was there before");
    work.agent("echo content >.git/lfs/objects/aa/new")?;
    let named = ["the content of files that git LFS or git-annex stores, which `cp` brings"];
    work.patch()?;
    assert_eq!(work.left_out, named);
    work.bundle()?;
    assert_eq!(work.left_out, named);
    Ok(())
}
