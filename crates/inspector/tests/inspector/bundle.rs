//! Bundles, fetched by an operator's repository.

use anyhow::Result;
use bot_bottle_inspector::InspectError;

use crate::fixture::{Work, files};

#[test]
fn every_new_branch_and_tag_comes_back() -> Result<()> {
    let mut work =
        Work::with_two_files("git branch old; git tag v0; git branch moved; git checkout -qb empty")?;
    work.agent(
        "git checkout -q main; echo two >a; git commit -qam two; git tag light; git tag -a noted -m 'a note'; \
         git checkout -qb topic/x old; echo x >x; git add x; git commit -qm x; git checkout -q main; \
         git branch -qf moved topic/x; git tag -a on-old -m 'on old' old; echo three >a; echo n >n",
    )?;
    let bundle = work.bundle()?;
    let (fetched, refs) = work.fetch(&bundle)?;
    assert_eq!(
        refs,
        [
            "heads/main two",
            "heads/moved x",
            "heads/topic/x x",
            "tags/light two",
            "tags/noted twoa note",
            "tags/on-old firston old",
            "uncommitted Work that the agent had not committed",
        ]
    );
    let author = work.shell(&fetched, "git log -1 --format='%an <%ae> %P' refs/bottle/uncommitted")?;
    let head = work.agent("git rev-parse HEAD")?;
    assert_eq!(author, format!("bot-bottle <bot-bottle@localhost> {head}"));
    assert_eq!(work.checked_out(&fetched, "refs/bottle/uncommitted")?, files(&work.places.workspace)?);
    assert_eq!(work.numbers()?, (2, 1, 1));
    Ok(())
}

#[test]
fn known_commits_are_left_out_and_unknown_ids_do_not_matter() -> Result<()> {
    let mut work = Work::with_two_files("")?;
    work.agent(
        "head -c 100000 /dev/urandom >r; git add r; git commit -qm big; echo two >a; git commit -qam two",
    )?;
    let all = work.bundle_of("", &[])?;
    let big = work.agent("git rev-parse HEAD~")?.trim().to_owned();
    let nowhere = "0123456789012345678901234567890123456789".to_owned();
    let rest = work.bundle_of("", &[nowhere, "HEAD".to_owned(), "--all".to_owned(), big])?;
    assert!(all.len() > 100_000 && rest.len() < 10_000, "{} and {} bytes", all.len(), rest.len());
    let tip = work.agent("git rev-parse HEAD")?.trim().to_owned();
    assert!(matches!(work.bundle_of("", &[tip]), Err(InspectError::Nothing)));
    Ok(())
}

#[test]
fn a_new_tag_on_an_old_commit_is_something() -> Result<()> {
    let mut work = Work::with_two_files("")?;
    work.agent("git branch same")?;
    let error = work.bundle().expect_err("nothing is new");
    assert!(matches!(error, InspectError::Nothing), "{error}");
    assert_eq!(error.exit_code(), 3);
    assert_eq!(InspectError::NoGit.exit_code(), 1);
    work.agent("git tag -a v1 -m note")?;
    let bundle = work.bundle()?;
    assert_eq!(work.fetch(&bundle)?.1, ["tags/v1 firstnote"]);
    Ok(())
}

#[test]
fn commits_of_a_detached_head_have_a_branch() -> Result<()> {
    let mut work = Work::with_two_files("")?;
    work.agent("git checkout -q --detach; echo two >a; git commit -qam two")?;
    let bundle = work.bundle()?;
    assert_eq!(work.fetch(&bundle)?.1, ["heads/detached two"]);
    assert_eq!(work.summary()?.repositories[0].branch, None);

    work.agent("git branch detached/below; git branch detached-2")?;
    let bundle = work.bundle_of("", &[])?;
    let list = work.path("list");
    std::fs::write(&list, bundle)?;
    let heads = work.shell(&work.operator(), "git bundle list-heads \"$TOP/list\" | cut -d' ' -f2")?;
    assert_eq!(heads, "refs/heads/detached-2\nrefs/heads/detached/below\nrefs/heads/detached-3\n");
    Ok(())
}

#[test]
fn a_repository_without_any_commit_and_its_first_one() -> Result<()> {
    let mut work = Work::begin("git init -q; echo mine >mine")?;
    assert!(matches!(work.bundle(), Err(InspectError::Nothing)));
    work.agent("echo new >new")?;
    assert_eq!(work.numbers()?, (0, 0, 1));
    let bundle = work.bundle()?;
    let (fetched, refs) = work.fetch(&bundle)?;
    assert_eq!(refs, ["uncommitted Work that the agent had not committed"]);
    assert_eq!(work.shell(&fetched, "git ls-tree -r --name-only refs/bottle/uncommitted")?, "new\n");
    work.agent("git add new; git commit -qm first")?;
    assert_eq!(work.numbers()?, (1, 0, 0));
    assert_eq!(work.summary()?.repositories[0].branch.as_deref(), Some("main"));
    Ok(())
}

#[test]
fn a_repository_of_sha256_is_like_any_other() -> Result<()> {
    let mut work = Work::begin(
        "git init -q --object-format=sha256; echo 1 >a; git add a; git commit -qm first; echo 2 >a",
    )?;
    work.agent("echo b >b; git add b; git commit -qm second; echo c >c")?;
    assert_eq!(work.numbers()?, (1, 0, 1));
    let patch = work.patch()?;
    let applied = work.apply(&patch)?;
    assert_eq!(files(&applied)?, files(&work.places.workspace)?);
    let bundle = work.bundle()?;
    let (fetched, refs) = work.fetch(&bundle)?;
    assert_eq!(refs, ["heads/main second", "uncommitted Work that the agent had not committed"]);
    assert_eq!(work.checked_out(&fetched, "refs/bottle/uncommitted")?, files(&work.places.workspace)?);
    Ok(())
}

#[test]
fn what_a_clone_got_from_its_remote_is_not_the_agents() -> Result<()> {
    let mut work = Work::begin(
        "git init -q ../upstream; cd ../upstream; echo 1 >a; git add a; git commit -qm first; git tag v1; \
         git tag -a v2 -m v2; git branch other",
    )?;
    work.agent("git clone -q \"$TOP/upstream\" sub; cd sub; git checkout -q other; git checkout -q main")?;
    assert_eq!(work.summary()?.repositories.len(), 1);
    assert_eq!(work.numbers()?, (0, 0, 0));
    assert!(matches!(work.bundle_of("sub", &[]), Err(InspectError::Nothing)));
    work.agent("cd sub; echo 2 >a; git commit -qam second; echo b >b")?;
    assert_eq!(work.numbers()?, (1, 0, 1));
    let bundle = work.bundle_of("sub", &[])?;
    let (_, refs) = work.fetch(&bundle)?;
    assert_eq!(refs, ["heads/main second", "uncommitted Work that the agent had not committed"]);
    Ok(())
}

#[test]
fn a_shallow_clone_gives_no_bundle_that_nobody_can_fetch() -> Result<()> {
    let mut work = Work::begin(
        "git init -q ../upstream; cd ../upstream; for n in 1 2 3; do echo $n >a; git add a; git commit -qm $n; done",
    )?;
    work.agent("git clone -q --depth 1 \"file://$TOP/upstream\" .; echo 4 >a; git commit -qam 4")?;
    assert!(matches!(work.bundle_of("", &[]), Err(InspectError::Shallow(_))));
    // Whoever has the commit at the cut needs nothing before it.
    let cut = work.agent("git rev-parse HEAD~")?.trim().to_owned();
    assert!(work.bundle_of("", &[cut])?.starts_with(b"# v2 git bundle\n"));
    assert!(String::from_utf8_lossy(&work.patch()?).contains("-3\n+4\n"));
    assert_eq!(work.numbers()?, (1, 0, 0));
    Ok(())
}

#[test]
fn stashes_of_the_agents_come_as_branches() -> Result<()> {
    let mut work = Work::with_two_files(
        "echo mine >>a; export GIT_COMMITTER_DATE=@1000000000; git stash -q; git branch stash",
    )?;
    work.agent("echo one >>a; git stash -q; echo two >>a; git add a; git stash -q -m second")?;
    let bundle = work.bundle()?;
    let (fetched, refs) = work.fetch(&bundle)?;
    assert_eq!(
        refs,
        ["heads/stash-2 On main: second", "heads/stash-3 WIP on main: ..."].map(|name| {
            let base = work.agent("git log -1 --format='%h %s' main").expect("a commit");
            name.replace("...", base.trim())
        })
    );
    assert_eq!(work.shell(&fetched, "git show refs/bottle/heads/stash-2:a")?, "one\ntwo\n");
    // Each has one for its index, which differ.
    assert_eq!(work.numbers()?, (4, 0, 0));
    Ok(())
}
