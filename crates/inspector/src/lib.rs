//! Looks at what an agent wrote, from inside a throw-away bottle, and writes one stream about it.
//!
//! A repository that an agent wrote runs programs when git looks at it (`core.fsmonitor`, filters, hooks), so
//! the host never runs git there. This crate does, in a bottle that has no network and the agent's workspace
//! and home read-only. [`run`] reads a [`Request`] and writes its answer: a [`Summary`], a diff, a patch, a git
//! bundle or a tar archive. The host takes all of them as a stranger's; none of the checks here protects it.
//!
//! The agent's repository is only asked what cannot be known without it: which refs and which index it has,
//! and, by `git add`, what its files are after its own filters. Trees and commits are then compared in a
//! repository of ours, which borrows its objects, and whose configuration is ours.

mod archive;
mod bundle;
mod changes;
mod diff;
mod error;
mod git;
mod ids;
mod places;
mod quote;
mod repository;
mod request;
mod start;
mod stash;
mod summary;
mod touched;
mod unpack;
mod working_tree;

use std::io::{BufRead, Read as _, Write};

use bot_bottle_core::error::IoContext as _;

pub use error::{HINTS, InspectError};
pub use places::Places;
pub use request::{Request, Style};
pub use summary::{LooseFiles, RepositorySummary, Summary};

/// The longest request, in bytes. The ids that [`Request::Bundle`] lists are most of it.
const MAX_REQUEST: u64 = 64 * 1024 * 1024;

/// Reads one request, as a line of JSON, and writes its answer.
///
/// What is left out of the answer, such as a file that cannot be read, is returned as one line for each, for
/// standard error. The lines quote names that the agent chose. An answer is only whole if this succeeds.
///
/// # Errors
/// See [`InspectError`].
pub fn run(
    places: &Places,
    input: &mut impl BufRead,
    output: &mut impl Write,
) -> Result<Vec<String>, InspectError> {
    let mut line = Vec::new();
    input
        .by_ref()
        .take(MAX_REQUEST)
        .read_until(b'\n', &mut line)
        .io_context(|| "reading the request from standard input")?;
    let request = serde_json::from_slice(&line).map_err(InspectError::Request)?;
    let mut left_out = Vec::new();
    match request {
        Request::Summary { baseline } => {
            summary::summarise(places, &baseline, output, &mut left_out)?;
        }
        Request::Diff { baseline, repository, style, colour } => {
            diff::show(places, &baseline, &repository, (style, colour), output, &mut left_out)?;
        }
        Request::Patch { baseline, repository } => {
            diff::patch(places, &baseline, &repository, output, &mut left_out)?;
        }
        Request::Bundle { baseline, repository, known } => {
            bundle::write(places, &baseline, &repository, &known, output, &mut left_out)?;
        }
        Request::Archive { path } => {
            archive::write(&places.resolve(&path)?, &path, output, &mut left_out)?;
        }
        Request::Unpack { path, name } => {
            unpack::unpack(&places.resolve(&path)?, path.ends_with('/'), &name, input)?;
        }
    }
    output.flush().io_context(|| "writing to standard output")?;
    Ok(left_out)
}
