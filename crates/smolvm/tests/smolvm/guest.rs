//! Real machines, on the stand-in for libkrun.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use bot_bottle_smolvm::{ExecSpec, FileOwner, MachineName, MachineState, Network, RefusalKind, Smolvm, User};
use bot_bottle_testkit::SmolvmGuest;

use crate::fixture::{failure, name, settings, spec};

/// How long a machine may take to be usable after its start; nothing is shown by it.
const READY_LIMIT: Duration = Duration::from_secs(180);

/// How long a killed machine's processes may take to end; nothing is shown by it.
const END_LIMIT: Duration = Duration::from_secs(60);

const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// More than what any pipe, socket or window on the way holds.
const MUCH: usize = 10 * 1024 * 1024;

/// The user that the image has beside root.
const ORDINARY: User = User { uid: 1000, gid: 1000 };

/// A machine without a network that runs.
struct Running {
    smolvm: Smolvm,
    machine: MachineName,
    guest: SmolvmGuest,
}

impl Running {
    fn start() -> Option<Self> {
        let guest = SmolvmGuest::find()?;
        let smolvm =
            Smolvm::open(settings(&guest.program(), &guest.folder().join("state"))).expect("a smolvm");
        let running = Self { smolvm, machine: name("one"), guest };
        running.smolvm.create(&spec("one", &running.guest.image(), Network::None)).expect("a machine");
        running.start_again();
        Some(running)
    }

    fn start_again(&self) {
        let started = self.smolvm.start(&self.machine, None).expect("starting it");
        assert_eq!((started.state, started.network), (MachineState::Running, false));
        self.smolvm
            .wait_until_ready(&self.machine, &ExecSpec::new(["true"]), READY_LIMIT)
            .expect("a usable machine");
    }

    fn command(&self, spec: &ExecSpec) -> Command {
        self.smolvm.exec(&self.machine, spec).expect("a command")
    }

    fn shell(&self, script: &str) -> Output {
        self.command(&ExecSpec::new(["sh", "-c", script])).output().expect("running it")
    }

    fn said(&self, script: &str) -> String {
        let output = self.shell(script);
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }
}

#[test]
fn programs_run_in_a_machine_and_what_they_wrote_outlives_a_stop() {
    let Some(running) = Running::start() else { return };
    let Running { smolvm, machine, guest } = &running;

    assert_eq!(running.said("ls /sys/class/net").trim(), "lo", "it has no network");
    for code in [0, 7, 255] {
        assert_eq!(running.shell(&format!("exit {code}")).status.code(), Some(code));
    }
    let of_ordinary = ExecSpec {
        user: Some(ORDINARY),
        env: BTreeMap::from([("A".to_owned(), "-b=c d".to_owned())]),
        workdir: Some("/tmp".into()),
        ..ExecSpec::new(["sh", "-c", "id -u; id -g; echo \"$A\"; pwd; >/tmp/file; echo to-stderr >&2"])
    };
    let output = running.command(&of_ordinary).output().expect("running it");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1000\n1000\n-b=c d\n/tmp\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains("to-stderr"), "{output:?}");
    assert_eq!(running.said("stat -c %u:%g /tmp/file").trim(), "1000:1000");
    running.said("echo written >/written");

    let here = guest.folder().join("here");
    let there = Path::new("/opt-copied");
    fs::write(&here, b"a file\0\xff").expect("writing it");
    let owner = FileOwner { user: ORDINARY, mode: 0o640 };
    smolvm.copy_in(machine, &here, there, owner).expect("copying it in");
    assert_eq!(running.said("stat -c %u:%g:%a /opt-copied").trim(), "1000:1000:640");
    let back = guest.folder().join("back");
    smolvm.copy_out(machine, there, &back).expect("copying it out");
    assert_eq!(fs::read(&back).expect("reading it"), b"a file\0\xff");
    let (_, text) = failure(smolvm.copy_out(machine, Path::new("/nothing"), &guest.folder().join("nothing")));
    assert!(text.starts_with("copying a file out of the machine one: "), "{text}");

    assert!(!guest.processes().is_empty(), "the machine has processes");
    let stopped = smolvm.stop(machine, STOP_TIMEOUT).expect("stopping it");
    assert_eq!(stopped.state, MachineState::Stopped);
    let (error, text) = failure(smolvm.copy_out(machine, there, &back));
    assert_eq!(error.refusal(), Some(RefusalKind::NotRunning), "{text}");
    running.start_again();
    assert_eq!(running.said("cat /written; stat -c %u:%g:%a /opt-copied"), "written\n1000:1000:640\n");
    assert!(!guest.image().join("opt-copied").exists(), "the image is not written to");

    smolvm.delete(machine).expect("deleting it while it runs");
    assert_eq!(smolvm.machines().expect("machines"), []);
    assert_no_process(guest);
}

#[test]
fn what_a_program_reads_and_writes_arrives_whole() {
    let Some(running) = Running::start() else { return };
    let bytes: Vec<u8> = (0..MUCH).map(|number| (number * 31 % 251) as u8).collect();
    // A counted number of bytes: the end of the client's input does not end the program's.
    let script = format!("head -c {MUCH}");
    let echo = ExecSpec { interactive: true, ..ExecSpec::new(["sh", "-c", &script]) };
    let mut client = running
        .command(&echo)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("starting it");
    let mut input = client.stdin.take().expect("its input");
    let output = thread::scope(|scope| {
        scope.spawn(|| input.write_all(&bytes).expect("writing to it"));
        client.wait_with_output().expect("its output")
    });
    assert!(output.status.success(), "{:?}", output.status);
    assert_eq!(output.stdout.len(), MUCH);
    assert!(output.stdout == bytes, "other bytes");
}

#[test]
fn a_machine_whose_monitor_is_killed_is_stopped_and_leaves_no_process() {
    let Some(running) = Running::start() else { return };
    let Running { smolvm, machine, guest } = &running;
    let pid = smolvm.machine(machine).expect("an answer").expect("the machine").pid.expect("its process");
    let others = guest.processes();
    assert!(others.contains(&pid) && others.len() > 3, "{others:?} with {pid}");
    let killed = Command::new("kill").args(["-KILL", &pid.to_string()]).status().expect("kill runs");
    assert!(killed.success());
    assert_no_process(guest);
    let found = smolvm.machine(machine).expect("an answer").expect("the machine");
    assert!(found.state.is_at_rest(), "{found:?}");
    running.start_again();
    assert!(running.shell("true").status.success());
}

fn assert_no_process(guest: &SmolvmGuest) {
    let deadline = Instant::now() + END_LIMIT;
    while !guest.processes().is_empty() {
        assert!(Instant::now() < deadline, "processes are left: {:?}", guest.processes());
        thread::sleep(Duration::from_millis(50));
    }
}
