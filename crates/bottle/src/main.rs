//! bot-bottle: runs coding agents with their permission prompts off, each in a sandbox whose only way out is
//! a gateway that knows the policy and holds the real credentials.
//!
//! This crate reads files and the environment, draws random numbers, and prints (only in [`ui`]).
//! `bot-bottle-core` decides; `bot-bottle-launch` and `bot-bottle-gateway` have the effects.

mod arguments;
mod command;
mod demo;
mod exit;
mod host_file;
mod manifest_files;
mod provider_install;
mod renewal;
mod secret_values;
mod system;
mod ui;

use std::process::ExitCode;

use clap::Parser;

use arguments::Arguments;

fn main() -> ExitCode {
    // This binary is also process 1 of the sandbox. That process must do nothing else first: no parsing of
    // arguments, no reading of the environment, no threads.
    let mut raw = std::env::args_os();
    match (raw.nth(1), raw.next()) {
        (Some(role), Some(descriptor)) if role == "sandbox-init" || role == "machine-host" => {
            if let Some(descriptor) = descriptor.to_str().and_then(|number| number.parse().ok()) {
                if role == "machine-host" {
                    return command::machine::host(descriptor, &ui::Ui::new(false));
                }
                bot_bottle_launch::sandbox_init(descriptor);
            }
        }
        (Some(role), None) if role == "container-init" => {
            let ui = ui::Ui::new(false);
            return command::container::init(&ui).unwrap_or_else(|error| ui.fail(&error));
        }
        (Some(role), None) if role == "machine-init" => {
            let ui = ui::Ui::new(false);
            return command::machine::init(&ui).unwrap_or_else(|error| ui.fail(&error));
        }
        _ => {}
    }

    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(usage) => return ui::usage(&usage),
    };
    let ui = ui::Ui::new(arguments.json);
    match command::run(arguments, &ui) {
        Ok(code) => ui.code(code),
        Err(error) => ui.fail(&error),
    }
}
