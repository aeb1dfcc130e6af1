//! bot-bottle: runs coding agents with their permission prompts off, each in a sandbox whose only way out is a
//! gateway that knows the policy and holds the real credentials.
//!
//! This crate is the edge: it reads files and the environment, draws randomness, and is the one place that
//! prints (in [`ui`]). What to do is decided in `bot-bottle-core`; it is done by `bot-bottle-launch` and
//! `bot-bottle-gateway`.

mod arguments;
mod command;
mod demo;
mod edge;
mod exit;
mod manifest_files;
mod provider_install;
mod secret_values;
mod ui;

use std::process::ExitCode;

use clap::Parser;

use arguments::Arguments;

fn main() -> ExitCode {
    // The sandbox's first process is this binary again. It must not do anything that is not part of that
    // role: no argument parsing, no environment, no allocation of threads.
    let mut raw = std::env::args_os();
    if let (Some(role), Some(descriptor)) = (raw.nth(1), raw.next())
        && role == "sandbox-init"
        && let Some(descriptor) = descriptor.to_str().and_then(|number| number.parse().ok())
    {
        bot_bottle_launch::native::sandbox_init(descriptor);
    }

    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(usage) => return ui::usage(&usage),
    };
    let ui = ui::Ui::new(arguments.json);
    match command::run(arguments, &ui) {
        Ok(code) => code,
        Err(error) => ui.fail(&error),
    }
}
