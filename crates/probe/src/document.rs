//! `docs/attempts.md`, which is the table in words.

use std::fmt::Write;

use crate::{attempt::Group, table};

/// The text of the page.
#[must_use]
pub fn markdown() -> String {
    let count = table::all().count();
    let mut page = format!(
        "# Escape attempts\n\n\
         <!-- Generated from crates/probe/src/table; `UPDATE_DOCS=1 cargo test -p bot-bottle-probe` writes it. -->\n\n\
         {count} attempts are made inside a real bottle. One counts as blocked only if the refusal was seen inside *and* the\n\
         recorders outside saw nothing. The number is the promise of [PROMISES.md](../PROMISES.md) that it tests.\n"
    );
    for group in Group::ALL {
        let attempts: Vec<_> = table::all().filter(|(of, _)| *of == group).collect();
        // Writing to a string cannot fail.
        let _ = write!(
            page,
            "\n## {} ({})\n\n| id | promise | what it does | from |\n|---|---|---|---|\n",
            group.title(),
            attempts.len()
        );
        for (_, attempt) in attempts {
            let what = attempt.what.replace('|', "\\|");
            let _ = writeln!(
                page,
                "| `{}` | {} | {what} | [source]({}) |",
                attempt.id, attempt.promise, attempt.source
            );
        }
    }
    page
}
