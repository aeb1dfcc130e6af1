//! The table of what a backend does with each key of a bottle, made by running bottles that have it.

use std::{fs, path::Path, process::Output};

use anyhow::{Context, ensure};

/// The end of the table in its page.
const END: &str = "<!-- end of keys -->\n";

/// A key as the manifest documents it, and a bottle that uses it.
const KEYS: [(&str, &str); 31] = [
    ("backend", "backend: BACKEND"),
    ("agent_provider.template", "agent_provider: {template: claude}"),
    ("agent_provider.auth_token", "agent_provider: {template: claude, auth_token: TOKEN}"),
    ("agent_provider.api_key", "agent_provider: {template: claude, api_key: TOKEN}"),
    ("agent_provider.base_url", "agent_provider: {template: claude, base_url: \"https://llm.example.org\"}"),
    (
        "agent_provider.extra_routes",
        "agent_provider: {template: claude, auth_token: TOKEN, extra_routes: [api.example.org/v1]}",
    ),
    ("agent_provider.settings", "agent_provider: {template: claude, settings: {a: b}}"),
    ("agent_provider.image", "agent_provider: {image: \"IMAGE\"}"),
    ("env", "env: {A: b}"),
    ("git.user", "git: {user: {name: Ada, email: ada@example.org}}"),
    ("git.remotes", "git: {remotes: {app: {url: \"https://github.com/me/app.git\", token_ref: TOKEN}}}"),
    ("egress.routes", "egress: {routes: [{host: api.example.org}]}"),
    ("egress.routes.ports", "egress: {routes: [{host: api.example.org, ports: [8443]}]}"),
    (
        "egress.routes.matches",
        "egress: {routes: [{host: api.example.org, matches: [{paths: [{type: prefix, value: /a/}]}]}]}",
    ),
    (
        "egress.routes.auth",
        "egress: {routes: [{host: api.example.org, auth: {scheme: Bearer, token_ref: TOKEN}}]}",
    ),
    ("egress.routes.git", "egress: {routes: [{host: api.example.org, git: {fetch: true}}]}"),
    ("egress.routes.tls: splice", "egress: {routes: [{host: api.example.org, tls: splice}]}"),
    ("egress.presets", "egress: {presets: [npm]}"),
    ("egress.log", "egress: {log: 2}"),
    ("workspace.mode: live", "workspace: {mode: live}"),
    ("workspace.exclude", "workspace: {exclude: [data]}"),
    ("workspace.path: same", "workspace: {path: same}"),
    ("mounts", "mounts: [~/.rustup]"),
    ("caches", "caches: [~/.npm]"),
    ("ports", "ports: [3000]"),
    ("supervise: true", "supervise: true"),
    ("limits.memory", "limits: {memory: 1GiB}"),
    ("limits.cpus", "limits: {cpus: 1.5}"),
    ("limits.pids", "limits: {pids: 100}"),
    ("limits.disk", "limits: {disk: 1GiB}"),
    ("limits.time", "limits: {time: 1h}"),
];

/// Compares the table in the page of a backend with what is done with each key, or writes it where `UPDATE_DOCS` is set.
/// `try_bottle` tries to start the bottle of this text as far as it goes without one. The page says where the table
/// begins by naming the test that writes it.
///
/// # Errors
/// When they differ, or a bottle that is refused says no reason.
pub fn check_table_of_keys(
    page: &Path,
    test: &str,
    (backend, image): (&str, &str),
    mut try_bottle: impl FnMut(&str) -> anyhow::Result<Output>,
) -> anyhow::Result<()> {
    let mut table = String::from("\n| key | on this backend |\n|---|---|\n");
    for (key, text) in KEYS {
        let text = text.replace("BACKEND", backend).replace("IMAGE", image);
        let output = try_bottle(&format!("---\n{text}\n---\n"))?;
        let verdict = if output.status.success() {
            "enforced".to_owned()
        } else {
            format!("refused: {}", reason(&String::from_utf8_lossy(&output.stderr))?)
        };
        table.push_str(&format!("| `{key}` | {} |\n", verdict.replace('|', "\\|")));
    }
    table.push('\n');
    let begin =
        format!("<!-- keys: written by `UPDATE_DOCS=1 cargo test --workspace --test {test} -- keys` -->\n");
    let text = fs::read_to_string(page)?;
    let (before, rest) = text.split_once(&begin).context("the page has a place for the table")?;
    let (found, after) = rest.split_once(END).context("the table has an end")?;
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(page, format!("{before}{begin}{table}{END}{after}"))?;
    } else {
        ensure!(found == table, "the table is stale; UPDATE_DOCS=1 writes it:\n{table}");
    }
    Ok(())
}

/// Why a bottle is refused, without the place in the test's own file.
fn reason(said: &str) -> anyhow::Result<&str> {
    let line = said.lines().find(|line| line.starts_with("error")).with_context(|| said.to_owned())?;
    let reason = line.trim_start_matches("error: ");
    let after_place =
        reason.rsplit_once(".md:").map(|(_, rest)| rest.split_once(' ').map_or(rest, |(_, rest)| rest));
    Ok(after_place.unwrap_or(reason))
}
