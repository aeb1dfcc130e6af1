//! A repository of the operator, the agent's copy of it, and bundles.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, ensure};
use bot_bottle_quarantine::import::{self, Import, ImportBounds, ImportError, Imported};
use tempfile::TempDir;

pub(crate) const RUN: &str = "worker-abcde";

pub(crate) struct Scene {
    folder: TempDir,
    /// The commit that both repositories have.
    pub(crate) base: String,
}

impl Scene {
    pub(crate) fn new() -> Result<Self> {
        Self::with_format("sha1")
    }

    pub(crate) fn with_format(format: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        for name in ["operator", "quarantine"] {
            fs::create_dir(folder.path().join(name))?;
        }
        let mut scene = Self { folder, base: String::new() };
        let operator = scene.operator();
        git(&operator, &["init", "--quiet", "--initial-branch=main", &format!("--object-format={format}")])?;
        fs::write(operator.join("file"), "one\n")?;
        git(&operator, &["add", "."])?;
        git(&operator, &["commit", "--quiet", "-m", "base"])?;
        scene.base = git(&operator, &["rev-parse", "HEAD"])?;
        git(scene.path(), &["clone", "--quiet", "operator", "agent"])?;
        Ok(scene)
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn operator(&self) -> PathBuf {
        self.path().join("operator")
    }

    pub(crate) fn agent(&self) -> PathBuf {
        self.path().join("agent")
    }

    /// The agent commits a file on its branch.
    pub(crate) fn commit(&self, file: &str, content: &str) -> Result<String> {
        fs::write(self.agent().join(file), content)?;
        git(&self.agent(), &["add", "."])?;
        git(&self.agent(), &["commit", "--quiet", "-m", file])?;
        git(&self.agent(), &["rev-parse", "HEAD"])
    }

    /// A commit of the agent with this tree, on the branch `main`.
    pub(crate) fn commit_tree(&self, tree: &str) -> Result<String> {
        let commit = git(&self.agent(), &["commit-tree", "-p", &self.base, "-m", "x", tree])?;
        git(&self.agent(), &["update-ref", "refs/heads/main", &commit])?;
        Ok(commit)
    }

    /// An object of the agent, whatever it contains.
    pub(crate) fn object(&self, kind: &str, content: &[u8]) -> Result<String> {
        git_with_input(&self.agent(), &["hash-object", "-w", "--literally", "--stdin", "-t", kind], content)
    }

    /// A tree of the agent with these entries: mode, name, object.
    pub(crate) fn tree(&self, entries: &[(&str, &[u8], &str)]) -> Result<String> {
        let mut content = Vec::new();
        for (mode, name, id) in entries {
            content.extend([mode.as_bytes(), b" ", name, b"\0"].concat());
            for at in (0..id.len()).step_by(2) {
                content.push(u8::from_str_radix(&id[at..at + 2], 16)?);
            }
        }
        self.object("tree", &content)
    }

    /// A bundle of all branches, tags and of `refs/uncommitted`, without what the operator has.
    pub(crate) fn bundle(&self) -> Result<Vec<u8>> {
        let refs = git(&self.agent(), &["for-each-ref", "--format=%(refname)"])?;
        let mut arguments = vec!["bundle", "create", "--quiet", "-"];
        arguments.extend(refs.lines().filter(|name| !name.starts_with("refs/remotes/")));
        arguments.extend(["--not", &self.base]);
        let output = command(&self.agent(), &arguments).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(output.stdout)
    }

    pub(crate) fn request(&self) -> Result<Import> {
        Ok(Import {
            repository: self.operator(),
            run: RUN.parse()?,
            head: Some("main".into()),
            branch: None,
            quarantine: self.path().join("quarantine"),
            bounds: ImportBounds::default(),
        })
    }

    /// Imports what the agent has, and checks that nothing stays in the quarantine.
    pub(crate) fn import(&self, request: &Import) -> Result<Result<Imported, ImportError>> {
        self.import_bundle(&self.bundle()?, request)
    }

    pub(crate) fn import_bundle(
        &self,
        bundle: &[u8],
        request: &Import,
    ) -> Result<Result<Imported, ImportError>> {
        let imported = import::import(&mut &*bundle, request);
        let left = fs::read_dir(self.path().join("quarantine"))?.count();
        ensure!(left == 0, "{left} entries stay in the quarantine");
        if let Err(error) = &imported {
            let refs = self.refs()?;
            ensure!(!refs.contains("refs/bottle/"), "refused ({error}), but there are refs:\n{refs}");
        }
        Ok(imported)
    }

    /// The operator's refs with what they point to.
    pub(crate) fn refs(&self) -> Result<String> {
        git(&self.operator(), &["for-each-ref", "--format=%(refname) %(objectname)"])
    }
}

/// Every file below a folder, with its mode and content.
pub(crate) fn files(folder: &Path) -> Result<BTreeMap<PathBuf, (u32, Vec<u8>)>> {
    let (mut files, mut waiting) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(at) = waiting.pop() {
        for entry in fs::read_dir(&at)? {
            let path = entry?.path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                let content = (fs::metadata(&path)?.permissions().mode(), fs::read(&path)?);
                files.insert(path.strip_prefix(folder)?.to_owned(), content);
            }
        }
    }
    Ok(files)
}

pub(crate) fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.current_dir(folder).args(arguments).stdin(Stdio::null());
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "A").env(format!("GIT_{role}_EMAIL"), "a@example.invalid");
    }
    command
}

pub(crate) fn git(folder: &Path, arguments: &[&str]) -> Result<String> {
    text(arguments, command(folder, arguments).output()?)
}

pub(crate) fn git_with_input(folder: &Path, arguments: &[&str], input: &[u8]) -> Result<String> {
    let mut command = command(folder, arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("a pipe")?.write_all(input)?;
    text(arguments, child.wait_with_output()?)
}

fn text(arguments: &[&str], output: Output) -> Result<String> {
    let messages = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "git {}: {messages}", arguments.join(" "));
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}
