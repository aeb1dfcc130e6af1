//! A bottle for a test.

use std::{
    env, fs,
    os::unix::{
        fs::{PermissionsExt, chown},
        net::UnixStream,
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use anyhow::Context;
use bot_bottle_core::{
    bottle::BackendName,
    gateway_config::GatewayStart,
    plan::{BottlePlan, Program},
};
use bot_bottle_launch::request::{FaultKind, FaultMoment, Step, Terminal};
use libtest_mimic::{Failed, Trial};
use tempfile::TempDir;

use crate::parts::Order;

/// As whom the launcher runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum User {
    /// As whoever runs the tests.
    Own,
    /// Root gives the tests away to somebody without any right.
    Ordinary,
    /// Somebody who is root in a user namespace that has no other user, as in a container of an engine that
    /// runs as a user.
    OnlyRoot,
}

/// An option of env(1). Tests send signals that whoever runs them may have ignored, as `nohup` does, and a
/// launcher leaves those ignored.
pub(crate) const DEFAULT_SIGNALS: &str = "--default-signal=HUP,INT,QUIT";

/// Nobody's number.
pub(crate) const ORDINARY: u32 = 54_321;

pub(crate) fn users() -> Vec<User> {
    if is_root() {
        return vec![User::Own, User::Ordinary, User::OnlyRoot];
    }
    let required = env::var("BOT_BOTTLE_TEST_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|name| name == "root" || name == "all"), "these tests need root");
    eprintln!("SKIPPED every test as root: the tests run as an ordinary user");
    vec![User::Own]
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says aloud that something is not tested here, or fails where it has to be.
pub(crate) fn skip(capability: &str, reason: &str) -> anyhow::Result<()> {
    eprintln!("SKIPPED {reason}");
    let required = env::var("BOT_BOTTLE_TEST_REQUIRE").unwrap_or_default();
    let is_required = required.split(',').any(|name| name == capability || name == "all");
    anyhow::ensure!(!is_required, "{capability} is required here");
    Ok(())
}

/// A test by its name, once for a user.
pub(crate) fn trial(user: User, name: &str, test: fn(User) -> anyhow::Result<()>) -> Trial {
    let kind = match user {
        User::Ordinary => "ordinary",
        User::OnlyRoot => "only-root",
        User::Own if is_root() => "root",
        User::Own => "own",
    };
    Trial::test(format!("{kind}::{name}"), move || {
        test(user).map_err(|error| Failed::from(format!("{error:#}")))
    })
}

/// A home of bot-bottle and one run in it.
pub(crate) struct Fixture {
    pub(crate) folder: TempDir,
    /// What plays the launcher and every other part.
    pub(crate) executable: PathBuf,
    pub(crate) user: User,
    pub(crate) order: Order,
}

/// This executable, where everybody can reach it.
fn executable() -> &'static Path {
    static COPY: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = COPY.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
        let path = folder.path().join("bot-bottle");
        fs::copy(env::current_exe().expect("this executable"), &path).expect("a copy");
        (folder, path)
    });
    path
}

impl Fixture {
    pub(crate) fn new(user: User, command: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("home")).expect("a folder");
        let plan = BottlePlan::for_program(
            "test-aaaaa".parse().expect("an identity"),
            BackendName::Native,
            Program::of_bottle(command.iter().copied()),
        );
        let order = Order {
            plan,
            environment: [("PATH", "/usr/bin:/bin:/usr/sbin:/sbin"), ("LANG", "C.UTF-8")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            home: folder.path().join("home"),
            operator_home: None,
            terminal: Terminal::Pipes,
            fault: None,
            program: None,
            secrets: GatewayStart::default(),
            executable: executable().to_owned(),
            conversations: None,
            is_resumed: false,
            recording: None,
        };
        Self { folder, executable: executable().to_owned(), user, order }
    }

    pub(crate) fn shell(user: User, script: &str) -> Self {
        Self::new(user, &["bash", "-c", script])
    }

    pub(crate) fn fault(mut self, step: Step, when: FaultMoment, kind: FaultKind) -> Self {
        self.order.fault = Some((step, when, kind));
        self
    }

    /// Gives the fixture a program of its own, which belongs to its user as an operator's does.
    pub(crate) fn with_own_program(mut self) -> anyhow::Result<Self> {
        let path = self.folder.path().join("bot-bottle");
        // By a process of its own: one that another test starts would hold on to a file that is written here,
        // and such a file cannot be executed.
        anyhow::ensure!(Command::new("cp").arg(executable()).arg(&path).status()?.success());
        (self.executable, self.order.executable) = (path.clone(), path);
        Ok(self)
    }

    pub(crate) fn run(&self) -> PathBuf {
        self.order.home.join("state/test-aaaaa")
    }

    /// The folder with what the agent wrote, opened: a bottle closes it.
    pub(crate) fn agent_folder(&self) -> PathBuf {
        let folder = self.run().join("agent");
        // There is none any more if nothing was kept.
        let _ = fs::set_permissions(&folder, fs::Permissions::from_mode(0o700));
        folder
    }

    /// This executable with a part to play, as the fixture's user.
    pub(crate) fn part(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("/usr/bin/env");
        command.arg(DEFAULT_SIGNALS);
        if self.user == User::OnlyRoot {
            command.args(["/usr/bin/unshare", "--user", "--map-root-user", "--"]);
        }
        command.arg(&self.executable).args(arguments).env_clear().current_dir("/");
        command.env("SECRET_OF_THE_LAUNCHER", "not-for-the-bottle");
        if self.user != User::Own {
            give_away(self.folder.path());
            command.uid(ORDINARY).gid(ORDINARY);
        }
        command
    }

    /// The launcher.
    pub(crate) fn launcher(&self) -> Command {
        let order = self.folder.path().join("order.json");
        fs::write(&order, serde_json::to_vec(&self.order).expect("JSON")).expect("an order");
        self.part(&["launch-order", &order.to_string_lossy()])
    }

    pub(crate) fn output(&self) -> Output {
        self.launcher().stdin(Stdio::null()).output().expect("a launcher")
    }

    /// Runs the bottle, which has to succeed. What it wrote to its output.
    pub(crate) fn success(&self) -> anyhow::Result<String> {
        let output = self.output();
        anyhow::ensure!(
            output.status.success(),
            "{:?}\nstdout: {}\nstderr: {}\nlog: {}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
            fs::read_to_string(self.run().join("sandbox.log")).unwrap_or_default(),
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Starts the bottle and waits until its program has written a line, which is given as well.
    pub(crate) fn start(&self) -> anyhow::Result<Running> {
        use std::io::{BufRead, BufReader};
        let mut child =
            self.launcher().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut line = String::new();
        let mut reader = BufReader::new(child.stdout.take().expect("piped"));
        reader.read_line(&mut line)?;
        if line.is_empty() {
            let output = child.wait_with_output()?;
            anyhow::bail!("no line: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(Running { child, reader })
    }

    /// Runs a command in the running bottle.
    pub(crate) fn exec(&self, command: &[&str]) -> Output {
        let home = self.order.home.to_string_lossy().into_owned();
        let mut arguments = vec!["exec-order", home.as_str(), "test-aaaaa", "pipes"];
        arguments.extend(command);
        self.part(&arguments).stdin(Stdio::null()).output().expect("a client")
    }

    pub(crate) fn events(&self) -> String {
        fs::read_to_string(self.order.home.join("events")).unwrap_or_default()
    }

    /// Processes that have the fixture's folder in their command line, have a file open in it, or have
    /// something mounted from it.
    pub(crate) fn processes(&self) -> Vec<String> {
        let own = self.order.home.to_string_lossy().into_owned();
        let holds = |process: &Path| {
            let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
            let mut open = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
            let mounts = fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
            open.any(|target| target.starts_with(&self.order.home)) || mounts.contains(&own)
        };
        fs::read_dir("/proc")
            .expect("processes")
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()))
            .filter_map(|entry| {
                let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
                let line = String::from_utf8_lossy(&line).replace('\0', " ");
                (line.contains(&own) || holds(&entry.path()))
                    .then(|| format!("{} {line}", entry.path().display()))
            })
            .collect()
    }

    /// The gateway and the bottle's first process, as the run recorded them.
    pub(crate) fn recorded(&self) -> Vec<i32> {
        let text = fs::read_to_string(self.run().join("resources.json")).unwrap_or_default();
        let resources: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap_or_default();
        let pid = |resource: &serde_json::Value| i32::try_from(resource["process"]["pid"].as_i64()?).ok();
        resources.iter().filter_map(pid).collect()
    }

    /// Nothing runs, is mounted or listens that belongs to the fixture, and `cleanup` leaves an empty state
    /// directory.
    pub(crate) fn expect_clean(&self, processes: &[i32]) -> anyhow::Result<()> {
        eventually("the recorded processes end", || processes.iter().all(|pid| is_gone(*pid)))?;
        eventually("the bottle's processes end", || self.processes().is_empty())
            .with_context(|| format!("{:?}", self.processes()))?;
        let answers = UnixStream::connect(self.run().join("control.sock")).is_ok();
        anyhow::ensure!(!answers, "somebody listens at the control socket");
        let home = self.order.home.to_string_lossy().into_owned();
        let output = self.part(&["cleanup-order", &home]).output()?;
        anyhow::ensure!(output.status.success(), "{output:?}");
        self.expect_nothing_on_disk()
    }

    /// No run has left anything in the state directory.
    pub(crate) fn expect_nothing_on_disk(&self) -> anyhow::Result<()> {
        let left: Vec<_> = fs::read_dir(self.order.home.join("state"))
            .map(|entries| entries.flatten().map(|entry| entry.file_name()).collect())
            .unwrap_or_default();
        anyhow::ensure!(left.iter().all(|name| name == ".lock"), "{left:?}");
        Ok(())
    }
}

fn is_gone(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

/// A bottle whose program runs.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) reader: std::io::BufReader<std::process::ChildStdout>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something is so.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        anyhow::ensure!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Gives a folder to who runs the launcher.
pub(crate) fn give_to(path: &Path, user: User) {
    if user != User::Own {
        give_away(path);
    }
}

fn give_away(path: &Path) {
    chown(path, Some(ORDINARY), Some(ORDINARY)).expect("given away");
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).expect("a folder").flatten() {
            if !entry.path().is_symlink() {
                give_away(&entry.path());
            }
        }
    }
}
