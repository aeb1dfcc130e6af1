//! Bundles, repositories and branches that do not fit: each error is clear and has advice.

use std::{fs, io::Write, process::Command};

use anyhow::{Context, Result, ensure};
use bot_bottle_core::error::Hint;
use bot_bottle_quarantine::import::{self, Import, ImportError};

use super::fixture::{Scene, command, git, git_with_input};

fn refused(scene: &Scene, bundle: &[u8], request: &Import) -> Result<ImportError> {
    scene.import_bundle(bundle, request)?.err().context("it was imported")
}

/// The bundle with another header; its pack stays.
fn edited(bundle: &[u8], edit: impl Fn(&str) -> String) -> Result<Vec<u8>> {
    let end = bundle.windows(2).position(|pair| pair == b"\n\n").context("a header")?;
    let header = edit(std::str::from_utf8(&bundle[..=end])?);
    Ok([header.as_bytes(), &bundle[end + 1..]].concat())
}

#[test]
fn what_is_no_whole_bundle_is_refused() -> Result<()> {
    let scene = Scene::new()?;
    scene.commit("a", "1")?;
    let bundle = scene.bundle()?;
    let header = bundle.windows(2).position(|pair| pair == b"\n\n").context("a header")?;
    for length in [0, 5, 30, header, header + 1, header + 2, header + 10] {
        let error = refused(&scene, &bundle[..length], &scene.request()?)?;
        ensure!(matches!(error, ImportError::NotABundle(_)), "{length}: {error}");
    }
    for length in [header + 14, bundle.len() - 25, bundle.len() - 1] {
        let error = refused(&scene, &bundle[..length], &scene.request()?)?;
        ensure!(matches!(error, ImportError::Refused(_)), "{length}: {error}");
    }
    let mut flipped = bundle.clone();
    flipped[header + 40] ^= 1;
    let error = refused(&scene, &flipped, &scene.request()?)?;
    ensure!(matches!(error, ImportError::Refused(_)), "{error}");
    for capability in ["filter=blob:none", "anything"] {
        let asks = edited(&bundle, |header| {
            header.replacen("# v2 git bundle\n", &format!("# v3 git bundle\n@{capability}\n"), 1)
        })?;
        let error = refused(&scene, &asks, &scene.request()?)?;
        ensure!(error.to_string().contains("capability"), "{error}");
    }
    let again = edited(&bundle, |header| {
        header.replacen("# v2 git bundle\n", "# v3 git bundle\n@object-format=sha1\n", 1)
    })?;
    scene.import_bundle(&again, &scene.request()?)?.map_err(anyhow::Error::from)?;
    Ok(())
}

#[test]
fn refs_with_other_names_are_refused() -> Result<()> {
    let scene = Scene::new()?;
    let commit = scene.commit("a", "1")?;
    let bundle = scene.bundle()?;
    for name in [
        "HEAD",
        "refs/heads/..",
        "refs/heads/a..b",
        "refs/heads/a b",
        "refs/heads/../../config",
        "refs/heads/x.lock",
        "refs/heads/\u{1b}[31m",
        "refs/remotes/origin/main",
        "refs/replace/x",
        "refs/uncommitted/x",
        "refs/x",
        "refs/heads/main\0",
        "../config",
        "/etc/x",
        "refs/heads/",
        "refs/stash",
    ] {
        let bundle = edited(&bundle, |header| header.replace("refs/heads/main", name))?;
        let error = refused(&scene, &bundle, &scene.request()?)?;
        ensure!(matches!(error, ImportError::Ref { .. }), "{name:?}: {error}");
        ensure!(!error.to_string().contains('\u{1b}'), "{name:?}");
    }
    for more in ["refs/heads/main", "refs/heads/main/x"] {
        let bundle = edited(&bundle, |header| format!("{header}{commit} {more}\n"))?;
        let error = refused(&scene, &bundle, &scene.request()?)?;
        ensure!(matches!(error, ImportError::Ref { .. }), "{more:?}: {error}");
    }
    let good = edited(&bundle, |header| format!("{header}{commit} refs/heads/other\n"))?;
    assert_eq!(scene.import_bundle(&good, &scene.request()?)?.map_err(anyhow::Error::from)?.refs.len(), 2);
    Ok(())
}

#[test]
fn a_ref_points_to_what_is_there_and_is_whole() -> Result<()> {
    let scene = Scene::new()?;
    let commit = scene.commit("a", "1")?;
    let bundle = scene.bundle()?;
    let missing = "0123456789abcdef0123456789abcdef01234567";
    let tree = git(&scene.agent(), &["rev-parse", "HEAD^{tree}"])?;
    for id in [missing, &tree] {
        let error =
            refused(&scene, &edited(&bundle, |header| header.replace(&commit, id))?, &scene.request()?)?;
        ensure!(matches!(error, ImportError::Ref { .. }), "{id}: {error}");
    }
    // A pack without the file, or without the tree.
    let blob = git(&scene.agent(), &["rev-parse", "HEAD:a"])?;
    let end = bundle.windows(2).position(|pair| pair == b"\n\n").context("a header")?;
    for (left_out, whole) in [("", true), (blob.as_str(), false), (tree.as_str(), false)] {
        let ids: Vec<_> = [&commit, &tree, &blob].into_iter().filter(|id| *id != left_out).cloned().collect();
        let mut pack = command(&scene.agent(), &["pack-objects", "--quiet", "--stdout"]);
        let file = scene.path().join("ids");
        fs::write(&file, ids.join("\n") + "\n")?;
        let pack = pack.stdin(fs::File::open(&file)?).output()?.stdout;
        let bundle = [&bundle[..end + 2], &pack].concat();
        if whole {
            scene.import_bundle(&bundle, &scene.request()?)?.map_err(anyhow::Error::from)?;
            git(&scene.operator(), &["update-ref", "-d", "refs/bottle/worker-abcde/heads/main"])?;
            git(&scene.operator(), &["gc", "--quiet", "--prune=now"])?;
        } else {
            let error = refused(&scene, &bundle, &scene.request()?)?;
            ensure!(matches!(error, ImportError::Refused(_)), "{left_out}: {error}");
        }
    }
    Ok(())
}

#[test]
fn a_repository_that_does_not_fit_is_named() -> Result<()> {
    let scene = Scene::new()?;
    // The operator's repository has a second commit that the agent builds on.
    fs::write(scene.operator().join("file"), "two\n")?;
    git(&scene.operator(), &["commit", "--quiet", "-am", "second"])?;
    let url = format!("file://{}", scene.operator().display());
    git(scene.path(), &["clone", "--quiet", "--depth=1", &url, "shallow"])?;
    git(scene.path(), &["init", "--quiet", "other"])?;
    git(scene.path(), &["init", "--quiet", "--object-format=sha256", "sha256"])?;
    fs::create_dir(scene.path().join("none"))?;
    scene.commit("a", "1")?;
    let bundle = scene.bundle()?;
    let mut seen = Vec::new();
    for folder in ["shallow", "other", "sha256", "none", "not-there"] {
        let request = Import { repository: scene.path().join(folder), ..scene.request()? };
        let error = refused(&scene, &bundle, &request)?;
        let hint = error.hint().context("a hint")?.into_owned();
        seen.push((folder, error, hint));
    }
    let [shallow, other, sha256, none, not_there] = seen.as_slice() else { unreachable!("five") };
    assert!(
        matches!(shallow.1, ImportError::MissingCommits { count: 1, shallow: true, .. }),
        "{}",
        shallow.1
    );
    assert!(shallow.2.contains("--unshallow"), "{}", shallow.2);
    assert!(matches!(other.1, ImportError::MissingCommits { count: 1, shallow: false, .. }), "{}", other.1);
    assert!(matches!(sha256.1, ImportError::ObjectFormat { .. }), "{}", sha256.1);
    for (_, error, _) in [none, not_there] {
        assert!(matches!(error, ImportError::NotARepository { .. }), "{error}");
    }
    scene.import_bundle(&bundle, &scene.request()?)?.map_err(anyhow::Error::from)?;
    Ok(())
}

#[test]
fn the_repository_of_another_user_is_named() -> Result<()> {
    let scene = Scene::new()?;
    scene.commit("a", "1")?;
    let bundle = scene.bundle()?;
    scene.import_bundle(&bundle, &scene.request()?)?.map_err(anyhow::Error::from)?;
    for at in super::fixture::files(&scene.operator())?.into_keys().chain([".git".into(), "".into()]) {
        if let Err(error) = std::os::unix::fs::chown(scene.operator().join(at), Some(12345), None) {
            writeln!(
                std::io::stderr(),
                "SKIPPED the repository of another user: only root can make one ({error})"
            )?;
            return Ok(());
        }
    }
    let opens =
        Command::new("git").arg("-C").arg(scene.operator()).args(["rev-parse", "--git-dir"]).output()?;
    if opens.status.success() {
        writeln!(
            std::io::stderr(),
            "SKIPPED the repository of another user: `safe.directory` allows them all here"
        )?;
        return Ok(());
    }
    let error = import::import(&mut &*bundle, &scene.request()?).expect_err("another user's");
    ensure!(matches!(error, ImportError::NotARepository { other_owner: true, .. }), "{error}");
    ensure!(error.hint().is_some_and(|hint| hint.contains("user")), "{error}");
    Ok(())
}

#[test]
fn a_branch_that_cannot_be_made_is_an_error_before_anything_is_written() -> Result<()> {
    let scene = Scene::new()?;
    scene.commit("a", "1")?;
    let bundle = scene.bundle()?;
    let before = super::fixture::files(&scene.operator())?;
    for (branch, head, message) in [
        ("main", Some("main"), "exists already"),
        ("a..b", Some("main"), "cannot be the name of a branch"),
        ("-x", Some("main"), "cannot be the name of a branch"),
        ("HEAD", Some("main"), "cannot be the name of a branch"),
        ("", Some("main"), "cannot be the name of a branch"),
        ("new", Some("other"), "no new commits on its branch `other`"),
        ("new", None, "no branch can be made"),
    ] {
        let branch = Some(branch.to_owned());
        let request = Import { branch, head: head.map(str::to_owned), ..scene.request()? };
        let error = refused(&scene, &bundle, &request)?;
        ensure!(error.to_string().contains(message), "{error}");
        ensure!(error.hint().is_some(), "{error}");
    }
    assert!(before == super::fixture::files(&scene.operator())?);
    // Git finds this one when it writes: nothing of the transaction holds then.
    let request = Import { branch: Some("main/x".into()), ..scene.request()? };
    let error = refused(&scene, &bundle, &request)?;
    ensure!(matches!(error, ImportError::Git { command: "update-ref", .. }), "{error}");
    ensure!(!git(&scene.operator(), &["count-objects", "-v"])?.contains("garbage: 1"));
    let request = Import { branch: Some("new".into()), ..scene.request()? };
    scene.import_bundle(&bundle, &request)?.map_err(anyhow::Error::from)?;
    // An agent's commit is not moved to either.
    git_with_input(&scene.operator(), &["update-ref", "--stdin"], b"")?;
    let error = refused_again(&scene, &bundle, &request)?;
    ensure!(matches!(error, ImportError::BranchExists(_)), "{error}");
    Ok(())
}

fn refused_again(scene: &Scene, bundle: &[u8], request: &Import) -> Result<ImportError> {
    git(&scene.operator(), &["update-ref", "-d", "refs/bottle/worker-abcde/heads/main"])?;
    refused(scene, bundle, request)
}
