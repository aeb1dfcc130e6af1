//! The pages about reasons and limits say what the code says.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use bot_bottle_core::decision::Reason;

const START: &str =
    "<!-- reasons: written by `UPDATE_DOCS=1 cargo test -p bot-bottle-gateway --test documents` -->\n";
const END: &str = "<!-- end of reasons -->\n";

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn is_fresh(page: &str, expected: &str) -> Result<()> {
    let path = project().join(page);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, expected)?;
    }
    ensure!(
        fs::read_to_string(&path).unwrap_or_default() == expected,
        "{page} is stale: `UPDATE_DOCS=1 cargo test -p bot-bottle-gateway --test documents` writes it anew"
    );
    Ok(())
}

#[test]
fn every_reason_is_explained() -> Result<()> {
    let page = fs::read_to_string(project().join("docs/egress.md"))?;
    let (before, rest) = page.split_once(START).context("the reasons begin")?;
    let (_, after) = rest.split_once(END).context("the reasons end")?;
    let mut table = "| reason | what to do |\n|---|---|\n".to_owned();
    for reason in Reason::ALL.iter().filter(|reason| !reason.hint().is_empty()) {
        writeln!(table, "| `{reason}` | {} |", reason.hint())?;
    }
    is_fresh("docs/egress.md", &format!("{before}{START}{table}{END}{after}"))
}

#[test]
fn every_limit_is_listed() -> Result<()> {
    let mut page = "# Limits\n\n\
        Whatever a bottle can make grow has a bound. What exceeds it is refused with `limit_reached` or `timeout`, or ends\n\
        the connection; the limits of a bottle's own manifest are in [manifest.md](manifest.md). This page is made from the\n\
        sources, where each limit is one constant: `UPDATE_DOCS=1 cargo test -p bot-bottle-gateway --test documents`.\n"
        .to_owned();
    for (title, folder) in [
        ("The gateway", "crates/gateway/src"),
        ("The launcher and the bottle's first process", "crates/launch/src"),
        ("Manifests, plans and receipts", "crates/core/src"),
    ] {
        write!(page, "\n## {title}\n\n| limit | value | of what |\n|---|---|---|\n")?;
        for file in sources(&project().join(folder))? {
            for limit in limits(&fs::read_to_string(&file)?) {
                writeln!(page, "| `{}` | {} | {} |", limit.name, limit.value, limit.meaning)?;
            }
        }
    }
    ensure!(page.contains("`MAX_CONNECTIONS` | 1024 |"), "{page}");
    is_fresh("docs/limits.md", &page)
}

fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

struct Limit {
    name: String,
    value: String,
    meaning: String,
}

/// The documented constants of a file that are named like a bound.
fn limits(source: &str) -> Vec<Limit> {
    let mut found = Vec::new();
    let mut documentation = Vec::new();
    for line in source.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            documentation.push(text.trim());
            continue;
        }
        let declaration = line.trim_start_matches("pub(super) ").trim_start_matches("pub(crate) ");
        let declaration = declaration.trim_start_matches("pub ");
        if let Some((name, rest)) =
            declaration.strip_prefix("const ").and_then(|constant| constant.split_once(':'))
            && let Some((_, value)) = rest.trim_end_matches(';').split_once(" = ")
            && is_bound(name)
            && !documentation.is_empty()
        {
            found.push(Limit {
                name: name.to_owned(),
                value: readable(value),
                meaning: documentation.join(" ").replace('|', "\\|").replace("[`", "`").replace("`]", "`"),
            });
        }
        documentation.clear();
    }
    found
}

fn is_bound(name: &str) -> bool {
    let is_size = ["_BYTES", "_TIMEOUT", "_LIMIT", "_BUFFER", "_WINDOW", "_DEPTH", "_BACKOFF"];
    name.starts_with("MAX_") || is_size.iter().any(|end| name.ends_with(end))
}

/// `64 * 1024`, `64 << 10` and `Duration::from_secs(60)` as a person writes them.
fn readable(value: &str) -> String {
    let inside = |start, end| value.strip_prefix(start).and_then(|inner: &str| inner.strip_suffix(end));
    if let Some(seconds) =
        inside("Duration::from_secs(", ")").or_else(|| inside("Timespec { tv_sec: ", ", tv_nsec: 0 }"))
    {
        return seconds
            .strip_suffix(" * 60")
            .map_or(format!("{seconds} s"), |minutes| format!("{minutes} min"));
    }
    if let Some(milliseconds) = inside("Duration::from_millis(", ")") {
        return format!("{milliseconds} ms");
    }
    for (end, unit) in
        [(" * 1024 * 1024", "Mi"), (" << 30", "Gi"), (" << 20", "Mi"), (" << 10", "Ki"), (" * 1024", "Ki")]
    {
        if let Some(count) = value.strip_suffix(end) {
            return if count == "1024" { "1 Mi".to_owned() } else { format!("{count} {unit}") };
        }
    }
    value.to_owned()
}
