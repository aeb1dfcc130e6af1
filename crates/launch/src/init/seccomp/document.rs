//! `docs/system-calls.md`, which is the table of decisions in words.

use std::fmt::Write;

use super::{Rule, table};

/// The text of the page.
#[must_use]
pub fn markdown() -> String {
    let mut page = "# System calls\n\n\
        <!-- Generated from crates/launch/src/init/seccomp/table; `UPDATE_DOCS=1 cargo test -p bot-bottle-launch --test document` writes it. -->\n\n\
        What the seccomp filter of a bottle on the native backend decides about every system call of Linux 6.18, on x86-64\n\
        and aarch64. A call that is not here is answered with `ENOSYS`, as by a kernel that is too old to have it, and\n\
        programs take the older one. `EPERM` is for what exists, but not for a bottle. Calls of another architecture, and of\n\
        x32, end the process: they have other numbers.\n\n\
        The last column says where Docker's default profile, for a container without capabilities, or Flatpak's decides\n\
        otherwise. Flatpak's is a list of what is refused, so it allows whatever it does not name.\n"
        .to_owned();
    for (title, rules) in table::GROUPS {
        // Writing to a string cannot fail.
        let _ = write!(page, "\n## {title}\n\n| calls | answer | why | elsewhere |\n|---|---|---|---|\n");
        for rule in rules {
            let Rule { says, reason, elsewhere, .. } = rule;
            let calls: Vec<_> =
                rule.calls.iter().map(|call| format!("`{}`", call.name.trim_start_matches("SYS_"))).collect();
            let _ = writeln!(page, "| {} | {says} | {reason} | {elsewhere} |", calls.join(", "));
        }
    }
    page
}
