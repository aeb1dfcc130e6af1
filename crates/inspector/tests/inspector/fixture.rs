//! An operator's folder, its copy in a bottle, and questions about the copy.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use bot_bottle_core::work::Baseline;
use bot_bottle_inspector::{InspectError, Places, Request, Style, Summary, run};

/// One run of an agent.
pub(crate) struct Work {
    top: tempfile::TempDir,
    pub(crate) places: Places,
    pub(crate) baseline: Baseline,
    pub(crate) left_out: Vec<String>,
    questions: usize,
}

impl Work {
    /// The operator's folder after a shell script in it, copied into a bottle, as a launch does.
    pub(crate) fn begin(script: &str) -> Result<Self> {
        let top = tempfile::tempdir()?;
        let at = |name: &str| top.path().join(name);
        for folder in ["operator", "home", "tmp"] {
            fs::create_dir(at(folder))?;
        }
        fs::write(
            at("home/.gitconfig"),
            "[user]\n\tname = Agent\n\temail = agent@example.invalid\n[init]\n\tdefaultBranch = main\n[protocol \"file\"]\n\tallow = always\n",
        )?;
        // A name that git has to quote in lists of paths.
        let places = Places {
            workspace: at("work: \"1\""),
            home: at("home"),
            scratch: at("scratch-0"),
            guest_workspace: "/home/agent/workspace".into(),
            guest_home: "/home/agent".into(),
        };
        let mut work = Self { top, places, baseline: Baseline::default(), left_out: vec![], questions: 0 };
        let operator = work.operator();
        work.shell(&operator, script)?;
        work.baseline = work.record(&operator)?;
        work.copy(&operator, &work.places.workspace)?;
        // The clock of the file system has ticks: the agent starts in a later one than the copy ended in.
        let copied = work.now()?;
        work.baseline.started = loop {
            let now = work.now()?;
            if now > copied {
                break now;
            }
        };
        Ok(work)
    }

    /// A repository with two files, `a` and `b/c`, in one commit.
    pub(crate) fn with_two_files(script: &str) -> Result<Self> {
        Self::begin(&format!(
            "git init -q; echo one >a; mkdir b; seq 99 >b/c; git add .; git commit -qm first; {script}"
        ))
    }

    fn record(&self, folder: &Path) -> Result<Baseline> {
        let mut baseline = Baseline::default();
        if folder.join(".git").exists() {
            let line = |script| self.shell(folder, script).map(|text| text.lines().next().map(str::to_owned));
            baseline.head = line("git rev-parse -q --verify HEAD || true")?;
            // In a merge it fails, and says so on standard output.
            baseline.snapshot = line("made=$(git stash create 2>/dev/null) && echo \"$made\" || true")?;
            baseline.snapshot.take_if(|made| made.is_empty());
            let refs = self
                .shell(folder, "git for-each-ref --format='%(refname) %(objectname)' refs/heads refs/tags")?;
            let refs = refs.lines().filter_map(|line| line.split_once(' '));
            baseline.refs = refs.map(|(name, id)| (name.to_owned(), id.to_owned())).collect();
        }
        Ok(baseline)
    }

    /// The ctime of a file that is made now.
    fn now(&self) -> Result<(i64, u32)> {
        let marker = self.path("marker");
        fs::write(&marker, "")?;
        fs::set_permissions(&marker, fs::Permissions::from_mode(0o600))?;
        let found = fs::metadata(&marker)?;
        Ok((found.ctime(), u32::try_from(found.ctime_nsec())?))
    }

    /// A path beside the folders.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.top.path().join(name)
    }

    /// What the operator has.
    pub(crate) fn operator(&self) -> PathBuf {
        self.path("operator")
    }

    /// A second operator's folder as it was, to bring something into.
    pub(crate) fn operators_copy(&self, name: &str) -> Result<PathBuf> {
        let to = self.path(name);
        self.copy(&self.operator(), &to)?;
        Ok(to)
    }

    fn copy(&self, from: &Path, to: &Path) -> Result<()> {
        let status = Command::new("cp").arg("-a").arg(from).arg(to).status()?;
        ensure!(status.success(), "cp: {status}");
        Ok(())
    }

    /// Runs a script as the agent, in the workspace.
    pub(crate) fn agent(&self, script: &str) -> Result<String> {
        self.shell(&self.places.workspace, script)
    }

    /// Runs a script; `$TOP` is the folder around everything.
    pub(crate) fn shell(&self, folder: &Path, script: &str) -> Result<String> {
        let output = Command::new("sh")
            .args(["-euc", script])
            .current_dir(folder)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").context("PATH is set")?)
            .env("HOME", &self.places.home)
            .env("TOP", self.top.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`{script}`: {}\n{text}{errors}", output.status);
        Ok(text)
    }

    /// The answer to a request. Nothing of the workspace and home may differ afterwards.
    pub(crate) fn ask_with(&mut self, request: &Request, archive: &[u8]) -> Result<Vec<u8>, InspectError> {
        self.questions += 1;
        self.places.scratch = self.path(&format!("scratch-{}", self.questions));
        fs::create_dir(&self.places.scratch).expect("a folder");
        let mut input = serde_json::to_vec(request).expect("a request is JSON");
        input.push(b'\n');
        input.extend_from_slice(archive);
        let mut output = Vec::new();
        self.left_out = run(&self.places, &mut &input[..], &mut output)?;
        Ok(output)
    }

    /// The answer to a request that only looks.
    pub(crate) fn ask(&mut self, request: &Request) -> Result<Vec<u8>, InspectError> {
        let all = |work: &Self| {
            [&work.places.workspace, &work.places.home].map(|folder| everything(folder).expect("a listing"))
        };
        let before = all(self);
        let answer = self.ask_with(request, b"");
        for (before, after) in before.into_iter().zip(all(self)) {
            let paths = before.keys().chain(after.keys());
            let written: Vec<_> = paths.filter(|path| before.get(*path) != after.get(*path)).collect();
            assert!(written.is_empty(), "the inspector wrote to what it only looks at: {written:?}");
        }
        answer
    }

    pub(crate) fn summary(&mut self) -> Result<Summary> {
        let json = self.ask(&Request::Summary { baseline: self.baseline.clone() })?;
        Ok(serde_json::from_slice(&json)?)
    }

    /// The numbers of the one repository: commits, uncommitted, new files.
    pub(crate) fn numbers(&mut self) -> Result<(usize, usize, usize)> {
        let summary = self.summary()?;
        let [repository] = &summary.repositories[..] else { bail!("one repository: {summary:?}") };
        Ok((repository.commits, repository.uncommitted, repository.new_files))
    }

    pub(crate) fn diff(&mut self, style: Style) -> Result<String> {
        let request = Request::Diff {
            baseline: self.baseline.clone(),
            repository: String::new(),
            style,
            colour: false,
        };
        Ok(String::from_utf8_lossy(&self.ask(&request)?).into_owned())
    }

    pub(crate) fn patch(&mut self) -> Result<Vec<u8>, InspectError> {
        self.ask(&Request::Patch { baseline: self.baseline.clone(), repository: String::new() })
    }

    pub(crate) fn bundle_of(&mut self, repository: &str, known: &[String]) -> Result<Vec<u8>, InspectError> {
        let baseline = self.baseline.clone();
        self.ask(&Request::Bundle { baseline, repository: repository.to_owned(), known: known.to_vec() })
    }

    /// The bundle for the operator's repository.
    pub(crate) fn bundle(&mut self) -> Result<Vec<u8>, InspectError> {
        let known: Vec<_> = self.baseline.head.iter().cloned().collect();
        self.bundle_of("", &known)
    }

    /// Applies a patch to a copy of the operator's folder, which is returned.
    pub(crate) fn apply(&self, patch: &[u8]) -> Result<PathBuf> {
        let folder = self.operators_copy("applied")?;
        fs::write(self.path("patch"), patch)?;
        self.shell(&folder, "git apply --whitespace=nowarn \"$TOP/patch\"")
            .with_context(|| String::from_utf8_lossy(patch).into_owned())?;
        Ok(folder)
    }

    /// Fetches a bundle into a copy of the operator's repository, which is returned, and the refs with the
    /// subject of each commit.
    pub(crate) fn fetch(&self, bundle: &[u8]) -> Result<(PathBuf, Vec<String>)> {
        let folder = self.operators_copy("fetched")?;
        fs::write(self.path("bundle"), bundle)?;
        self.shell(
            &folder,
            "git init -q; git bundle verify -q \"$TOP/bundle\"; \
             git -c fetch.fsckObjects=true fetch -q --no-recurse-submodules \"$TOP/bundle\" 'refs/*:refs/bottle/*'",
        )?;
        let refs = self.shell(
            &folder,
            "git for-each-ref --format='%(refname:lstrip=2) %(*subject)%(subject)' refs/bottle",
        )?;
        Ok((folder, refs.lines().map(str::to_owned).collect()))
    }

    /// What the working tree at a revision is.
    pub(crate) fn checked_out(&self, folder: &Path, revision: &str) -> Result<BTreeMap<PathBuf, OsString>> {
        let to = self.path("checked-out");
        self.shell(folder, &format!("rm -rf ../checked-out; git worktree add -q ../checked-out {revision}"))?;
        files(&to)
    }
}

/// Every file without `.git`, with its kind and content.
pub(crate) fn files(folder: &Path) -> Result<BTreeMap<PathBuf, OsString>> {
    let mut found = everything(folder)?;
    found.retain(|path, (mode, ..)| {
        !path.components().any(|part| part.as_os_str() == ".git") && *mode & 0o170_000 != 0o040_000
    });
    let kind = |(mode, content, _): (u32, Vec<u8>, _)| {
        let mut text = OsString::from(format!("{:o} ", mode & 0o170_100));
        text.push(OsStr::new(&String::from_utf8_lossy(&content).into_owned()));
        text
    };
    Ok(found.into_iter().map(|(path, entry)| (path, kind(entry))).collect())
}

type Entry = (u32, Vec<u8>, (i64, i64));

/// Every entry with its mode, content and mtime.
pub(crate) fn everything(folder: &Path) -> Result<BTreeMap<PathBuf, Entry>> {
    let mut found = BTreeMap::new();
    let mut rest = vec![folder.to_owned()];
    while let Some(path) = rest.pop() {
        let metadata = fs::symlink_metadata(&path)?;
        let content = match metadata.file_type() {
            kind if kind.is_dir() => {
                for entry in fs::read_dir(&path)? {
                    rest.push(entry?.path());
                }
                vec![]
            }
            kind if kind.is_symlink() => fs::read_link(&path)?.into_os_string().into_encoded_bytes(),
            kind if kind.is_file() => fs::read(&path).unwrap_or_default(),
            _ => vec![],
        };
        // Git sets the mtime of an object that it would write again, where it may.
        let is_object = path.components().any(|part| part.as_os_str() == "objects");
        let mtime = if is_object { (0, 0) } else { (metadata.mtime(), metadata.mtime_nsec()) };
        found.insert(path.strip_prefix(folder)?.to_owned(), (metadata.mode(), content, mtime));
    }
    Ok(found)
}
