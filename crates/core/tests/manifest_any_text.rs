//! No text, however broken, makes the manifest's parser panic.

use bot_bottle_core::manifest::{Manifest, SourceFile, Sources};
use proptest::prelude::*;

fn file(path: &str, text: &str) -> SourceFile {
    SourceFile { path: path.into(), text: Ok(text.to_owned()) }
}

/// Parses the text as every kind of file, as it is and as frontmatter, and calls every query on the result.
fn parse_everywhere(text: &str) {
    let frontmatter = format!("---\n{text}\n---\n");
    let manifest = Manifest::parse(&Sources {
        home: "/home/ada".into(),
        bottles: vec![file("/b/x.md", text), file("/home/ada/.bot-bottle/bottles/y.md", &frontmatter)],
        home_agents: vec![file("/a/x.md", text), file("/home/ada/.bot-bottle/agents/y.md", &frontmatter)],
        cwd_agents: vec![file("/c/x.md", text)],
        settings: Some(file("/s/settings.yml", text)),
        ignored: Vec::new(),
    });
    for summary in manifest.agents() {
        let _ = summary.error.map(|error| (error.to_string(), serde_json::to_string(&error)));
    }
    for summary in manifest.bottles() {
        let _ = summary.error.map(|error| (error.to_string(), serde_json::to_string(&error)));
    }
    let _ = manifest.settings().map_err(|error| error.to_string());
}

/// Concatenations of keys, values and YAML syntax that occur in manifests.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "---",
        "\n",
        "\n  ",
        "\n    ",
        ": ",
        "- ",
        "? ",
        "{",
        "}",
        "[",
        "]",
        ", ",
        "\"",
        "'",
        "|",
        ">",
        "#",
        "&a",
        "*a",
        "!t ",
        "\u{feff}",
        "\r\n",
        "\r",
        "\t",
        "\0",
        "é",
        "\u{202e}",
        "${A}",
        "~",
        "null",
        "extends",
        "env",
        "git",
        "remotes",
        "app",
        "url",
        "ssh://git@h/p",
        "https://h:1/p",
        "git@h:p",
        "host_key",
        "ssh-ed25519 AAAA",
        "key",
        "egress",
        "routes",
        "host",
        "a.test",
        "*.a.test",
        "ports",
        "443",
        "auth",
        "scheme",
        "token_ref",
        "matches",
        "paths",
        "type",
        "regex",
        "value",
        "(",
        "tls",
        "splice",
        "dlp",
        "limits",
        "memory",
        "4GiB",
        "cpus",
        "1.5",
        "resolve",
        "[::1]:80",
        "budgets",
        "claude",
        "bottle",
        "skills",
        "role",
        "agent_provider",
        "settings",
        "upstream_proxy",
        "http://p:1",
        "http://u@[::1]:1",
        "url",
        "username",
        "password_ref",
        "no_proxy",
        ".p",
        "private",
    ]);
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        parse_everywhere(&text);
    }

    #[test]
    fn no_pieces_of_a_manifest_make_it_panic(text in pieces()) {
        parse_everywhere(&text);
    }

    /// A valid file with one range of bytes replaced.
    #[test]
    fn no_damage_to_a_good_file_makes_it_panic(at in any::<prop::sample::Index>(), length in 0..40_usize, piece in pieces()) {
        let whole = include_str!("manifest/good/whole.md");
        let boundaries: Vec<usize> = whole.char_indices().map(|(at, _)| at).collect();
        let start = boundaries[at.index(boundaries.len())];
        let end = boundaries.iter().copied().find(|end| *end >= start + length).unwrap_or(whole.len());
        parse_everywhere(&format!("{}{piece}{}", &whole[..start], &whole[end..]));
    }
}
