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

/// The constant of a limit, what it counts in words, and what happens beyond it.
type Row = (&'static str, &'static str, &'static str);

/// What an operator can reach, by heading.
const REACHED: [(&str, &[Row]); 4] = [
    (
        "Requests",
        &[
            (
                "MAX_CONNECTIONS",
                "client connections of a bottle at one time, tunnels and WebSockets included",
                "429, and closed",
            ),
            ("MAX_REQUESTS", "requests at one time, until their responses and WebSockets have ended", "429"),
            ("MAX_CLIENT_STREAMS", "requests at one time on one HTTP/2 connection", "the client waits"),
            ("MAX_UPSTREAM_CONNECTIONS", "connections to hosts at one time, kept ones included", "429"),
            ("MAX_HEAD_BYTES", "bytes of a request's line and headers", "431"),
            ("MAX_HEADERS", "headers of a request", "431"),
            ("MAX_RESPONSE_HEAD_BYTES", "bytes of a response's line and headers", "429"),
            ("MAX_RESPONSE_HEADERS", "headers of a response", "429"),
            ("MAX_INFORMATIONAL", "informational responses (1xx) before a response", "502"),
            ("MAX_QUESTIONS", "requests that wait for your answer at one time", "429"),
            ("ANSWER_TIMEOUT", "a request waits for your answer", "403 `not_approved`"),
            (
                "RENEWAL_TIMEOUT",
                "a request waits for a new value of its credential",
                "its 401, or 403 `credential_expired`",
            ),
            (
                "MAX_WAITING_FOR_RENEWAL",
                "requests that wait for a new value of a credential at one time",
                "their 401, or 429",
            ),
            (
                "MAX_KEPT_BODY",
                "bytes of a request's body that is sent again after a 401",
                "the 401 goes to the agent",
            ),
            ("MAX_KEPT_BODIES", "bytes of all such bodies", "the same"),
            ("SCAN_WINDOW", "bytes of a git LFS batch", "429"),
            ("MAX_NAMES", "different names that the bottle's DNS gave an address to", "SERVFAIL"),
            ("MAX_PATH_BYTES", "bytes of a path that a receipt keeps", "cut"),
            ("RECEIPTS_BYTES", "bytes of a run's receipts", "the oldest of four files is removed"),
            ("REFUSAL_BURST_BYTES", "bytes of receipts of refusals that differ, at once", "429"),
            (
                "REFUSAL_REFILL_BYTES",
                "bytes a second of such receipts after that, and half of all receipts in sum",
                "429",
            ),
            ("MAX_LOG_BYTES", "bytes of a gateway's log", "nothing more is logged"),
        ],
    ),
    (
        "Time",
        &[
            ("SNIFF_TIMEOUT", "until a client sends something in its tunnel", "closed"),
            ("CLIENT_HANDSHAKE_TIMEOUT", "for a client's TLS handshake", "closed"),
            (
                "CLIENT_HEADER_TIMEOUT",
                "for a request's head, and between two requests on one connection",
                "closed",
            ),
            ("CLIENT_IDLE_TIMEOUT", "without a byte in either direction on a client's connection", "closed"),
            ("LINGER_TIMEOUT", "the rest of a refused body is read, and dropped", "closed"),
            ("LINGER_IDLE_TIMEOUT", "without a byte of that rest", "closed"),
            ("HALF_CLOSE_TIMEOUT", "for a response to a client that has closed its own side", "closed"),
            ("RESOLVE_TIMEOUT", "to resolve a name", "502"),
            ("CONNECT_TIMEOUT", "to connect to a host, over all its addresses", "504"),
            ("PROXY_ANSWER_TIMEOUT", "for your own proxy to connect to a host", "502"),
            ("UPSTREAM_HANDSHAKE_TIMEOUT", "for TLS with a host", "504"),
            (
                "UPSTREAM_HEADER_TIMEOUT",
                "until a host begins to answer; an upload may take as long as it moves",
                "504",
            ),
            (
                "UPSTREAM_IDLE_TIMEOUT",
                "without a byte in either direction on a connection to a host",
                "504, or broken off",
            ),
        ],
    ),
    (
        "A bottle",
        &[
            (
                "SCRATCH_BYTES",
                "bytes of `/tmp` and of every other writable folder in memory, where no limit says less",
                "`ENOSPC`",
            ),
            ("MAX_TERMINALS", "pseudo-terminals", "`ENOSPC`"),
            ("MAX_CLIENTS", "commands that `exec` runs at one time", "refused"),
            ("MAX_ENTRIES", "files and folders of a copied workspace", "the start is refused"),
            ("MAX_CONTEXT_BYTES", "bytes of the folder that a Dockerfile is in", "the start is refused"),
            ("MAX_CONTEXT_ENTRIES", "files and folders in there", "the start is refused"),
            ("STOP_TIMEOUT", "for `stop`", "an error; try again, or `cleanup`"),
        ],
    ),
    (
        "Files that you write",
        &[
            ("MAX_FILE_BYTES", "bytes of a manifest", "refused"),
            ("MAX_NODES", "values, keys and collections of a manifest", "refused"),
            ("MAX_PROBLEMS", "problems of one file that are shown", "the others are counted"),
        ],
    ),
];

const CRATES: [(&str, &str); 3] = [
    ("The gateway", "crates/gateway/src"),
    ("The launcher and the bottle's first process", "crates/launch/src"),
    ("Manifests, plans and receipts", "crates/core/src"),
];

#[test]
fn limits_that_an_operator_can_reach_are_told_in_words() -> Result<()> {
    let mut all = Vec::new();
    for (_, folder) in CRATES {
        for file in sources(&project().join(folder))? {
            all.extend(limits(&fs::read_to_string(&file)?));
        }
    }
    let mut page = "# Limits\n\n\
        Whatever a bottle can make grow has a bound. These are the ones that you can meet; the limits that you set yourself\n\
        are in [manifest.md](manifest.md). A request beyond a limit is answered with the JSON of a refusal, whose reason is\n\
        `limit_reached` or `timeout`. Every bound with its name in the code is in [constants.md](constants.md).\n"
        .to_owned();
    for (title, rows) in REACHED {
        write!(page, "\n## {title}\n\n| at most | of what | beyond it |\n|---|---|---|\n")?;
        for (name, meaning, beyond) in rows {
            let found: Vec<_> = all.iter().filter(|limit| limit.name == *name).collect();
            let limit = found.first().with_context(|| format!("no constant is called {name}"))?;
            writeln!(page, "| {} | {meaning} | {beyond} |", limit.value)?;
        }
    }
    is_fresh("docs/limits.md", &page)
}

#[test]
fn every_bound_is_listed_by_its_constant() -> Result<()> {
    let mut page = "# Constants\n\n\
        Every bound in the code, for developers; [limits.md](limits.md) has those that an operator can meet. This page is made\n\
        from the sources: `UPDATE_DOCS=1 cargo test -p bot-bottle-gateway --test documents`.\n"
        .to_owned();
    for (title, folder) in CRATES {
        write!(page, "\n## {title}\n\n| constant | value | module | of what |\n|---|---|---|---|\n")?;
        let root = project().join(folder);
        for file in sources(&root)? {
            let module =
                file.strip_prefix(&root)?.with_extension("").display().to_string().replace('/', "::");
            for limit in limits(&fs::read_to_string(&file)?) {
                writeln!(page, "| `{}` | {} | `{module}` | {} |", limit.name, limit.value, limit.meaning)?;
            }
        }
    }
    ensure!(page.contains("`MAX_CONNECTIONS` | 1024 |"), "{page}");
    is_fresh("docs/constants.md", &page)
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
    if value.starts_with("0x") { value.to_owned() } else { value.replace('_', ",") }
}
