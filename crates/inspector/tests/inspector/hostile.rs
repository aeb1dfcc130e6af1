//! Repositories that do what they can to be looked at wrongly.

use anyhow::Result;
use bot_bottle_inspector::Style;

use crate::fixture::{Work, files};

#[test]
fn the_agents_configuration_does_not_change_what_a_patch_is() -> Result<()> {
    let mut work = Work::with_two_files("")?;
    work.agent("echo two >a; git mv b/c moved; printf '\\0' >binary; echo extra >>moved")?;
    let plain = work.patch()?;
    work.agent(
        "for setting in diff.noprefix=true diff.mnemonicPrefix=true diff.renames=copies diff.context=0 \
         diff.external='touch canary' diff.orderFile=/nowhere diff.submodule=log diff.relative=true diff.wordRegex=. \
         color.ui=always color.diff=always core.pager='touch canary' core.quotePath=true core.bare=true \
         core.worktree=/ commit.gpgSign=true gpg.program='touch canary' core.fsmonitor='touch canary' \
         diff.x.textconv='touch canary; echo' diff.x.command='touch canary' core.hooksPath=.git/h core.abbrev=4; do \
             git config \"${setting%%=*}\" \"${setting#*=}\"; \
         done; \
         mkdir -p .git/info .git/h; echo '* diff=x' >.git/info/attributes; \
         for hook in post-index-change reference-transaction post-checkout; do \
             printf '#!/bin/sh\\ntouch canary\\n' >.git/h/$hook; chmod +x .git/h/$hook; \
         done",
    )?;
    assert!(work.patch()? == plain);
    assert!(work.diff(Style::Full)?.contains("diff --git a/a b/a\n"));
    assert!(!work.places.workspace.join("canary").exists());
    let applied = work.apply(&plain)?;
    assert_eq!(files(&applied)?, files(&work.places.workspace)?);
    // The control: git as anybody calls it does run them.
    work.agent("GIT_DIR=.git GIT_WORK_TREE=. git diff >/dev/null 2>&1 || true; test -e canary")?;
    Ok(())
}

#[test]
fn changes_are_not_hidden_by_marks_of_the_index_or_by_times() -> Result<()> {
    let mut work = Work::with_two_files(
        "for n in 1 2 3; do echo 000 >$n; touch -d 2001-02-03 $n; done; git add .; git commit -qm n",
    )?;
    work.agent(
        "git update-index --assume-unchanged 1; echo new >1; git update-index --skip-worktree 2; echo new >2; \
         cp -p 3 time; echo new >3; touch -r time 3; rm time",
    )?;
    let status = work.agent("git -c core.checkStat=minimal -c core.trustctime=false status --porcelain")?;
    assert_eq!(status, "", "the control: git sees nothing");
    assert_eq!(work.diff(Style::NameOnly)?, "1\n2\n3\n");
    Ok(())
}

#[test]
fn replacements_do_not_make_another_history() -> Result<()> {
    let mut work = Work::with_two_files("")?;
    work.agent(
        "echo evil >a; git commit -qam evil; git replace HEAD HEAD~; git replace $(git rev-parse HEAD:a) $(git hash-object -w b/c)",
    )?;
    assert!(work.diff(Style::Full)?.contains("-one\n+evil\n"));
    Ok(())
}
