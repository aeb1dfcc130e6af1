//! What an honest agent leaves comes in, and nothing else changes.

use std::{fs, os::unix::fs::symlink, process::Command};

use anyhow::{Result, ensure};
use bot_bottle_quarantine::import::Import;

use super::fixture::{Scene, files, git, git_with_input};

#[test]
fn refs_come_below_the_name_of_the_run() -> Result<()> {
    let scene = Scene::new()?;
    let agent = scene.agent();
    let first = scene.commit("a", "1")?;
    git(&agent, &["tag", "light"])?;
    git(&agent, &["tag", "-a", "-m", "annotated", "v1"])?;
    git(&agent, &["switch", "--quiet", "-c", "fix/ümläut"])?;
    let second = scene.commit("b", "2")?;
    let uncommitted = git(&agent, &["commit-tree", "-p", &second, "-m", "uncommitted", "HEAD^{tree}"])?;
    git(&agent, &["update-ref", "refs/uncommitted", &uncommitted])?;
    let before = files(&scene.operator())?;
    let refs = scene.refs()?;

    let imported = scene.import(&scene.request()?)?.map_err(anyhow::Error::from)?;
    let told: Vec<_> =
        imported.refs.iter().map(|r| (r.name.as_str(), r.id.to_string(), r.new_commits)).collect();
    let tag = git(&agent, &["rev-parse", "v1"])?;
    let below = |name: &str| format!("refs/bottle/worker-abcde/{name}");
    let mut expected = vec![
        (below("heads/fix/ümläut"), second.clone(), 2),
        (below("heads/main"), first.clone(), 1),
        (below("tags/light"), first, 1),
        (below("tags/v1"), tag, 1),
        (below("uncommitted"), uncommitted, 3),
    ];
    expected.sort();
    let mut told: Vec<_> = told.into_iter().map(|(name, id, new)| (name.to_owned(), id, new)).collect();
    told.sort();
    assert_eq!(told, expected);
    assert_eq!(imported.branch, None);

    // Besides those refs, only a pack is new, and no file is another.
    let after = files(&scene.operator())?;
    for (path, content) in &before {
        assert_eq!(after.get(path), Some(content), "{}", path.display());
    }
    for path in after.keys().filter(|path| !before.contains_key(*path)) {
        let path = path.to_string_lossy();
        ensure!(
            path.starts_with(".git/objects/pack/") || path.starts_with(".git/refs/bottle/worker-abcde/"),
            "{path}"
        );
        ensure!(!path.ends_with(".keep"), "{path}");
    }
    let (ours, others): (Vec<_>, Vec<_>) =
        scene.refs()?.lines().map(str::to_owned).partition(|line| line.starts_with("refs/bottle/"));
    assert_eq!(ours.len(), 5);
    assert_eq!(others.join("\n"), refs);
    git(&scene.operator(), &["fsck", "--strict"])?;
    assert_eq!(git(&scene.operator(), &["status", "--porcelain"])?, "");

    // Once more is the same, and nothing of it is new.
    let again = scene.import_bundle(&scene.bundle()?, &scene.request()?)?.map_err(anyhow::Error::from)?;
    assert_eq!(again.refs.iter().map(|r| r.new_commits).sum::<u64>(), 0);
    Ok(())
}

#[test]
fn a_branch_is_made_where_the_agent_was() -> Result<()> {
    let scene = Scene::new()?;
    let commit = scene.commit("a", "1")?;
    let request = |name: &str| anyhow::Ok(Import { branch: Some(name.into()), ..scene.request()? });
    let imported = scene.import(&request("feature/x")?)?.map_err(anyhow::Error::from)?;
    let branch = imported.branch.expect("a branch");
    assert_eq!((branch.name.as_str(), branch.id.to_string()), ("refs/heads/feature/x", commit.clone()));
    assert_eq!(git(&scene.operator(), &["rev-parse", "feature/x"])?, commit);
    // What the agent had not committed comes first.
    let uncommitted = git(&scene.agent(), &["commit-tree", "-p", &commit, "-m", "u", "HEAD^{tree}"])?;
    git(&scene.agent(), &["update-ref", "refs/uncommitted", &uncommitted])?;
    scene.import(&request("with-changes")?)?.map_err(anyhow::Error::from)?;
    assert_eq!(git(&scene.operator(), &["rev-parse", "with-changes"])?, uncommitted);
    assert_eq!(git(&scene.operator(), &["symbolic-ref", "HEAD"])?, "refs/heads/main");
    Ok(())
}

#[test]
fn ordinary_work_comes_through() -> Result<()> {
    let scene = Scene::new()?;
    let agent = scene.agent();
    // Submodules, LFS pointers, links as in node_modules, names with a newline and of other bytes.
    fs::write(
        agent.join(".gitmodules"),
        "[submodule \"lib\"]\n\tpath = lib\n\turl = https://example.invalid/lib.git\n",
    )?;
    git(&agent, &["update-index", "--add", "--cacheinfo", &format!("160000,{},lib", scene.base)])?;
    fs::write(agent.join(".gitattributes"), "*.bin filter=lfs diff=lfs merge=lfs -text\n")?;
    fs::write(agent.join("x.bin"), "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")?;
    fs::create_dir_all(agent.join("node_modules/.bin"))?;
    symlink("../x/bin.js", agent.join("node_modules/.bin/x"))?;
    // Where git-annex keeps the content of files.
    symlink(".git/annex/objects/aa/bb/SHA256E-s1--cc", agent.join("annexed"))?;
    symlink("/etc/hostname", agent.join("absolute"))?;
    symlink("shared-ignores", agent.join(".gitignore"))?;
    fs::write(agent.join("new\nline"), "x")?;
    use std::os::unix::ffi::OsStrExt;
    fs::write(agent.join(std::ffi::OsStr::from_bytes(b"latin\xe9")), "x")?;
    scene.commit(".github", "x")?;
    scene.import(&scene.request()?)?.map_err(anyhow::Error::from)?;
    Ok(())
}

#[test]
fn old_history_with_harmless_flaws_comes_through() -> Result<()> {
    let scene = Scene::new()?;
    let blob = scene.object("blob", b"x")?;
    let subtree = scene.tree(&[("100644", b"x", &blob)])?;
    // As GitHub once wrote it: git-fsck(1), zeroPaddedFilemode.
    let tree = scene.tree(&[("040000", b"x", &subtree)])?;
    let people = "author A <a@b.invalid> 1 +51800\ncommitter A <a@b.invalid> 1 +51800\n";
    let commit =
        scene.object("commit", format!("tree {tree}\nparent {}\n{people}\nm\n", scene.base).as_bytes())?;
    git(&scene.agent(), &["update-ref", "refs/heads/main", &commit])?;
    scene.import(&scene.request()?)?.map_err(anyhow::Error::from)?;
    Ok(())
}

#[test]
fn repositories_of_all_kinds_take_the_work() -> Result<()> {
    // Of the format sha256.
    let scene = Scene::with_format("sha256")?;
    scene.commit("a", "1")?;
    scene.import(&scene.request()?)?.map_err(anyhow::Error::from)?;

    // A subfolder, a second working tree, a bare one, a shallow and a partial one that have the commit.
    let scene = Scene::new()?;
    let commit = scene.commit("a", "1")?;
    fs::create_dir(scene.operator().join("sub:fol\"der"))?;
    git(&scene.operator(), &["worktree", "add", "--quiet", "--detach", "../second: \"tree\\"])?;
    git(scene.path(), &["clone", "--quiet", "--bare", "operator", "bare.git"])?;
    let url = format!("file://{}", scene.operator().display());
    git(scene.path(), &["clone", "--quiet", "--depth=1", &url, "shallow"])?;
    git(&scene.operator(), &["config", "uploadpack.allowFilter", "true"])?;
    git(scene.path(), &["clone", "--quiet", "--filter=blob:none", &url, "partial"])?;
    assert_eq!(git(&scene.path().join("partial"), &["config", "remote.origin.promisor"])?, "true");
    for folder in ["operator/sub:fol\"der", "second: \"tree\\", "bare.git", "shallow", "partial"] {
        let request = Import { repository: scene.path().join(folder), ..scene.request()? };
        let imported = scene.import(&request)?.map_err(|error| anyhow::anyhow!("{folder}: {error}"))?;
        assert_eq!(imported.refs.len(), 1, "{folder}");
        let written = git(&request.repository, &["rev-parse", "refs/bottle/worker-abcde/heads/main"])?;
        assert_eq!(written, commit, "{folder}");
    }
    Ok(())
}

#[test]
fn a_repository_without_a_commit_takes_a_whole_history() -> Result<()> {
    let scene = Scene::new()?;
    git(scene.path(), &["init", "--quiet", "empty"])?;
    scene.commit("a", "1")?;
    let output =
        Command::new("git").args(["bundle", "create", "-", "main"]).current_dir(scene.agent()).output()?;
    let request = Import { repository: scene.path().join("empty"), ..scene.request()? };
    let imported = scene.import_bundle(&output.stdout, &request)?.map_err(anyhow::Error::from)?;
    assert_eq!(imported.refs[0].new_commits, 2);
    Ok(())
}

#[test]
fn a_tag_may_point_to_a_file() -> Result<()> {
    let scene = Scene::new()?;
    scene.commit("a", "1")?;
    let blob = git_with_input(&scene.agent(), &["hash-object", "-w", "--stdin"], b"a public key")?;
    git(&scene.agent(), &["tag", "key", &blob])?;
    for round in 0..2 {
        let imported = scene.import(&scene.request()?)?.map_err(anyhow::Error::from)?;
        let tag = imported.refs.iter().find(|r| r.name.ends_with("/tags/key")).expect("the tag");
        assert_eq!((tag.id.to_string(), tag.new_commits), (blob.clone(), 0), "{round}");
    }
    Ok(())
}
