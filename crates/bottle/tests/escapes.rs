//! The whole table of escape attempts in a real bottle of each backend, with recorders on the host: by `run` and by
//! `exec`, as the user of the test and, where that is root, as an ordinary user too.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::{IpAddr, UdpSocket},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use bot_bottle_core::{plan::PROXY_ADDRESS, provider::GuestPaths};
use bot_bottle_probe::{
    Judgement, Script, Verdict,
    canaries::{Canaries, ContextInput},
    judge,
    operator_fixture::{BOTTLE, OperatorFixture, TOKEN_REFERENCE},
    table,
};
use bot_bottle_testkit::{DockerHost, SmolvmGuest, engine, has_user_namespaces, require, static_program};

/// How long a whole run of the table may take.
const TIME_LIMIT: Duration = Duration::from_secs(300);

/// The options of a native bottle.
const NATIVE: [&str; 3] = ["--backend", "native", "--own-binary"];

/// Where the bottle has this program.
const PROGRAM_INSIDE: &str = "/opt/bot-bottle/agent/bot-bottle";

/// An ordinary user, for tests that root runs: `nobody` owns nothing and has no subordinate ids.
const ORDINARY_USER: u32 = 65534;

#[test]
fn every_attempt_is_blocked_in_a_native_bottle() -> Result<()> {
    if !require("userns", has_user_namespaces()) {
        return Ok(());
    }
    let run = Run::set_up(Operator::Own)?;
    let script = run.script(true)?;
    let report = run.output(run.bottled(&NATIVE, &["bot-bottle", "demo-agent", &script]))?;
    run.expect_all_blocked(&report, true)
}

#[test]
fn every_attempt_is_blocked_for_an_ordinary_user_too() -> Result<()> {
    let root = rustix::process::geteuid().is_root();
    if !require("userns", has_user_namespaces()) || !require("root", root) {
        return Ok(());
    }
    let run = Run::set_up(Operator::Ordinary)?;
    let script = run.script(true)?;
    let report = run.output(run.bottled(&NATIVE, &["bot-bottle", "demo-agent", &script]))?;
    run.expect_all_blocked(&report, true)
}

#[test]
fn every_attempt_is_blocked_for_the_only_root_of_a_container() -> Result<()> {
    let root = rustix::process::geteuid().is_root();
    if !require("userns", has_user_namespaces()) || !require("root", root) {
        return Ok(());
    }
    let run = Run::set_up(Operator::OnlyRoot)?;
    let script = run.script(true)?;
    let report = run.output(run.bottled(&NATIVE, &["bot-bottle", "demo-agent", &script]))?;
    run.expect_all_blocked(&report, true)
}

#[test]
fn every_attempt_is_blocked_through_exec() -> Result<()> {
    if !require("userns", has_user_namespaces()) {
        return Ok(());
    }
    let run = Run::set_up(Operator::Own)?;
    let mut bottle = run.bottled(&NATIVE, &["sleep", "600"]);
    let bottle = KillOnDrop(bottle.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    let identity = run.identity_of_running_bottle()?;
    let mut exec = run.program();
    exec.args(["exec", &identity, "--", PROGRAM_INSIDE, "demo-agent", &run.script(false)?]);
    let report = run.output(exec)?;
    ensure!(run.program().args(["stop", &identity]).status()?.success(), "the bottle could not be stopped");
    drop(bottle);
    run.expect_all_blocked(&report, false)
}

#[test]
fn every_attempt_is_blocked_in_a_docker_bottle() -> Result<()> {
    let Some(host) = DockerHost::find() else { return Ok(()) };
    let mut run = Run::set_up(Operator::Own)?;
    run.program.clone_from(&host.program);
    let script = run.script(true)?;
    let options = ["--backend", "docker", "--image", &host.image, "--own-binary"];
    let report = run.output(run.bottled(&options, &["bot-bottle", "demo-agent", &script]));
    // Its work is kept in the engine, and not in a folder that goes with the test.
    ensure!(run.program().args(["cleanup", "--yes", "--force"]).output()?.status.success());
    let report = report?;
    // An engine that does not map users to others (`userns-remap`, rootless) has one user namespace, the host's. The
    // bottle's user has no privilege in it.
    let shares_users = !engine().map_err(anyhow::Error::msg)?.info()?.remaps_users;
    let not_blocked: &[&str] = if shares_users { &["kernel.user-namespace-is-own"] } else { &[] };
    run.expect_blocked_but(not_blocked, &report, true)
}

/// All but those about the kernel: a machine's is its own, and what there is to reach of it belongs to the machine.
#[test]
fn every_attempt_is_blocked_in_a_machine() -> Result<()> {
    let Some(guest) = SmolvmGuest::find() else { return Ok(()) };
    let image = guest.image();
    // A home of the image's own.
    fs::remove_dir_all(image.join("home"))?;
    let mut run = Run::set_up(Operator::Own)?;
    run.program = static_program().map_err(anyhow::Error::msg)?;
    run.smolvm = Some(guest.program());
    run.attempts.retain(|attempt| !attempt.starts_with("kernel."));
    let script = run.script(true)?;
    let options = ["--backend", "smolmachines", "--image", &image.to_string_lossy(), "--own-binary"];
    let report = run.output(run.bottled(&options, &["bot-bottle", "demo-agent", &script]));
    ensure!(run.program().args(["cleanup", "--yes", "--force"]).output()?.status.success());
    run.expect_all_blocked(&report?, true)
}

/// The user that starts the bottle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    /// The user that runs the tests.
    Own,
    /// An unprivileged user.
    Ordinary,
    /// The same user as root of a user namespace without other users, as in a container of a rootless engine.
    OnlyRoot,
}

/// One run with the files of its operator and its canaries.
struct Run {
    // Fields drop in this order: the listening sockets before the files.
    canaries: Canaries,
    fixture: OperatorFixture,
    program: PathBuf,
    /// smolvm's program, for machines.
    smolvm: Option<PathBuf>,
    /// Ids of what is attempted.
    attempts: Vec<String>,
    operator: Operator,
    _folder: tempfile::TempDir,
}

/// A child process that is killed when the test ends.
struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Run {
    fn set_up(operator: Operator) -> Result<Self> {
        // A short name: smolvm's sockets lie far below it.
        let folder = tempfile::Builder::new().prefix("b").tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let program = folder.path().join("bot-bottle");
        // Other users cannot reach a checkout in root's home. Copy in another process: a child that another
        // test forks meanwhile would inherit the writable descriptor, and executing the copy would fail with
        // ETXTBSY.
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_bot-bottle")).arg(&program).status()?;
        ensure!(copied.success(), "the program could not be copied");
        let fixture = OperatorFixture::create(folder.path().join("r"))?;
        let canaries =
            Canaries::start(fixture.unix_socket(), &own_address().into_iter().collect::<Vec<_>>())?;
        fixture.write(&canaries)?;
        if operator != Operator::Own {
            give(fixture.folder(), ORDINARY_USER)?;
        }
        let attempts = table::all().map(|(_, attempt)| attempt.id.to_owned()).collect();
        Ok(Self { canaries, fixture, program, smolvm: None, attempts, operator, _folder: folder })
    }

    fn script(&self, benign_work: bool) -> Result<String> {
        let context = self.canaries.context(ContextInput {
            proxy: PROXY_ADDRESS.parse()?,
            ca_bundle: GuestPaths::default().ca_bundle,
            host_name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            operator_home: self.fixture.operator_home(),
            bot_bottle_home: self.fixture.bot_bottle_home(),
            secret_file: self.fixture.secret_file(),
            operator_sockets: Vec::new(),
        });
        Ok(serde_json::to_string(&Script { context, benign_work, attempts: Some(self.attempts.clone()) })?)
    }

    /// The program, as the operator of the test would start it.
    fn program(&self) -> Command {
        let mut command = match self.operator {
            Operator::Own => Command::new(&self.program),
            Operator::Ordinary | Operator::OnlyRoot => {
                let mut command = Command::new("setpriv");
                command.arg(format!("--reuid={ORDINARY_USER}")).arg(format!("--regid={ORDINARY_USER}"));
                command.arg("--clear-groups");
                if self.operator == Operator::OnlyRoot {
                    command.args(["unshare", "--user", "--map-root-user"]);
                }
                command.arg(&self.program);
                command
            }
        };
        command
            .current_dir(self.fixture.workspace())
            .env("HOME", self.fixture.operator_home())
            .env("BOT_BOTTLE_HOME", self.fixture.bot_bottle_home())
            .env(TOKEN_REFERENCE, self.canaries.credential())
            .envs(self.smolvm.iter().map(|program| ("BOT_BOTTLE_SMOLVM", program)))
            .stdin(Stdio::null());
        command
    }

    fn bottled(&self, options: &[&str], inside: &[&str]) -> Command {
        let mut command = self.program();
        command.args(["run", "--bottle", BOTTLE, "--cwd"]);
        command.args(options).arg("--").args(inside);
        command
    }

    fn output(&self, mut command: Command) -> Result<String> {
        let mut child = KillOnDrop(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?);
        let stdout = child.0.stdout.take().context("stdout is piped")?;
        let mut stderr = child.0.stderr.take().context("stderr is piped")?;
        let messages = thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).map(|_| text)
        });
        let report = thread::spawn(move || BufReader::new(stdout).lines().collect::<Result<Vec<_>, _>>());
        let status = wait(&mut child.0)?;
        let report = report.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??.join("\n");
        let messages = messages.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
        ensure!(status.success(), "{status}\n{messages}\n{report}");
        ensure!(!report.contains(self.canaries.credential()), "the credential is in the report");
        ensure!(
            !messages.contains(self.canaries.credential()),
            "the credential is in what the launcher said"
        );
        Ok(report)
    }

    fn identity_of_running_bottle(&self) -> Result<String> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            let output = self.program().args(["--json", "list", "active"]).output()?;
            let listed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            let text = listed.to_string();
            let found = text.split('"').find(|word| word.starts_with("run-")).map(str::to_owned);
            if let Some(identity) = found {
                return Ok(identity);
            }
            thread::sleep(Duration::from_millis(50));
        }
        bail!("no bottle became active")
    }

    fn expect_all_blocked(&self, report: &str, benign_work: bool) -> Result<()> {
        self.expect_blocked_but(&[], report, benign_work)
    }

    fn expect_blocked_but(&self, known: &[&str], report: &str, benign_work: bool) -> Result<()> {
        let mut judgement = judge(report, self.canaries.leaks());
        ensure!(judgement.complete, "the report broke off:\n{report}");
        ensure!(judgement.unreadable.is_empty(), "not a report: {:?}", judgement.unreadable);
        ensure!(judgement.attempts.len() == self.attempts.len(), "not every attempt was reported");
        judgement.attempts.retain(|attempt| !known.contains(&&*attempt.outcome.id));
        let problems = problems(&judgement);
        ensure!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
        ensure!(judgement.holds());
        if benign_work {
            ensure!(!judgement.steps.is_empty(), "no ordinary work was reported");
            ensure!(
                self.canaries.calls().iter().any(|call| call.authenticated),
                "the credential was not injected"
            );
        }
        Ok(())
    }
}

fn problems(judgement: &Judgement) -> Vec<String> {
    let steps = judgement.steps.iter().filter(|step| !step.worked).map(|step| format!("{step:?}"));
    let attempts =
        judgement.attempts.iter().filter(|attempt| attempt.verdict != Verdict::Blocked).map(|attempt| {
            let seen =
                attempt.seen_outside.iter().map(|seen| format!("\n    {}: {:?}", seen.canary, seen.text));
            format!("{}: {:?}{}", attempt.outcome.id, attempt.outcome.observation, seen.collect::<String>())
        });
    let others = judgement.unattributed.iter().map(|seen| format!("seen outside: {seen:?}"));
    steps.chain(attempts).chain(others).collect()
}

/// The address by which this host would be known outside. Nothing is sent: connecting a datagram socket only
/// chooses a route.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).ok()?;
    socket.connect(("192.0.2.1", 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|address| !address.is_loopback())
}

fn wait(child: &mut Child) -> Result<ExitStatus> {
    let deadline = Instant::now() + TIME_LIMIT;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() > deadline {
            child.kill()?;
            bail!("the bottle was still running after {} s", TIME_LIMIT.as_secs());
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn give(folder: &Path, user: u32) -> Result<()> {
    chown(folder, Some(user), Some(user))?;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if fs::symlink_metadata(&path)?.is_dir() {
            give(&path, user)?
        } else {
            chown(&path, Some(user), Some(user))?
        }
    }
    Ok(())
}
