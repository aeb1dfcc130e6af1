//! The tree of a working tree as it is now, made without writing to its repository.

use std::{
    collections::BTreeSet,
    fs::{self, File, FileTimes},
    io,
    os::unix::fs::MetadataExt as _,
    time::{Duration, UNIX_EPOCH},
};

use bot_bottle_core::{error::IoContext as _, work::FileTime};

use crate::{
    InspectError,
    changes::{Change, Changes, as_path, between},
    quote::in_a_line,
    repository::Repository,
    start::Start,
    touched::is_touched,
};

/// Everything that is committed, changed or new, but not ignored, as one tree. Untracked files of the operator's
/// are not in it. Files that git cannot add are named in `left_out`.
pub(crate) fn tree(
    repository: &Repository,
    start: &Start,
    started: FileTime,
    left_out: &mut Vec<String>,
) -> Result<String, InspectError> {
    let entries = copy_index(repository)?;
    distrust_touched(repository, &entries, started)?;
    add_all(repository, left_out)?;
    let all = write(repository)?;
    let changes = between(&repository.own, &start.tree, &all)?;
    for (path, change) in &changes {
        if change.new.is_repository() && !change.old.is_repository() {
            left_out.push(format!("the content of {}, a repository of its own", in_a_line(as_path(path))));
        }
    }
    let back = operators_own(repository, start, started, (&changes, &all))?;
    if back.is_empty() {
        return Ok(all);
    }
    repository.theirs.read(&["update-index", "-z", "--index-info"], &back)?;
    write(repository)
}

fn write(repository: &Repository) -> Result<String, InspectError> {
    // A partial clone lacks objects of files that nobody looked at.
    repository.theirs.line(&["write-tree", "--missing-ok"], b"")
}

/// Copies the index, for what it knows of unchanged files: they need not be read, nor their filters run.
/// Returns its entries.
fn copy_index(repository: &Repository) -> Result<Vec<u8>, InspectError> {
    let (from, to) = (repository.git_dir.join("index"), repository.scratch.join("index"));
    let copied = File::open(&from).and_then(|mut index| {
        let found = index.metadata()?;
        let mut copy = File::create(&to)?;
        io::copy(&mut index, &mut copy)?;
        // A file whose mtime is not before the index's may have changed after git looked, and is read again
        // (git's Documentation/technical/racy-git.txt). Whole seconds, as `core.checkStat=minimal` compares.
        let seconds = Duration::from_secs(u64::try_from(found.mtime()).unwrap_or_default());
        copy.set_times(FileTimes::new().set_modified(UNIX_EPOCH + seconds))
    });
    if let Err(error) = copied.as_ref()
        && error.kind() != io::ErrorKind::NotFound
    {
        copied.io_context(|| format!("copying {}", from.display()))?;
    }
    let list = || repository.theirs.read(&["ls-files", "--stage", "-z"], b"");
    match list() {
        Err(InspectError::Git { .. }) => {
            // A damaged index; what is committed is known without it.
            fs::remove_file(&to).io_context(|| format!("removing {}", to.display()))?;
            repository.theirs.read(&["read-tree", &repository.head_tree()?], b"")?;
            list()
        }
        listed => listed,
    }
}

/// Makes git read every tracked file that the agent touched: size and mtime can be set by a program, and a file
/// can be marked as one to be taken for unchanged (`git update-index --assume-unchanged`).
fn distrust_touched(repository: &Repository, listed: &[u8], started: FileTime) -> Result<(), InspectError> {
    let mut entries = Vec::new();
    for line in listed.split(|byte| *byte == 0) {
        // `100644 ID 0`, a tab, and the path. Other stages are those of a conflict, whose file is read anyway.
        let Some(tab) = line.iter().position(|byte| *byte == b'\t') else { continue };
        let (description, path) = (&line[..tab], &line[tab + 1..]);
        if description.ends_with(b" 0")
            && !description.starts_with(b"160000")
            && is_touched(&repository.folder.join(as_path(path)), started)
        {
            // An entry that is set by hand knows nothing of the file.
            entries.extend_from_slice(line);
            entries.push(0);
        }
    }
    if !entries.is_empty() {
        repository.theirs.read(&["update-index", "-z", "--index-info"], &entries)?;
    }
    Ok(())
}

const ADD: [&str; 4] = ["add", "--all", "--ignore-errors", "--no-warn-embedded-repo"];

/// Adds everything. A file that git refuses to add must not keep the others back.
fn add_all(repository: &Repository, left_out: &mut Vec<String>) -> Result<(), InspectError> {
    let ended = repository.theirs.run(&ADD, b"", &mut io::sink())?;
    if is_done(ended.code) {
        left_out.extend(ended.complaints);
        return Ok(());
    }
    // Git gave up, as it does when a filter fails without which a file must not be stored: those in two halves,
    // again and again, until such files are alone.
    let listed = repository
        .theirs
        .read(&["ls-files", "-z", "--modified", "--deleted", "--others", "--exclude-standard"], b"")?;
    let paths: BTreeSet<_> = listed.split(|byte| *byte == 0).filter(|path| !path.is_empty()).collect();
    let paths: Vec<_> = paths.into_iter().collect();
    let mut attempts = 0;
    let mut halves = vec![&paths[..]];
    while let Some(half) = halves.pop() {
        add_some(repository, half, &mut halves, &mut attempts, left_out)?;
    }
    Ok(())
}

/// Whether `git add` went through all files: 1 says that it left some out.
fn is_done(code: Option<i32>) -> bool {
    matches!(code, Some(0 | 1))
}

fn add_some<'a>(
    repository: &Repository,
    paths: &'a [&'a [u8]],
    halves: &mut Vec<&'a [&'a [u8]]>,
    attempts: &mut usize,
    left_out: &mut Vec<String>,
) -> Result<(), InspectError> {
    /// Each attempt reads the index again; a thousand refused files are not worth an hour.
    const MOST_ATTEMPTS: usize = 500;
    if paths.is_empty() {
        return Ok(());
    }
    *attempts += 1;
    if *attempts > MOST_ATTEMPTS {
        left_out.push(format!("{} more files, because git refuses too many", paths.len()));
        return Ok(());
    }
    let arguments = [&ADD[..], &["--pathspec-from-file=-", "--pathspec-file-nul"]].concat();
    let ended = repository.theirs.run(&arguments, &paths.join(&0), &mut io::sink())?;
    if is_done(ended.code) {
        left_out.extend(ended.complaints);
    } else if let [_] = paths {
        left_out.extend(ended.complaints.into_iter().filter(|line| line.starts_with("fatal: ")));
    } else {
        let (first, second) = paths.split_at(paths.len() / 2);
        halves.extend([second, first]);
    }
    Ok(())
}

/// The entries of the index that put back what is the operator's: lines for `git update-index --index-info`.
fn operators_own(
    repository: &Repository,
    start: &Start,
    started: FileTime,
    (changes, all): (&Changes, &str),
) -> Result<Vec<u8>, InspectError> {
    let uncommitted = between(&repository.own, &repository.head_tree()?, all)?;
    // When a folder is moved, the ctimes of the files in it stay.
    let moved: BTreeSet<_> =
        changes.values().filter(|change| !change.new.exists()).map(|change| &change.old.object).collect();
    let is_operators = |path: &[u8], change: &Change| {
        // Of a file that was tracked, the start has what the operator had changed, if that is recorded.
        let is_in_start = start.has_uncommitted && change.old.exists();
        let is_committed = !uncommitted.contains_key(path);
        let is_file = change.new.exists() && !change.new.is_repository();
        is_file
            && !is_in_start
            && !is_committed
            && !moved.contains(&change.new.object)
            && !is_touched(&repository.folder.join(as_path(path)), started)
    };
    let mut lines = Vec::new();
    for (path, Change { old, .. }) in changes.iter().filter(|(path, change)| is_operators(path, change)) {
        // Mode 0 removes the entry.
        lines.extend_from_slice(format!("{} {} 0\t", old.mode, old.object).as_bytes());
        lines.extend_from_slice(path);
        lines.push(0);
    }
    Ok(lines)
}
