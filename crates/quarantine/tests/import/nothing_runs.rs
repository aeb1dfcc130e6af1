//! A canary stands in every place of the operator's configuration that names a program.

use std::{
    env, fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use bot_bottle_quarantine::import;

use super::fixture::{Scene, command, git};

/// Set in the process that imports: the folder of the scene.
const SCENE: &str = "BOT_BOTTLE_TEST_SCENE";

/// Keys whose value is a program or a command line. git-config(1).
const KEYS: [&str; 27] = [
    "core.fsmonitor",
    "core.sshCommand",
    "core.gitProxy",
    "core.askPass",
    "core.editor",
    "core.pager",
    "core.alternateRefsCommand",
    "credential.helper",
    "diff.external",
    "diff.canary.command",
    "diff.canary.textconv",
    "filter.canary.clean",
    "filter.canary.smudge",
    "filter.canary.process",
    "gpg.program",
    "gpg.ssh.program",
    "gpg.ssh.defaultKeyCommand",
    "hook.canary.command",
    "interactive.diffFilter",
    "merge.canary.driver",
    "pager.log",
    "receive.procReceiveRefs",
    "sequence.editor",
    "trailer.canary.command",
    "uploadpack.packObjectsHook",
    "remote.origin.uploadpack",
    "alias.index-pack",
];

const HOOKS: [&str; 9] = [
    "reference-transaction",
    "post-index-change",
    "post-checkout",
    "post-commit",
    "pre-commit",
    "post-merge",
    "pre-auto-gc",
    "fsmonitor-watchman",
    "post-rewrite",
];

const PROGRAMS: [&str; 8] = [
    "ssh",
    "gpg",
    "git-lfs",
    "git-remote-canary",
    "less",
    "curl",
    "git-credential-canary",
    "git-maintenance",
];

struct Canaries {
    folder: PathBuf,
}

impl Canaries {
    fn new(scene: &Scene) -> Result<Self> {
        let folder = scene.path().join("canaries");
        for part in ["keys", "hooks", "programs"] {
            fs::create_dir_all(folder.join(part))?;
        }
        let script = folder.join("canary");
        fs::write(
            &script,
            format!("#!/bin/sh\necho \"${{0##*/}}\" >>'{}'\n", folder.join("sang").display()),
        )?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        for (part, names) in [("keys", KEYS.as_slice()), ("hooks", &HOOKS), ("programs", &PROGRAMS)] {
            for name in names {
                symlink(&script, folder.join(part).join(name))?;
            }
        }
        Ok(Self { folder })
    }

    /// Sets every key in the repository, or in the file of a user's own configuration.
    fn configure(&self, target: &[&str], folder: &Path) -> Result<()> {
        let set = |key: &str, value: &str| git(folder, &[&["config"], target, &[key, value]].concat());
        for key in KEYS {
            set(key, &self.folder.join("keys").join(key).to_string_lossy())?;
        }
        set("core.hooksPath", &self.folder.join("hooks").to_string_lossy())?;
        for (key, value) in [
            ("hook.canary.event", "reference-transaction"),
            ("fetch.recurseSubmodules", "true"),
            ("fetch.writeCommitGraph", "true"),
            ("submodule.recurse", "true"),
            ("gc.auto", "1"),
            ("gc.autoDetach", "false"),
            ("maintenance.autoDetach", "false"),
            ("protocol.allow", "always"),
            ("protocol.ext.allow", "always"),
            ("commit.gpgSign", "true"),
            ("remote.origin.url", "ext::canary"),
            ("remote.origin.promisor", "true"),
            ("remote.origin.partialCloneFilter", "blob:none"),
        ] {
            set(key, value)?;
        }
        Ok(())
    }

    fn sang(&self) -> String {
        fs::read_to_string(self.folder.join("sang")).unwrap_or_default()
    }
}

#[test]
fn no_program_of_the_operators_configuration_runs() -> Result<()> {
    let scene = Scene::new()?;
    scene.commit(".gitattributes", "* filter=canary diff=canary merge=canary\n")?;
    scene.commit("a", "1")?;
    fs::write(scene.path().join("bundle"), scene.bundle()?)?;
    let canaries = Canaries::new(&scene)?;
    let home = scene.path().join("home");
    fs::create_dir(&home)?;
    let user = home.join(".gitconfig");
    canaries.configure(&["--local"], &scene.operator())?;
    canaries.configure(&["--file", &user.to_string_lossy()], &home)?;
    // A submodule, and objects elsewhere, which git has commands for.
    git(scene.path(), &["clone", "--quiet", "--bare", "agent", "elsewhere.git"])?;
    git(scene.path(), &["-C", "elsewhere.git", "gc", "--quiet", "--prune=now"])?;
    let elsewhere = scene.path().join("elsewhere.git/objects");
    fs::write(scene.operator().join(".git/objects/info/alternates"), format!("{}\n", elsewhere.display()))?;
    let config = fs::read(scene.operator().join(".git/config"))?;
    fs::remove_file(canaries.folder.join("sang")).ok();

    let path = env::join_paths(
        [canaries.folder.join("programs")]
            .into_iter()
            .chain(env::split_paths(&env::var_os("PATH").context("PATH")?)),
    )?;
    // The variables of git would do the same as the keys.
    let canary = |key: &str| canaries.folder.join("keys").join(key);
    let output = Command::new(env::current_exe()?)
        .args(["--exact", "nothing_runs::imports_in_a_process_of_its_own", "--nocapture"])
        .env(SCENE, scene.path())
        .env("HOME", &home)
        .env("PATH", &path)
        .env("GIT_SSH_COMMAND", canary("core.sshCommand"))
        .env("GIT_EXTERNAL_DIFF", canary("diff.external"))
        .env("GIT_ASKPASS", canary("core.askPass"))
        .env("GIT_DIR", "/nowhere")
        .env("GIT_TRACE2_EVENT", scene.path().join("trace"))
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(fs::read_to_string(scene.path().join("imported"))?, "1");
    assert_eq!(canaries.sang(), "");
    assert!(!scene.path().join("trace").exists());
    assert!(!scene.operator().join(".git/FETCH_HEAD").exists());
    assert_eq!(fs::read(scene.operator().join(".git/config"))?, config);

    // The control: the same, as somebody would do it who does not think of this.
    let bundle = scene.path().join("bundle");
    let mut careless =
        command(&scene.operator(), &["fetch", &bundle.to_string_lossy(), "refs/heads/*:refs/x/*"]);
    careless.env("PATH", &path).output()?;
    command(&scene.operator(), &["status"]).env("PATH", &path).output()?;
    command(&scene.operator(), &["checkout", "--quiet", "refs/x/main"]).env("PATH", &path).output()?;
    command(&scene.operator(), &["fetch", "origin"]).env("PATH", &path).output()?;
    let sang = canaries.sang();
    for name in ["reference-transaction", "core.fsmonitor", "filter.canary.process"] {
        assert!(sang.lines().any(|line| line == name), "{name} did not run:\n{sang}");
    }
    Ok(())
}

/// Does nothing unless the test above starts it, with an environment of its own.
#[test]
fn imports_in_a_process_of_its_own() -> Result<()> {
    let Some(scene) = env::var_os(SCENE).map(PathBuf::from) else { return Ok(()) };
    let request = import::Import {
        repository: scene.join("operator"),
        run: super::fixture::RUN.parse()?,
        head: Some("main".into()),
        branch: Some("work".into()),
        quarantine: scene.join("quarantine"),
        bounds: import::ImportBounds::default(),
    };
    let imported = import::import(&mut fs::File::open(scene.join("bundle"))?, &request)?;
    ensure!(imported.branch.is_some());
    fs::write(scene.join("imported"), imported.refs.len().to_string())?;
    Ok(())
}
