//! A table of good and bad files, each with what becomes of it as a snapshot beside the tests.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bot_bottle_core::manifest::{Manifest, ManifestError, SourceFile, Sources};

/// A file named `agent-….md` is an agent's, another `.md` a bottle's, a `.yml` the settings.
fn outcome(path: &Path) -> Result<serde_json::Value, ManifestError> {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("a name");
    let text = fs::read_to_string(path).expect("a readable case");
    let file = |folder: &str, extension: &str| SourceFile {
        path: PathBuf::from(format!("/home/ada/.bot-bottle/{folder}{stem}.{extension}")),
        text: Ok(text.clone()),
    };
    let mut sources = Sources { home: "/home/ada".into(), ..Sources::default() };
    let name = [stem.to_owned()];
    if path.extension().is_some_and(|extension| extension == "yml") {
        sources.settings = Some(file("", "yml"));
        let manifest = Manifest::parse(&sources);
        return manifest.settings().map(|settings| serde_json::to_value(settings).expect("serialisable"));
    }
    if stem.starts_with("agent-") {
        sources.home_agents.push(file("agents/", "md"));
        let manifest = Manifest::parse(&sources);
        return manifest.agent(stem).map(|agent| serde_json::to_value(agent).expect("serialisable"));
    }
    sources.bottles.push(file("bottles/", "md"));
    let manifest = Manifest::parse(&sources);
    assert_eq!(manifest.warnings(), [] as [&str; 0], "{stem}");
    manifest.fold_bottles(&name).map(|bottle| serde_json::to_value(bottle).expect("serialisable"))
}

fn cases(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifest").join(folder);
    let entries = fs::read_dir(folder).expect("the folder of cases");
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    cases.retain(|path| path.extension().is_some_and(|extension| extension == "md" || extension == "yml"));
    cases.sort();
    cases
}

fn snapshot(folder: &str, name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(format!("manifest/{folder}/snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

#[test]
fn good_files_become_what_they_say() {
    let cases = cases("good");
    for path in &cases {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("a name");
        let value = outcome(path).unwrap_or_else(|error| panic!("{stem}:\n{error}"));
        snapshot("good", stem, &serde_json::to_string_pretty(&value).expect("serialisable"));
    }
    assert!(cases.len() >= 10, "{} good cases", cases.len());
}

#[test]
fn bad_files_say_what_is_wrong_where_and_what_to_write() {
    let cases = cases("bad");
    for path in &cases {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("a name");
        let error = outcome(path).err().unwrap_or_else(|| panic!("{stem} is accepted"));
        let text = error.to_string();
        assert!(
            error.diagnostics.iter().all(|diagnostic| diagnostic.position.is_some()),
            "{stem}: a problem without a position:\n{text}"
        );
        for diagnostic in &error.diagnostics {
            let says_what_is_right = ["has to be", "has no value", "such as", "is empty", "more than zero"];
            assert!(
                diagnostic.hint.is_some()
                    || !diagnostic.accepted.is_empty()
                    || says_what_is_right.iter().any(|words| diagnostic.message.contains(words)),
                "{stem}: a problem without advice:\n{diagnostic}"
            );
        }
        snapshot("bad", stem, &text);
    }
    assert!(cases.len() >= 60, "{} bad cases", cases.len());
}
