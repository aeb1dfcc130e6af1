//! Real bottles. This executable is launcher, gateway and first process as well, so that no other is needed.

#![allow(clippy::print_stderr, clippy::print_stdout, reason = "a launcher of a test talks to the test")]

use std::{env, process::ExitCode};

mod confinement;
mod fixture;
mod host_files;
mod inherited;
mod inspect;
mod lifetime;
mod limits;
mod own_program;
mod parts;
mod propagation;
mod recording;
mod refused_calls;
mod resume;
mod shares;
mod steps;
mod streams;
mod terminal;

fn main() -> ExitCode {
    if let Some(code) = parts::play(&env::args().collect::<Vec<_>>()) {
        return code;
    }
    let arguments = libtest_mimic::Arguments::from_args();
    let trials = fixture::users()
        .into_iter()
        .flat_map(|user| {
            [
                streams::trials(user),
                confinement::trials(user),
                refused_calls::trials(user),
                own_program::trials(user),
                host_files::trials(user),
                shares::trials(user),
                propagation::trials(user),
                inherited::trials(user),
                limits::trials(user),
                lifetime::trials(user),
                terminal::trials(user),
                steps::trials(user),
                inspect::trials(user),
                resume::trials(user),
            ]
        })
        .flatten()
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
