//! An operator's home, a fake upstream, and a search for credentials everywhere while an agent works in a
//! bottle.

use std::{
    fs,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use bot_bottle_testkit::{
    AGENTS_VARIABLE, DockerHost, FakeUpstream, Finding, Needle, command_prompt, engine, find_agent,
    has_user_namespaces, require, search_bytes, search_memory, search_processes, search_tree,
};
use tempfile::TempDir;

/// The operator's side of a bottle.
pub(crate) struct Fixture {
    agent: &'static str,
    folder: TempDir,
    upstream: FakeUpstream,
    variables: Vec<(String, String)>,
    place: Place,
}

/// Where the bottle is made.
#[derive(Debug, Clone)]
enum Place {
    Native,
    /// In a container of this image, by a bot-bottle without libraries.
    Docker {
        program: PathBuf,
        image: String,
    },
}

/// The results after the agent has ended.
pub(crate) struct Finished {
    /// The name of the run.
    pub(crate) identity: String,
    /// What `start` printed, on both streams.
    pub(crate) output: String,
}

/// The command that the agent is asked to run: it creates a file and then waits, so that the test can search.
const WORK: &str = "echo by the agent > made.txt; touch ready; \
                    for i in $(seq 3000); do test -e release && break; sleep 0.1; done; cat made.txt";

/// Until the agent works, and until it has ended.
const PATIENCE: Duration = Duration::from_secs(300);

impl Drop for Fixture {
    /// The engine keeps what an agent made.
    fn drop(&mut self) {
        if matches!(self.place, Place::Docker { .. }) {
            let _ = self.command(&["cleanup", "--yes", "--force"]).output();
        }
    }
}

impl Fixture {
    /// Prepares an operator's home with this frontmatter in the bottle's file; `None`, with a message, where
    /// the test cannot run.
    pub(crate) fn new(agent: &'static str, frontmatter: &str, upstream: FakeUpstream) -> Option<Self> {
        let can_run = require(agent, find_agent(agent).is_some()) && require("userns", has_user_namespaces());
        can_run.then(|| Self::in_place(Place::Native, agent, frontmatter, upstream))
    }

    /// The same for a bottle in a container, whose image has the agent program.
    pub(crate) fn in_docker(agent: &'static str, frontmatter: &str, upstream: FakeUpstream) -> Option<Self> {
        let host = DockerHost::find()?;
        let found = find_agent(agent);
        if !require(agent, found.is_some()) {
            return None;
        }
        let distribution = host.distribution()?;
        let image = DockerHost::with_agent(&distribution, agent, &found?).expect("an image with the agent");
        let place = Place::Docker { program: host.program, image };
        Some(Self::in_place(place, agent, frontmatter, upstream))
    }

    fn in_place(place: Place, agent: &'static str, frontmatter: &str, upstream: FakeUpstream) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let fixture = Self { agent, folder, upstream, variables: Vec::new(), place };
        let agents = PathBuf::from(std::env::var_os(AGENTS_VARIABLE).expect("an agent was found there"));
        fixture.write_settings();
        fixture.write_home(".bot-bottle/bottles/boundary.md", &format!("---\n{frontmatter}\n---\n"));
        fixture
            .write_home(".bot-bottle/agents/worker.md", "---\nbottle: boundary\n---\nDo as you are asked.\n");
        let providers = agents.join("providers").canonicalize().expect("a folder");
        std::os::unix::fs::symlink(providers, fixture.state().with_file_name("providers")).expect("a link");
        fs::create_dir(fixture.project()).expect("a folder");
        fs::write(fixture.project().join("README"), "a project").expect("a file");
        fixture
    }

    /// Where the upstream is.
    fn write_settings(&self) {
        let authority = self.folder.path().join("upstream-ca.pem");
        fs::write(&authority, self.upstream.certificate()).expect("a file");
        let port = self.upstream.address().port();
        let resolve: Vec<String> =
            self.upstream.hosts().map(|host| format!("{host}: \"127.0.0.1:{port}\"")).collect();
        self.write_home(
            ".bot-bottle/settings.yml",
            &format!(
                "egress:\n  extra_ca: [{}]\n  resolve: {{{}}}\n",
                authority.display(),
                resolve.join(", ")
            ),
        );
    }

    pub(crate) fn upstream(&self) -> &FakeUpstream {
        &self.upstream
    }

    /// Puts another upstream in the place of the first.
    pub(crate) fn set_upstream(&mut self, upstream: FakeUpstream) {
        self.upstream = upstream;
        self.write_settings();
    }

    /// Goes on with the conversation of a run that ended. What it printed, on both streams.
    pub(crate) fn resume(&self, identity: &str, prompt: &str) -> String {
        self.to_the_end(&["resume", identity, "--headless", "--prompt", prompt])
    }

    /// Has the agent do what a prompt says. The name of the run, and what it printed, on both streams.
    pub(crate) fn run_to_the_end(&self, prompt: &str) -> (String, String) {
        let start = ["start", "worker", "--headless", "--yes", "--cwd", "--prompt", prompt];
        let output = self.to_the_end(&start);
        (self.identity().expect("a run"), output)
    }

    /// The same where the agent ends with an error. What it printed, on both streams.
    pub(crate) fn fails(&self, prompt: &str) -> String {
        let (code, output) =
            self.ended(&["start", "worker", "--headless", "--yes", "--cwd", "--prompt", prompt]);
        assert!(code.is_some_and(|code| code != 0), "{} succeeded ({code:?}):\n{output}", self.agent);
        output
    }

    fn to_the_end(&self, arguments: &[&str]) -> String {
        let (code, output) = self.ended(arguments);
        assert_eq!(code, Some(0), "{} failed:\n{output}\n{}", self.agent, self.describe());
        output
    }

    fn ended(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = self.command(arguments);
        command.envs(self.variables.iter().map(|(name, value)| (name, value))).current_dir(self.project());
        let mut launcher = command.spawn().expect("bot-bottle starts");
        let reader = Reader::of(&mut launcher);
        (wait(&mut launcher), reader.finish())
    }

    /// Where the operator's files are.
    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// Sees that no credential is in what a run has left or printed.
    pub(crate) fn assert_not_found(&self, identity: &str, output: &str, needles: &[Needle]) {
        let mut found = search_bytes(output.as_bytes(), "the terminal", needles);
        found.extend(self.search_state(identity, needles));
        assert!(found.is_empty(), "{}", found.iter().map(Finding::to_string).collect::<Vec<_>>().join("\n"));
    }

    /// The receipts of a run.
    pub(crate) fn receipts(&self, identity: &str) -> Vec<serde_json::Value> {
        let path = self.state().join(identity).join("receipts.jsonl");
        let text = fs::read_to_string(&path).expect("receipts are kept");
        text.lines().map(|line| serde_json::from_str(line).expect("a receipt is a line of JSON")).collect()
    }

    /// Sets a variable of the operator's environment.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Writes a file of the operator's home.
    pub(crate) fn write_home(&self, path: &str, content: &str) {
        let path = self.home().join(path);
        fs::create_dir_all(path.parent().expect("below the home")).expect("a folder");
        fs::write(path, content).expect("a file");
    }

    /// Has the agent do its work, looks everywhere for the credentials meanwhile and afterwards, and sees
    /// that the work was done.
    pub(crate) fn run_turn(&self, needles: &[Needle]) -> Finished {
        let prompt = command_prompt(WORK);
        let mut start =
            self.command(&["start", "worker", "--headless", "--yes", "--cwd", "--prompt", &prompt]);
        if let Place::Docker { image, .. } = &self.place {
            start.args(["--backend", "docker", "--image", image]);
        }
        start.envs(self.variables.iter().map(|(name, value)| (name, value))).current_dir(self.project());
        let mut launcher = start.spawn().expect("bot-bottle starts");
        let reader = Reader::of(&mut launcher);

        let Some(identity) = self.wait_until_it_works(&mut launcher) else {
            let _ = launcher.kill();
            let code = launcher.wait();
            panic!("the agent did not begin ({code:?}):\n{}\n{}", reader.finish(), self.describe());
        };
        // The operator may well have the credential in the environment of the shell that the launcher is
        // started from; what the launcher starts must not.
        let mut found = search_processes(&[std::process::id(), launcher.id()], needles);
        found.extend(self.search_from_inside(&identity, needles));
        let memory = search_memory(self.root_of_processes(&identity, launcher.id()), needles);
        assert!(memory.processes >= 2, "the agent and its shell can be looked at: {memory:?}");
        found.extend(memory.findings);
        found.extend(self.search_state(&identity, needles));
        let released = self.exec(&identity, "touch /home/agent/workspace/release");
        assert!(released.status.success(), "{released:#?}");

        let code = wait(&mut launcher);
        let output = reader.finish();
        assert_eq!(code, Some(0), "{} failed:\n{output}\n{}", self.agent, self.describe());
        found.extend(search_bytes(output.as_bytes(), "the terminal", needles));
        found.extend(self.search_state(&identity, needles));
        found.extend(search_tree(&self.project(), &[], needles));
        assert!(found.is_empty(), "{}", found.iter().map(Finding::to_string).collect::<Vec<_>>().join("\n"));

        if matches!(self.place, Place::Native) {
            let made = self.agent_folder(&identity).join("workspace/made.txt");
            let text = fs::read_to_string(&made).ok();
            assert_eq!(text.as_deref(), Some("by the agent\n"), "{}", made.display());
        }
        assert!(!self.project().join("made.txt").exists(), "the operator's folder is not written to");
        self.assert_receipts(&identity);
        Finished { identity, output }
    }

    /// What the agent writes, which a bottle closes to the host's programs; here it is opened.
    pub(crate) fn agent_folder(&self, identity: &str) -> PathBuf {
        let folder = self.state().join(identity).join("agent");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("the run is kept");
        folder
    }

    /// The process whose descendants are the bottle's.
    fn root_of_processes(&self, identity: &str, launcher: u32) -> u32 {
        let Place::Docker { .. } = self.place else { return launcher };
        let engine = engine().expect("an engine");
        let containers = engine.containers(&format!("bot-bottle.run={identity}")).expect("listed");
        let agent = containers.iter().find(|container| container.name.ends_with("-agent"));
        let shown = engine.inspect_container(&agent.expect("a container").id).expect("shown");
        let pid = shown.pointer("/State/Pid").and_then(serde_json::Value::as_u64);
        pid.and_then(|pid| pid.try_into().ok()).expect("a process of this host")
    }

    fn search_state(&self, identity: &str, needles: &[Needle]) -> Vec<Finding> {
        if matches!(self.place, Place::Native) {
            self.agent_folder(identity);
        }
        search_tree(&self.state(), &[], needles)
    }

    /// The name of the run, once the agent's command has begun; `None` if the launcher ended before, or never
    /// will.
    fn wait_until_it_works(&self, launcher: &mut Child) -> Option<String> {
        let deadline = Instant::now() + PATIENCE;
        while launcher.try_wait().expect("a child of ours").is_none() && Instant::now() < deadline {
            if let Some(identity) = self.identity()
                && self.exec(&identity, "test -e /home/agent/workspace/ready").status.success()
            {
                return Some(identity);
            }
            thread::sleep(Duration::from_millis(200));
        }
        None
    }

    /// Everything in the bottle that is not the host's own, brought out and searched here: the pattern itself
    /// must not go in.
    fn search_from_inside(&self, identity: &str, needles: &[Needle]) -> Vec<Finding> {
        let mut found = Vec::new();
        for (what, script) in [
            (
                "the bottle's files",
                "tar -cf - --ignore-failed-read /home /tmp /var /run /etc /dev/shm /root /opt 2>/dev/null; true",
            ),
            ("the bottle's processes", "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null; true"),
            ("the bottle's environment", "env; mount; ls -laR /home /tmp"),
        ] {
            let output = self.exec(identity, script);
            assert!(!output.stdout.is_empty(), "{what}: {output:?}");
            found.extend(search_bytes(&output.stdout, what, needles));
            found.extend(search_bytes(&output.stderr, what, needles));
        }
        found
    }

    fn assert_receipts(&self, identity: &str) {
        let receipts = self.receipts(identity);
        let allowed = receipts.iter().filter(|receipt| receipt["verdict"] == "allow").count();
        assert!(allowed >= 1, "{receipts:?}");
    }

    fn identity(&self) -> Option<String> {
        let entries = fs::read_dir(self.state()).ok()?.flatten();
        entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .find(|name| name.starts_with("worker-"))
    }

    fn exec(&self, identity: &str, script: &str) -> Output {
        self.command(&["exec", identity, "--", "sh", "-c", script]).output().expect("bot-bottle starts")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let home = self.folder.path().join("home");
        let program = match &self.place {
            Place::Native => Path::new(env!("CARGO_BIN_EXE_bot-bottle")),
            Place::Docker { program, .. } => program,
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", &home)
            .env("BOT_BOTTLE_HOME", home.join(".bot-bottle"))
            .env("USER", "operator")
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("home/.bot-bottle/state")
    }

    fn project(&self) -> PathBuf {
        self.folder.path().join("project")
    }

    /// The recorded requests, without headers, for the message of a failed test.
    fn describe(&self) -> String {
        let seen: Vec<String> = self
            .upstream
            .requests()
            .iter()
            .map(|request| format!("{} {}{}", request.method, request.host, request.path))
            .collect();
        let log = self.identity().and_then(|identity| read(&self.state().join(identity).join("gateway.log")));
        format!("the upstream saw:\n{}\ngateway.log:\n{}", seen.join("\n"), log.unwrap_or_default())
    }
}

/// Reads both streams of a child, so that it never blocks on a full pipe.
struct Reader(Vec<thread::JoinHandle<String>>);

impl Reader {
    fn of(child: &mut Child) -> Self {
        fn read(stream: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
            thread::spawn(move || {
                let mut bytes = Vec::new();
                if let Some(mut stream) = stream {
                    let _ = stream.read_to_end(&mut bytes);
                }
                String::from_utf8_lossy(&bytes).into_owned()
            })
        }
        Self(vec![read(child.stdout.take()), read(child.stderr.take())])
    }

    fn finish(self) -> String {
        self.0.into_iter().filter_map(|thread| thread.join().ok()).collect::<Vec<_>>().join("\n")
    }
}

/// The exit code; a child that takes too long is killed and has none.
fn wait(child: &mut Child) -> Option<i32> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().expect("a child of ours") {
            return status.code();
        }
        thread::sleep(Duration::from_millis(50));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// Lets one agent run at a time, because searching the memory of its processes keeps a core busy for seconds.
pub(crate) fn turn() -> std::sync::MutexGuard<'static, ()> {
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
