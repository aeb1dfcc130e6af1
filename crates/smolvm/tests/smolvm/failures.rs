//! Every call failing in every way.

use std::{
    env,
    ffi::OsString,
    fs,
    io::Write as _,
    net::Ipv4Addr,
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use bot_bottle_core::gateway_config::InterceptorToken;
use bot_bottle_smolvm::{
    Environment, ExecSpec, FileOwner, Interceptor, Machine, MachineState, Network, RefusalKind, Settings,
    Smolvm, SmolvmError, User,
};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::{
    double::Double,
    fixture::{failure, name},
};

const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// For what a test waits for, and which comes.
const PATIENCE: Duration = Duration::from_secs(120);

fn interceptor() -> Interceptor {
    let token = InterceptorToken::new([0x5a; 32]);
    Interceptor::new((Ipv4Addr::LOCALHOST, 4000).into(), token).expect("an interceptor")
}

/// Every call that runs the program, with the function of the double that it ends in.
type Attempt = fn(&Smolvm, &Double) -> Result<(), SmolvmError>;
const CALLS: [(&str, &str, Attempt); 8] = [
    ("ls_", "listing machines", |smolvm, _| smolvm.machines().map(drop)),
    ("create", "creating the machine one", |smolvm, double| {
        smolvm.create(&double.spec(Network::None)).map(drop)
    }),
    ("start", "starting the machine one", |smolvm, _| smolvm.start(&name("one"), None).map(drop)),
    ("stop", "stopping the machine one", |smolvm, _| smolvm.stop(&name("one"), STOP_TIMEOUT).map(drop)),
    ("delete", "deleting the machine one", |smolvm, _| smolvm.delete(&name("one"))),
    ("data_dir", "asking for the folder of the machine one", |smolvm, _| {
        smolvm.data_dir(&name("one")).map(drop)
    }),
    ("logs", "reading the log of the machine one", |smolvm, _| smolvm.logs(&name("one"), 5).map(drop)),
    ("cp_", "copying a file into the machine one", |smolvm, _| {
        let owner = FileOwner { user: User { uid: 0, gid: 0 }, mode: 0o600 };
        smolvm.copy_in(&name("one"), Path::new("/a"), Path::new("/b"), owner)
    }),
];

/// The state of the machine in which a call makes sense.
fn state_for(function: &str) -> &'static str {
    if matches!(function, "start" | "create") { "created" } else { "running" }
}

#[test]
fn every_call_names_what_it_did_and_what_smolvm_said() {
    for (function, action, call) in CALLS {
        let double = Double::new("");
        let smolvm = double.with_machine(state_for(function));
        call(&smolvm, &double).unwrap_or_else(|error| panic!("{function}: {error}"));

        double.play(&format!("{function}() {{ echo 'a \u{1b}[33mline\u{1b}[0m' >&2; fail 'no luck'; }}"));
        let smolvm = double.with_machine(state_for(function));
        let (error, text) = failure(call(&smolvm, &double));
        assert_eq!(text, format!("{action}: no luck\n  a line"));
        let SmolvmError::Refused { code, kind, .. } = error else { panic!("{error:?}") };
        assert_eq!((code.as_deref(), kind), (Some("SMOLVM_ERROR"), RefusalKind::Other));
    }
}

#[test]
fn a_program_without_words_or_killed_is_an_error_too() {
    let double = Double::new("ls_() { exit 3; }");
    let (_, text) = failure(double.smolvm().machines());
    assert_eq!(text, "listing machines: smolvm ended with exit code 3");
    double.play("ls_() { kill -9 $$; }");
    let (_, text) = failure(double.smolvm().machines());
    assert_eq!(text, "listing machines: smolvm was killed by a signal");
}

#[test]
fn garbage_is_not_taken_for_an_answer() {
    type Question = fn(&Smolvm) -> Result<(), SmolvmError>;
    let questions: [(&str, Question); 3] = [
        ("ls_", |smolvm| smolvm.machines().map(drop)),
        ("status", |smolvm| smolvm.machine(&name("one")).map(drop)),
        ("data_dir", |smolvm| smolvm.data_dir(&name("one")).map(drop)),
    ];
    for (function, question) in questions {
        for garbage in ["", "[{]", "null", "{\"name\":\"two\"}", "/etc", "\\377\\376"] {
            let double = Double::new(&format!("{function}() {{ printf '{garbage}'; }}"));
            let (error, text) = failure(question(&double.with_machine("running")));
            assert!(matches!(error, SmolvmError::Unexpected { .. }), "{function} {garbage}: {text}");
        }
    }
    // A machine, but another one.
    let other = "status() { machine | sed s/one/two/; }";
    let (_, text) = failure(Double::new(other).with_machine("running").machine(&name("one")));
    assert!(text.ends_with("it is about the machine two"), "{text}");
}

#[test]
fn output_is_bounded() {
    for function in ["ls_", "logs"] {
        let double = Double::new(&format!("{function}() {{ exec yes; }}"));
        let smolvm = double.with_machine("running");
        let (_, text) = failure(match function {
            "ls_" => smolvm.machines().map(drop),
            _ => smolvm.logs(&name("one"), 1).map(drop),
        });
        assert!(text.ends_with("cannot be understood: it is too long"), "{text}");
    }
    // An error after megabytes of log lines is found.
    let noisy = "ls_() { yes noise | head -c 3000000 >&2; fail 'the end'; }";
    let (_, text) = failure(Double::new(noisy).smolvm().machines());
    assert!(text.starts_with("listing machines: the end\n  noise") && text.len() < 1000, "{text}");
}

#[test]
fn what_never_answers_is_killed_with_what_it_started() {
    let double = Double::new("ls_() { sleep 100000 & echo $! >\"$HOME/pid\"; wait; }");
    let mut settings = double.settings.clone();
    settings.limits.call = Duration::from_secs(1);
    // On a slow host the double may be killed before it has started anything.
    let pid = loop {
        assert!(settings.limits.call < PATIENCE, "the double never started its child");
        let opened = Smolvm::open(settings.clone());
        settings.limits.call *= 2;
        let Ok(smolvm) = opened else { continue };
        let (error, text) = failure(smolvm.machines());
        assert!(matches!(error, SmolvmError::TimedOut { .. }), "{text}");
        assert!(text.starts_with("listing machines: smolvm did not end within "), "{text}");
        if let Ok(pid) = double.read("pid").trim().parse() {
            break Pid::from_raw(pid).expect("a process");
        }
    };
    let began = Instant::now();
    while is_alive(pid) {
        assert!(began.elapsed() < PATIENCE, "the child lives");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A zombie is not alive: whoever adopted it may take its time.
fn is_alive(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).unwrap_or_default();
    test_kill_process(pid).is_ok() && !stat.contains(") Z ")
}

#[test]
fn a_call_ends_with_the_program_and_not_with_what_it_leaves() {
    let double = Double::new("start() { sleep 100000 & echo $! >\"$HOME/pid\"; become running; }");
    let started = double.with_machine("created").start(&name("one"), None);
    let pid = double.read("pid").trim().parse().ok().and_then(Pid::from_raw).expect("a process");
    let was_alive = is_alive(pid);
    kill_process(pid, Signal::KILL).expect("killing it");
    started.expect("a machine that runs");
    assert!(was_alive, "what a start leaves is the virtual machine");
}

#[test]
fn success_that_the_state_does_not_show_is_an_error() {
    let disagreement = |result: Result<(), SmolvmError>| {
        let (error, text) = failure(result);
        assert!(matches!(error, SmolvmError::Disagreement { .. }), "{text}");
        text
    };
    for (function, action, call) in
        CALLS.into_iter().filter(|(name, ..)| matches!(*name, "start" | "stop" | "delete"))
    {
        let double = Double::new(&format!("{function}() {{ echo done; }}"));
        let state = state_for(function);
        let text = disagreement(call(&double.with_machine(state), &double));
        assert_eq!(text, format!("{action}: smolvm reports success, but the machine is {state}"));
    }
    let double = Double::new("create() { echo done; }");
    let create = |double: &Double, network| double.smolvm().create(&double.spec(network)).map(drop);
    let text = disagreement(create(&double, Network::None));
    assert!(text.ends_with("there is no such machine"), "{text}");
    let open = Double::new("network() { echo true; }");
    assert!(disagreement(create(&open, Network::None)).ends_with("it has a network"));
    assert!(create(&open, Network::Interceptor).is_ok());
    let closed = Double::new("network() { echo false; }");
    assert!(disagreement(create(&closed, Network::Interceptor)).ends_with("it has no network"));
    assert!(create(&closed, Network::None).is_ok());
}

#[test]
fn a_start_that_smolvm_did_not_wait_for_is_tried_once_more() {
    let slow = "fail 'agent did not become ready within 30 seconds'";
    let once = format!(
        "start() {{ [ -e \"$HOME/late\" ] || {{ : >\"$HOME/late\"; {slow}; }}; become unreachable; }}"
    );
    let double = Double::new(&once);
    let started = double.with_machine("created").start(&name("one"), Some(&interceptor())).expect("it runs");
    assert_eq!(started.state, MachineState::Unreachable, "too busy to answer at once");
    let never = Double::new(&format!("start() {{ {slow}; }}"));
    let (error, text) = failure(never.with_machine("created").start(&name("one"), Some(&interceptor())));
    assert_eq!(error.refusal(), Some(RefusalKind::NotReady), "{text}");
    assert_eq!(never.read("calls").matches("machine start").count(), 2);
}

#[test]
fn a_failure_whose_purpose_is_reached_is_none() {
    let double =
        Double::new("stop() { become stopped; fail late; }\ndelete() { rm \"$HOME/machine\"; fail late; }");
    let smolvm = double.with_machine("running");
    let stopped = smolvm.stop(&name("one"), STOP_TIMEOUT).expect("a stopped machine");
    assert!(stopped.state.is_at_rest());
    smolvm.delete(&name("one")).expect("it is gone");
    assert_eq!(smolvm.machine(&name("one")).expect("an answer"), None);
}

#[test]
fn one_command_at_a_time_on_one_machine() {
    let double = Double::new("start() { read -r gate <\"$HOME/gate\"; become running; }");
    rustix::fs::mkfifoat(rustix::fs::CWD, double.path("gate"), 0o600.into()).expect("a pipe");
    let smolvm = double.with_machine("created");
    let mut impatient = double.settings.clone();
    impatient.limits.lock = Duration::ZERO;
    let impatient = Smolvm::open(impatient).expect("a smolvm");
    let started = thread::scope(|scope| {
        let starting = scope.spawn(|| smolvm.start(&name("one"), None));
        let began = Instant::now();
        while !double.read("calls").contains("machine start") {
            assert!(began.elapsed() < PATIENCE, "the start does not begin");
            thread::sleep(Duration::from_millis(10));
        }
        let refused = impatient.delete(&name("one"));
        let question = impatient.machine(&name("one"));
        let mut gate = fs::OpenOptions::new().write(true).open(double.path("gate")).expect("the pipe");
        gate.write_all(b"go\n").expect("opening the gate");
        let (error, text) = failure(refused);
        assert!(matches!(error, SmolvmError::Locked { .. }), "{text}");
        assert!(text.starts_with("deleting the machine one: another command"), "{text}");
        assert!(question.expect("questions need no lock").is_some());
        starting.join().expect("a thread")
    });
    started.expect("a machine that runs");
    impatient.delete(&name("one")).expect("nobody holds the lock");
    assert!(!double.path("locks/one").exists(), "the lock goes with the machine");
}

#[test]
fn smolvm_gets_its_own_environment_and_the_token_no_argument() {
    let double = Double::new("");
    let mut settings = double.settings.clone();
    let secrets = ["SSH_AUTH_SOCK", "SMOLVM_MACHINE_NAME", "XDG_CACHE_HOME", "ANTHROPIC_API_KEY", "TERM"];
    let caller = secrets.map(|name| (OsString::from(name), OsString::from("of-the-caller")));
    let path = env::vars_os().filter(|(name, _)| name == "PATH");
    settings.environment = Environment::of_caller(path.chain(caller));
    let smolvm = Smolvm::open(settings).expect("a smolvm");
    smolvm.create(&double.spec(Network::Interceptor)).expect("a machine");
    let lines = |text: String| -> Vec<String> {
        text.lines()
            .filter(|line| line.contains("of-the-caller") || line.contains("SMOLVM"))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(lines(double.read("environment")), ["TERM=of-the-caller"]);

    double.play("start() { cp \"$HOME/environment\" \"$HOME/environment-of-start\"; become running; }");
    smolvm.start(&name("one"), Some(&interceptor())).expect("a machine that runs");
    let mut seen = lines(double.read("environment-of-start"));
    seen.sort();
    assert_eq!(
        seen,
        [format!("SMOLVM_INTERCEPTOR_TOKEN={}", "5a".repeat(32)), "TERM=of-the-caller".to_owned()]
    );
    assert_eq!(lines(double.read("environment")), ["TERM=of-the-caller"], "of the call after it");
    assert!(!double.read("calls").contains("5a5a"));
    assert!(double.read("calls").contains("--egress-interceptor=127.0.0.1:4000"));
}

#[test]
fn an_open_network_is_not_started_by_any_version() {
    let double = Double::new("network() { echo true; }");
    let smolvm = double.with_machine("created");
    let (error, text) = failure(smolvm.start(&name("one"), None));
    assert!(matches!(error, SmolvmError::OpenNetwork { .. }), "{text}");
    assert!(!double.read("calls").contains("machine start"));
    let running: Machine = smolvm.start(&name("one"), Some(&interceptor())).expect("a machine that runs");
    assert!(running.network);
}

#[test]
fn a_program_is_run_with_the_streams_of_the_caller() {
    let double = Double::new("exec_() { cat; exit 42; }");
    let spec = ExecSpec { interactive: true, ..ExecSpec::new(["cat"]) };
    let mut command = double.with_machine("running").exec(&name("one"), &spec).expect("a command");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("running it");
    child.stdin.take().expect("its input").write_all(b"to and fro").expect("writing");
    let output = child.wait_with_output().expect("its output");
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(42), &b"to and fro"[..]));
}

#[test]
fn programs_that_cannot_be_used_are_refused() {
    let version = |line: &str| Double::new(&format!("version() {{ echo '{line}'; }}"));
    let (error, text) = failure(version("smolvm 1.28.0").open());
    assert!(matches!(error, SmolvmError::TooOld { .. }), "{text}");
    let (error, text) = failure(version("podman version 5.0.0").open());
    assert!(matches!(error, SmolvmError::NotSmolvm { .. }) && text.contains("podman version"), "{text}");
    assert!(version("smolvm 9.0.0").smolvm().version().is_untested());

    let double = Double::new("");
    let without = |change: &dyn Fn(&mut Settings)| {
        let mut settings = double.settings.clone();
        change(&mut settings);
        failure(Smolvm::open(settings))
    };
    let (error, text) = without(&|settings| settings.program = "/nonexistent/smolvm".into());
    assert!(matches!(error, SmolvmError::NotExecutable { .. }), "{text}");
    for path in
        ["relative".to_owned(), double.path(&"x".repeat(Settings::MAX_STATE_DIR)).display().to_string()]
    {
        let (error, text) = without(&|settings| settings.state_dir = path.clone().into());
        assert!(matches!(error, SmolvmError::StateDirectory { .. }), "{text}");
        assert!(!Path::new(&path).exists());
    }
    assert!(double.open().is_ok());
}

#[test]
fn an_older_smolvm_gets_no_option_that_it_does_not_know() {
    let double = Double::new("version() { echo smolvm 1.31.9; }");
    let smolvm = double.with_machine("created");
    let (error, text) = failure(smolvm.start(&name("one"), Some(&interceptor())));
    assert!(matches!(error, SmolvmError::Unsupported { .. }), "{text}");
    let (error, text) = failure(smolvm.create(&double.spec(Network::Interceptor)));
    assert!(matches!(error, SmolvmError::Unsupported { .. }), "{text}");
    smolvm.start(&name("one"), None).expect("a machine that runs");

    let double = Double::new("version() { echo smolvm 1.28.1; }");
    double.smolvm().machines().expect("machines");
    assert_eq!(double.read("calls"), "--version\n--error-format=json machine ls --json\n");
}
