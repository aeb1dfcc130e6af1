//! Objects that must not come in, each beside one that may.

use anyhow::{Result, bail};
use bot_bottle_quarantine::import::{Import, ImportBounds, ImportError};

use super::fixture::{Scene, git, git_with_input};

/// Why the agent's work is refused, or nothing if it is imported.
fn verdict(scene: &Scene, bounds: ImportBounds) -> Result<Option<String>> {
    match scene.import(&Import { bounds, ..scene.request()? })? {
        Ok(_) => Ok(None),
        Err(error @ (ImportError::Refused(_) | ImportError::TooLarge { .. })) => Ok(Some(error.to_string())),
        Err(error) => bail!("another error than expected: {error}"),
    }
}

#[test]
fn names_that_become_a_repository_or_lead_out_are_refused() -> Result<()> {
    let hostile: [&[u8]; 17] = [
        b".git",
        b".GIT",
        b".Git",
        b"git~1",
        b"GIT~1",
        b".git ",
        b".git.",
        b".git . .",
        b".git::$INDEX_ALLOCATION",
        b".git:x",
        ".g\u{200c}it".as_bytes(),
        "\u{feff}.git".as_bytes(),
        b"a\\.git\\hooks",
        b".",
        b"..",
        b"../x",
        b"a/b",
    ];
    let harmless: [&[u8]; 6] = [b"git", b".github", b".git-keep", b"git~2", "g\u{200c}it".as_bytes(), b"..."];
    for (names, refused) in [(hostile.as_slice(), true), (&harmless, false)] {
        let scene = Scene::new()?;
        let blob = scene.object("blob", b"x")?;
        let inner = scene.tree(&[("100644", b"x", &blob)])?;
        for name in names {
            let as_file = scene.tree(&[("100644", name, &blob)])?;
            let as_folder = scene.tree(&[("40000", name, &inner)])?;
            let deep = scene.tree(&[("40000", b"d", &as_folder)])?;
            for tree in [as_file, deep] {
                scene.commit_tree(&tree)?;
                let verdict = verdict(&scene, ImportBounds::default())?;
                let name = String::from_utf8_lossy(name);
                assert_eq!(verdict.is_some(), refused, "{name:?}: {verdict:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_hostile_tree_is_refused_wherever_in_the_history_it_is() -> Result<()> {
    for name in [b".git".as_slice(), b"git"] {
        let scene = Scene::new()?;
        let blob = scene.object("blob", b"x")?;
        let tree = scene.tree(&[("100644", name, &blob)])?;
        let commit = scene.commit_tree(&tree)?;
        let clean = git(&scene.agent(), &["rev-parse", &format!("{}^{{tree}}", scene.base)])?;
        let tip = git(&scene.agent(), &["commit-tree", "-p", &commit, "-m", "removed again", &clean])?;
        git(&scene.agent(), &["update-ref", "refs/heads/main", &tip])?;
        assert_eq!(verdict(&scene, ImportBounds::default())?.is_some(), name == b".git");
    }
    Ok(())
}

#[test]
fn submodules_and_attributes_that_run_programs_are_refused() -> Result<()> {
    // CVE-2018-17456, CVE-2018-11235, CVE-2019-19604.
    let modules = |name: &str, path: &str, url: &str, more: &str| {
        format!("[submodule \"{name}\"]\n\tpath = {path}\n\turl = {url}\n{more}")
    };
    let url = "https://example.invalid/a";
    let attributes = |line: usize| format!("* {}\n", "a".repeat(line));
    let cases: [(&str, &str, String, bool); 10] = [
        ("100644", ".gitmodules", modules("a", "a", url, ""), false),
        ("100644", ".gitmodules", modules("a", "a", "-u./payload", ""), true),
        ("100644", ".gitmodules", modules("a", "-x", url, ""), true),
        ("100644", ".gitmodules", modules("../../x", "a", url, ""), true),
        ("100644", ".gitmodules", modules("a", "a", url, "\tupdate = !touch /tmp/x\n"), true),
        ("120000", ".gitmodules", "other".into(), true),
        ("120000", ".gitattributes", "other".into(), true),
        ("100644", ".gitattributes", attributes(100), false),
        ("100644", ".gitattributes", attributes(4000), true),
        ("120000", "link", "other".into(), false),
    ];
    for (mode, name, content, refused) in cases {
        let scene = Scene::new()?;
        let blob = scene.object("blob", content.as_bytes())?;
        let tree = scene.tree(&[(mode, name.as_bytes(), &blob)])?;
        scene.commit_tree(&tree)?;
        let verdict = verdict(&scene, ImportBounds::default())?;
        assert_eq!(verdict.is_some(), refused, "{mode} {name} {content:?}: {verdict:?}");
    }
    Ok(())
}

#[test]
fn links_into_a_repository_are_refused() -> Result<()> {
    for (target, refused) in [
        (".git/hooks/post-checkout", true),
        ("../.GIT/config", true),
        ("d/git~1/config", true),
        (".git", true),
        (".git/annex/objects/../../config", true),
        (".git/annex/config", true),
        (".git/annex/objects/aa/bb", false),
        ("git/hooks/post-checkout", false),
    ] {
        let scene = Scene::new()?;
        let blob = scene.object("blob", target.as_bytes())?;
        let tree = scene.tree(&[("120000", b"link", &blob)])?;
        scene.commit_tree(&tree)?;
        let verdict = verdict(&scene, ImportBounds::default())?;
        assert_eq!(verdict.is_some(), refused, "{target}: {verdict:?}");
        // The same content as an ordinary file does nothing.
        let tree = scene.tree(&[("100644", b"link", &blob)])?;
        scene.commit_tree(&tree)?;
        assert_eq!(self::verdict(&scene, ImportBounds::default())?, None, "{target}");
    }
    Ok(())
}

#[test]
fn what_explodes_when_it_is_checked_out_is_refused() -> Result<()> {
    // Each tree names the one below ten times.
    let levels = |levels: usize, size: usize| {
        let scene = Scene::new()?;
        let blob = scene.object("blob", &vec![b'x'; size])?;
        let mut tree = scene.tree(&[("100644", b"x", &blob)])?;
        for _ in 0..levels {
            let names: Vec<_> = (0..10).map(|number| number.to_string()).collect();
            let entries: Vec<_> =
                names.iter().map(|name| ("40000", name.as_bytes(), tree.as_str())).collect();
            tree = scene.tree(&entries)?;
        }
        scene.commit_tree(&tree)?;
        anyhow::Ok(scene)
    };
    let bomb = verdict(&levels(10, 1)?, ImportBounds::default())?.unwrap_or_default();
    assert!(bomb.contains("files when it is checked out"), "{bomb}");
    assert_eq!(verdict(&levels(3, 1)?, ImportBounds::default())?, None);
    // A thousand files of ten kilobytes.
    let bounds = |checkout_bytes| ImportBounds { checkout_bytes, ..ImportBounds::default() };
    let bomb = verdict(&levels(3, 10_000)?, bounds(9_999_999))?.unwrap_or_default();
    assert!(bomb.contains("bytes when it is checked out"), "{bomb}");
    assert_eq!(verdict(&levels(3, 10_000)?, bounds(10_000_000))?, None);
    let bounds = |checkout_depth| ImportBounds { checkout_depth, ..ImportBounds::default() };
    let deep = verdict(&levels(5, 1)?, bounds(5))?.unwrap_or_default();
    assert!(deep.contains("folders inside each other"), "{deep}");
    assert_eq!(verdict(&levels(5, 1)?, bounds(6))?, None);
    Ok(())
}

#[test]
fn the_operators_own_trees_count_in_a_checkout() -> Result<()> {
    let scene = Scene::new()?;
    let own = git(&scene.agent(), &["rev-parse", &format!("{}^{{tree}}", scene.base)])?;
    let tree = scene.tree(&[("40000", b"a", &own), ("40000", b"b", &own)])?;
    scene.commit_tree(&tree)?;
    let bounds = |checkout_entries| ImportBounds { checkout_entries, ..ImportBounds::default() };
    assert!(verdict(&scene, bounds(3))?.is_some());
    assert_eq!(verdict(&scene, bounds(4))?, None);
    Ok(())
}

#[test]
fn every_size_has_a_bound() -> Result<()> {
    let scene = Scene::new()?;
    let content = vec![0; 1 << 20];
    let blob = git_with_input(&scene.agent(), &["hash-object", "-w", "--stdin"], &content)?;
    let tree = scene.tree(&[("100644", b"x", &blob)])?;
    scene.commit_tree(&tree)?;
    git(&scene.agent(), &["branch", "second"])?;
    let length = scene.bundle()?.len() as u64;
    let default = ImportBounds::default;
    for (tight, loose, what) in [
        (
            ImportBounds { bundle_bytes: length - 1, ..default() },
            ImportBounds { bundle_bytes: length, ..default() },
            "too many bytes: ",
        ),
        (
            ImportBounds { inflated_bytes: 1 << 20, ..default() },
            ImportBounds { inflated_bytes: (1 << 20) + 1000, ..default() },
            "bytes when it is inflated",
        ),
        (ImportBounds { objects: 2, ..default() }, ImportBounds { objects: 3, ..default() }, "objects"),
        (ImportBounds { refs: 1, ..default() }, ImportBounds { refs: 2, ..default() }, "branches and tags"),
    ] {
        let refused = verdict(&scene, tight)?.unwrap_or_default();
        assert!(refused.contains(what), "{what}: {refused}");
        assert_eq!(verdict(&scene, loose)?, None, "{what}");
        for name in scene.refs()?.lines().filter(|line| line.starts_with("refs/bottle/")) {
            git(&scene.operator(), &["update-ref", "-d", name.split(' ').next().unwrap_or_default()])?;
        }
    }
    Ok(())
}

#[test]
fn a_small_bundle_cannot_take_all_memory() -> Result<()> {
    let scene = Scene::new()?;
    let blob = scene.object("blob", &vec![0; 200 << 20])?;
    let tree = scene.tree(&[("100644", b"x", &blob)])?;
    scene.commit_tree(&tree)?;
    assert!(scene.bundle()?.len() < 1 << 20);
    let bounds = |memory| ImportBounds { memory, ..ImportBounds::default() };
    let refused = verdict(&scene, bounds(128 << 20))?.unwrap_or_default();
    assert!(refused.contains("bytes of memory"), "{refused}");
    assert_eq!(verdict(&scene, bounds(1 << 30))?, None);
    Ok(())
}
