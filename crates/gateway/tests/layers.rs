//! Modules import only modules below them, so that each can be read with those below it alone.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// From the top to the bottom.
const LAYERS: [&str; 21] = [
    "log",
    "process",
    "listen",
    "client",
    "dns",
    "exchange",
    "state",
    "upstream",
    "questions",
    "renewals",
    "receipts",
    "credential",
    "certificates",
    "fake_ip",
    "bounded_stream",
    "in_flight",
    "kept_body",
    "host_port",
    "token_bucket",
    "clock",
    "limits",
];

/// The stages of the pipeline: none of them calls another. What they pass on lies in the other files of
/// `exchange/`.
const STAGES: [&str; 10] =
    ["read", "normalise", "strip", "decide", "scan", "hold", "record", "inject", "relay", "renew"];

#[test]
fn imports_go_downwards() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut seen = BTreeSet::new();
    for file in sources(&root) {
        let path = file.strip_prefix(&root).expect("below the root").with_extension("");
        let module = path.iter().next().expect("a name").to_str().expect("text").to_owned();
        if module == "lib" {
            continue;
        }
        let own = LAYERS.iter().position(|layer| *layer == module);
        let own = own.unwrap_or_else(|| panic!("{module} has no place in LAYERS"));
        seen.insert(own);
        for imported in imports(&fs::read_to_string(&file).expect("a source"), "crate") {
            let below = LAYERS.iter().position(|layer| *layer == imported);
            let below = below.unwrap_or_else(|| panic!("{imported} has no place in LAYERS"));
            assert!(own <= below, "{} imports {imported}, which lies above it", path.display());
        }
    }
    assert_eq!(seen.len(), LAYERS.len(), "every layer is a module");
}

#[test]
fn no_stage_calls_another() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/exchange");
    for stage in STAGES {
        let source = fs::read_to_string(folder.join(stage).with_extension("rs")).expect("a stage");
        for imported in imports(&source, "super") {
            let is_stage = STAGES.contains(&imported.as_str()) && imported != stage;
            // `Destination` and `Entry` are what `normalise` and `record` hand to the later stages.
            let is_value = source.contains(&format!("{imported}::Destination"))
                || source.contains(&format!("{imported}::Entry"));
            assert!(!is_stage || is_value, "{stage} imports {imported}");
        }
    }
}

/// The first names after `root::` in the `use` declarations and paths of a source.
fn imports(source: &str, root: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let code: String =
        source.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    for (at, _) in code.match_indices(&format!("{root}::")) {
        let rest = &code[at + root.len() + 2..];
        match rest.strip_prefix('{') {
            // `use root::{a, b::{c, d}}`: the names at the first level.
            Some(group) => {
                let mut depth = 0;
                let mut name = String::new();
                for character in group.chars() {
                    match character {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => found.extend(first_name(&std::mem::take(&mut name))),
                        _ if depth == 0 => name.push(character),
                        _ => {}
                    }
                }
                found.extend(first_name(&name));
            }
            None => found.extend(first_name(rest)),
        }
    }
    found
}

/// A module's name, which is in lower case; types of the parent module are not.
fn first_name(path: &str) -> Option<String> {
    let name: String = path
        .trim()
        .chars()
        .take_while(|character| character.is_ascii_alphanumeric() || *character == '_')
        .collect();
    name.starts_with(|first: char| first.is_ascii_lowercase()).then_some(name)
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}
