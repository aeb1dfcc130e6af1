//! `cp`: files and folders out of an agent's work, and into it.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Seek},
    path::{Path, PathBuf},
    process::ExitCode,
};

use bot_bottle_core::{bottle::BackendName, error::IoContext, identity::Identity, work::ARCHIVE_ITEM};
use bot_bottle_inspector::Request;
use bot_bottle_launch::inspect::WorkAccess;
use bot_bottle_quarantine::unpack::{self, Unpack, UnpackBounds, Unpacked};

use super::{
    quarantine::Quarantine,
    work::{Answer, Work},
};
use crate::{arguments::Copy, exit::CommandError, ui::Ui};

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// In the work of a run: `ID:PATH`.
    Run(Identity, String),
    /// On the host.
    Host(PathBuf),
}

impl Place {
    /// `ID:PATH` where the part before the first colon is the name of a run. `./x-aaaaa:y` is a file.
    fn of(written: &OsStr) -> Self {
        let run = written.to_str().and_then(|text| text.split_once(':'));
        match run.and_then(|(run, path)| Some((run.parse().ok()?, path))) {
            Some((run, path)) => Self::Run(run, path.to_owned()),
            None => Self::Host(written.into()),
        }
    }
}

/// Copies one way or the other.
pub(super) fn run(copy: &Copy, ui: &Ui) -> Result<ExitCode, CommandError> {
    match (Place::of(&copy.source), Place::of(&copy.target)) {
        (Place::Run(run, path), Place::Host(target)) => out(&run, &path, &target, copy.force, ui),
        (Place::Host(source), Place::Run(run, path)) => into(&source, &run, &path, ui),
        _ => Err(CommandError::usage("exactly one of both sides has to be in a run")
            .with_hint("write it as ID:PATH; `bot-bottle list runs` shows the IDs")),
    }
}

fn out(run: &Identity, path: &str, target: &Path, force: bool, ui: &Ui) -> Result<ExitCode, CommandError> {
    let work = Work::of(run)?;
    let quarantine = Quarantine::create(&work.home)?;
    let (request, terms) =
        (Request::Archive { path: path.to_owned() }, work.terms_for(path, WorkAccess::Read));
    let (answer, mut stream) = work.ask_for_file(&request, terms, &quarantine, ui)?;
    // The workspace itself has no name of its own.
    let name =
        Path::new(path).file_name().map_or_else(|| OsStr::new(run.as_str()).to_owned(), OsStr::to_owned);
    let unpack =
        Unpack { destination: target.to_owned(), name, overwrite: force, bounds: UnpackBounds::default() };
    let unpacked = unpack::unpack(&mut stream, &unpack).map_err(CommandError::from_error)?;
    if unpacked.left_out.count > 0 {
        ui.warn(&left_out(&unpacked));
    }
    // The whole workspace; of a repository in it, which is left out, the commits are fetched by `pull`.
    if matches!(path, "" | "." | "./") {
        work.mark_fetched(answer == Answer::Whole && unpacked.left_out.count == 0)?;
    }
    ui.result(&unpacked, |unpacked| unpacked.path.display().to_string());
    Ok(ExitCode::SUCCESS)
}

fn left_out(unpacked: &Unpacked) -> String {
    let left_out = &unpacked.left_out;
    let lines = left_out.first.iter().map(|entry| format!("{} {}", entry.path, entry.why));
    let mut lines: Vec<String> = std::iter::once("left out:".to_owned()).chain(lines).collect();
    let more = left_out.count - left_out.first.len() as u64;
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines.join("\n")
}

fn into(source: &Path, run: &Identity, path: &str, ui: &Ui) -> Result<ExitCode, CommandError> {
    let work = Work::of(run)?;
    let quarantine = Quarantine::create(&work.home)?;
    let reading = || format!("copying {}", source.display());
    let mut archive = quarantine.file().io_context(reading)?;
    pack(source, &archive).io_context(reading)?;
    archive.rewind().io_context(reading)?;
    let name = std::path::absolute(source).io_context(reading)?;
    let name = name.file_name().and_then(OsStr::to_str).ok_or_else(|| {
        CommandError::usage(format!("{} has no name that can be given to the copy", source.display()))
    })?;
    let request = Request::Unpack { path: path.to_owned(), name: name.to_owned() };
    let terms = work.terms_for(path, WorkAccess::Write);
    if terms.home && work.backend == BackendName::Docker {
        return Err(CommandError::failed(format!(
            "{path} is not in the workspace of {run}, and nothing can be put into the home of a bottle of the docker backend"
        ))
        .with_hint(format!("`bot-bottle cp FILE {run}:` puts it into the workspace")));
    }
    work.ask(&request, terms, &mut archive, &mut |_| Ok(()), ui)?;
    ui.done(&format!("{} is in {run}", source.display()));
    Ok(ExitCode::SUCCESS)
}

/// Writes a file or a folder of the operator's as an archive. Links stay links; a link that was named is
/// followed, as cp(1) does.
fn pack(source: &Path, archive: &File) -> Result<(), io::Error> {
    let mut builder = tar::Builder::new(archive);
    builder.follow_symlinks(false);
    let source = std::fs::canonicalize(source)?;
    if source.is_dir() {
        builder.append_dir_all(ARCHIVE_ITEM, &source)?;
    } else {
        builder.append_path_with_name(&source, ARCHIVE_ITEM)?;
    }
    builder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_told_from_a_file() {
        let place = |text: &str| Place::of(OsStr::new(text));
        let run: Identity = "reviewer-k3x9a".parse().expect("an identity");
        assert_eq!(place("reviewer-k3x9a:src/x:y"), Place::Run(run.clone(), "src/x:y".to_owned()));
        assert_eq!(place("reviewer-k3x9a:"), Place::Run(run, String::new()));
        for file in ["./reviewer-k3x9a:x", "reviewer-k3x9a", "a:b", "/tmp/x", ""] {
            assert_eq!(place(file), Place::Host(file.into()), "{file}");
        }
    }
}
