//! The page about the command line is what `--help` says.

use std::{fmt::Write as _, path::Path};

use clap::{Command, CommandFactory};

use super::Arguments;

#[test]
fn the_page_is_not_stale() {
    let mut page = "# Command line\n\n\
        What `--help` says of each command, written by `UPDATE_DOCS=1 cargo test -p bot-bottle document`.\n\n\
        Exit codes: 0 done, 1 refused or failed, 2 usage, 3 manifest, 4 backend unavailable, 70 internal. `start`, `run` and\n\
        `exec` pass the program's own code through. Results are on standard output, everything else on standard error.\n"
        .to_owned();
    let mut root = Arguments::command();
    root.build();
    describe(&mut root, "bot-bottle", &mut page);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).expect("written");
    }
    assert_eq!(
        std::fs::read_to_string(&path).unwrap_or_default(),
        page,
        "docs/cli.md is stale: `UPDATE_DOCS=1 cargo test -p bot-bottle document` writes it anew"
    );
}

fn describe(command: &mut Command, name: &str, page: &mut String) {
    let help = command.render_long_help().to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    write!(page, "\n## `{name}`\n\n```text\n{}\n```\n", help.join("\n").trim())
        .expect("memory can be written");
    for inner in
        command.get_subcommands_mut().filter(|inner| !inner.is_hide_set() && inner.get_name() != "help")
    {
        let name = format!("{name} {}", inner.get_name());
        describe(inner, &name, page);
    }
}
