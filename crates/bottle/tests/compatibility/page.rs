//! `docs/compatibility.md`, made of the tables.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Result, ensure};

use crate::{
    table::{CLIENTS, MANAGERS, Trust, Version},
    targets::TARGETS,
};

const HEAD: &str = "\
# Clients that work

Each of these programs and libraries was run in a bottle, against a server with a certificate of a private authority, and
without any setting about the proxy or the authority. Each got its answers, sent a body of 900 kB, and could read why a request was refused, without a
body and with one. The page is made by the test that does so:
`UPDATE_DOCS=1 cargo test -p bot-bottle --test compatibility`.

What makes a client trust the bottle's CA is, where nothing else is said, the system's bundle, which is the bottle's own
and needs no variable: the client works with a cleared environment too. A variable stands where the client has roots of its own:
it works with a cleared environment that keeps this one. [providers.md](providers.md) lists all variables of a bottle,
[egress.md](egress.md) what a refusal says.
";

pub(crate) fn is_fresh() -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/compatibility.md");
    let page = page()?;
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &page)?;
    }
    ensure!(
        fs::read_to_string(&path).unwrap_or_default() == page,
        "docs/compatibility.md is stale: `UPDATE_DOCS=1 cargo test -p bot-bottle --test compatibility` writes it anew"
    );
    Ok(())
}

fn page() -> Result<String> {
    let mut page = HEAD.to_owned();
    page += "\n## Requests\n\n| client | HTTP/1.1 | HTTP/2 | trusts the CA by | a refusal |\n|---|---|---|---|---|\n";
    for client in CLIENTS {
        let speaks = |version| if client.versions.contains(&version) { "yes" } else { "–" };
        let trust = match client.trust {
            Trust::System => "the system's bundle".to_owned(),
            Trust::Variable(name) => format!("`{name}`"),
        };
        writeln!(
            page,
            "| {} | {} | {} | {trust} | {} |",
            client.name,
            speaks(Version::Http1),
            speaks(Version::Http2),
            client.refusal
        )?;
    }
    page += "\n## Packages and repositories\n\n\
        A refusal fails these. Where they do not show the reason, the receipts of the run do.\n\n\
        | client | what it does in the test | printed when refused |\n|---|---|---|\n";
    for manager in MANAGERS {
        writeln!(page, "| {} | {} | `{}` |", manager.name, manager.does, manager.shown)?;
    }
    page += "\n## Paths and queries\n\n\
        Where a route has no `matches`, these arrive byte for byte, over HTTP/1.1 and HTTP/2:\n\n\
        | as sent to | path and query |\n|---|---|\n";
    for (api, target) in TARGETS {
        writeln!(page, "| {api} | `{}` |", target.replace('|', "\\|"))?;
    }
    Ok(page)
}
