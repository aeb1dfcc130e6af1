//! Each key of a bottle is enforced or refused: the table of `docs/backends/docker.md` is what this test finds.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};

use crate::fixture::Home;

/// Where the table is in the page.
const BEGIN: &str =
    "<!-- keys: written by `UPDATE_DOCS=1 cargo test --workspace --test docker -- keys` -->\n";
const END: &str = "<!-- end of keys -->\n";

/// A key as the manifest documents it, and a bottle that uses it.
const KEYS: [(&str, &str); 28] = [
    ("backend", "backend: docker"),
    ("agent_provider.template", "agent_provider: {template: claude}"),
    ("agent_provider.auth_token", "agent_provider: {template: claude, auth_token: TOKEN}"),
    ("agent_provider.settings", "agent_provider: {template: claude, settings: {a: b}}"),
    ("agent_provider.image", "agent_provider: {image: \"bot-bottle-test:busybox\"}"),
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

#[test]
fn the_table_of_keys_is_what_is_done_with_them() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    let mut table = String::from("\n| key | on this backend |\n|---|---|\n");
    for (key, text) in KEYS {
        home.write("bottles/one.md", format!("---\n{text}\n---\n"))?;
        let options = ["run", "--bottle", "one", "--backend", "docker", "--image", &home.host.image];
        let mut command = home.command(&[&options[..], &["--dry-run", "--", "true"]].concat());
        let output = command.env("TOKEN", "x").output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let verdict = if output.status.success() {
            "enforced".to_owned()
        } else {
            let line = said.lines().find(|line| line.starts_with("error")).context("an error")?;
            let reason = line.trim_start_matches("error: ");
            // A place in the test's own file is no part of the reason.
            let reason = reason
                .rsplit_once(".md:")
                .map_or(reason, |(_, rest)| rest.split_once(' ').map_or(rest, |(_, rest)| rest));
            format!("refused: {reason}")
        };
        table.push_str(&format!("| `{key}` | {} |\n", verdict.replace('|', "\\|")));
    }
    table.push('\n');
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/backends/docker.md");
    let page = fs::read_to_string(&path)?;
    let (before, rest) = page.split_once(BEGIN).context("the page has a place for the table")?;
    let (found, after) = rest.split_once(END).context("the table has an end")?;
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}"))?;
    } else {
        ensure!(found == table, "the table is stale; UPDATE_DOCS=1 writes it:\n{table}");
    }
    Ok(())
}
