//! Credentials that git keeps beside the work do not get into the copy of a workspace.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::home::Home;

const SECRET: &str = "FAKE-CREDENTIAL-OF-THE-TEST";

/// Content or target, mode and time.
type Entry = (Vec<u8>, u32, i64, i64);

/// Everything below a folder.
fn snapshot(folder: &Path) -> Result<BTreeMap<PathBuf, Entry>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(&at)? {
            let path = entry?.path();
            let metadata = fs::symlink_metadata(&path)?;
            let content = if metadata.is_dir() {
                folders.push(path.clone());
                Vec::new()
            } else if metadata.is_symlink() {
                fs::read_link(&path)?.as_os_str().as_bytes().to_owned()
            } else {
                fs::read(&path)?
            };
            all.insert(path, (content, metadata.mode(), metadata.mtime(), metadata.mtime_nsec()));
        }
    }
    Ok(all)
}

fn holders(folder: &Path) -> Result<Vec<PathBuf>> {
    let has = |content: &[u8]| content.windows(SECRET.len()).any(|part| part == SECRET.as_bytes());
    Ok(snapshot(folder)?
        .into_iter()
        .filter(|(_, (content, ..))| has(content))
        .map(|(path, _)| path)
        .collect())
}

/// A project with the secret in every place, and a submodule, a worktree and a nested repository.
fn project(home: &Home) -> Result<()> {
    let script = r#"set -e
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.com
export GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.com
git init -q -b main ../library
git -C ../library commit -q --allow-empty -m library
git init -q -b main .
git -c protocol.file.allow=always submodule --quiet add ../library sub
echo work >work.txt
git add work.txt
git commit -q -m work
git gc -q
git remote add origin "https://me:$S@github.com/me/x.git"
git config remote.origin.pushurl "ssh://git:$S@github.com/me/x.git"
git config http.https://github.com/.extraheader "AUTHORIZATION: basic $S"
git config "url.https://$S@github.com/.insteadOf" gh:
git config credential.helper "store --file=.git/logins"
git config core.sshCommand "ssh -i $S"
git config github.token "$S"
git config include.path ../included.conf
printf '# was: https://me:%s@github.com/\n' "$S" >>.git/config
printf '[remote "origin"]\n\tproxy = http://me:%s@proxy:3128\n' "$S" >included.conf
echo "https://me:$S@github.com" >.git/logins
git config submodule.sub.url "https://$S@github.com/me/library.git"
git -C sub remote set-url origin "https://$S@github.com/me/library.git"
git config extensions.worktreeConfig true
git worktree add -q -b tree tree
git -C tree config --worktree http.extraHeader "Private-Token: $S"
git init -q nested
git -C nested config remote.origin.url "https://$S@github.com/me/nested.git"
git init -q linked
git -C linked config http.extraheader "Cookie: $S"
mv linked/.git/config linked/real
git init -q broken
echo "[remote $S" >broken/.git/config
git pull -q "https://me:$S@127.0.0.1:1/x.git" main 2>/dev/null || true
printf '%040d %040d a <a@example.com> 1 +0000\tpull https://me:%s@github.com/me/x: Fast-forward\n' 0 0 "$S" >>.git/logs/HEAD
mkdir deep
echo "machine github.com login me password $S" | tee deep/.netrc >deep/_netrc
echo "https://me:$S@github.com" >deep/.git-credentials
"#;
    let mut command = Command::new("sh");
    home.environment(&mut command);
    let output = command.args(["-c", script]).env("S", SECRET).output().context("preparing the project")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    symlink("../real", home.project().join("linked/.git/config"))?;
    Ok(())
}

#[test]
fn credentials_of_git_stay_out_of_the_copy_and_are_named() -> Result<()> {
    let user = bot_bottle_testkit::has_user_namespaces();
    if !bot_bottle_testkit::require("userns", user)
        || !bot_bottle_testkit::require("git", Path::new("/usr/bin/git").exists())
    {
        return Ok(());
    }
    let home = Home::new()?;
    project(&home)?;
    let before = snapshot(&home.project())?;
    // The search finds what there is to be found.
    let held = holders(&home.project())?;
    ensure!(held.len() == 12, "{held:?}");

    let named = [
        ".git/config (",
        "user info of remote.origin.url",
        "user info of remote.origin.pushurl",
        "http.https://github.com/.extraheader",
        "user info in the section of url.https://github.com/.insteadof",
        "credential.helper",
        "core.sshcommand",
        "github.token",
        "comments",
        "user info of submodule.sub.url",
        "included.conf (user info of remote.origin.proxy",
        ".git/logins (the file",
        ".git/modules/sub/config (user info of remote.origin.url",
        ".git/worktrees/tree/config.worktree (http.extraheader",
        "nested/.git/config (user info of remote.origin.url",
        "linked/real (http.extraheader",
        "broken/.git/config (the file: it cannot be read as git's configuration, line 1",
        ".git/logs/HEAD (user info of URLs",
        "deep/.netrc (",
        "deep/_netrc (",
        "deep/.git-credentials (",
    ];
    let inside = "git remote -v && git -C sub remote -v && git status --porcelain && git log --format=%s \
        && git cat-file --batch-all-objects --batch && readlink linked/.git/config && env && find /home/agent";
    for arguments in [
        &["run", "--cwd", "--dry-run", "--", "true"][..],
        &["run", "--cwd", "--dry-run", "--json", "--", "true"],
        &["run", "--cwd", "--", "sh", "-c", inside],
    ] {
        let output = home.command(arguments).output()?;
        let (text, errors) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "{arguments:?}: {text}{errors}");
        let all = format!("{text}{errors}");
        ensure!(!all.contains(SECRET), "{arguments:?} shows the secret: {all}");
        for name in named {
            ensure!(all.contains(name), "{arguments:?} does not name {name}: {all}");
        }
        if !arguments.contains(&"--dry-run") {
            for line in [
                "origin\thttps://github.com/me/x.git (fetch)\norigin\tssh://git@github.com/me/x.git (push)\n",
                "origin\thttps://github.com/me/library.git (fetch)\n",
                "\nwork\n",
                "\n../real\n",
            ] {
                ensure!(text.contains(line), "git inside does not show {line:?}: {all}");
            }
        }
    }
    ensure!(home.left().iter().any(|name| name.starts_with("run-")), "no workspace was kept to be searched");
    // A bottle closes the folder with what its agent wrote; here it is searched.
    for run in home.left().into_iter().filter(|name| name.starts_with("run-")) {
        let closed = home.path("state").join(run).join("agent");
        fs::set_permissions(closed, fs::Permissions::from_mode(0o700))?;
    }
    let found = holders(&home.path("state"))?;
    ensure!(found.is_empty(), "{found:?}");
    ensure!(snapshot(&home.project())? == before, "the operator's folder was changed");
    Ok(())
}
