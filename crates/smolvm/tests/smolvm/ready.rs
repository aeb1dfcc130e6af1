//! Waiting for a machine.

use std::{fs, time::Duration};

use bot_bottle_smolvm::{ExecSpec, Smolvm, SmolvmError};

use crate::{
    double::Double,
    fixture::{failure, name},
};

/// Longer than any test may take: what is to end early does not depend on it.
const LONG: Duration = Duration::from_secs(600);

const SHORT: Duration = Duration::from_millis(300);

fn wait(smolvm: &Smolvm, limit: Duration) -> Result<(), SmolvmError> {
    smolvm.wait_until_ready(&name("one"), &ExecSpec::new(["true"]), limit)
}

#[test]
fn it_is_tried_until_it_succeeds() {
    let attempts = "exec_() { echo x >>\"$HOME/attempts\"; [ \"$(wc -l <\"$HOME/attempts\")\" -ge 4 ] || fail 'not yet'; }";
    let double = Double::new(attempts);
    wait(&double.with_machine("running"), LONG).expect("a machine");
    assert_eq!(double.read("attempts").lines().count(), 4);
    let calls = double.read("calls");
    assert!(calls.contains("machine exec --name=one -- true"), "{calls}");
}

#[test]
fn a_time_out_says_why_and_what_the_console_shows() {
    let double = Double::new("exec_() { fail 'connect: connection refused'; }");
    fs::create_dir(double.path("data")).expect("a folder");
    fs::write(double.path("data/agent-console.log"), "booting\n\u{1b}[31mpanic\u{1b}[0m\n")
        .expect("a console");
    let (error, text) = failure(wait(&double.with_machine("running"), SHORT));
    assert!(matches!(error, SmolvmError::NotReady { .. }), "{text}");
    let (begin, rest) = text.split_once(" s: ").expect("a time");
    assert!(begin.starts_with("the machine one is not usable: exec channel not ready after "), "{text}");
    assert_eq!(rest, "connect: connection refused\n  agent-console.log: booting\n  agent-console.log: panic");
}

#[test]
fn an_attempt_that_hangs_ends_and_is_repeated() {
    let double = Double::new("exec_() { exec sleep 100000; }");
    fs::write(double.path("machine"), "running").expect("writing the state");
    let mut settings = double.settings.clone();
    settings.limits.probe = Duration::from_millis(100);
    let smolvm = Smolvm::open(settings).expect("a smolvm");
    let (error, text) = failure(wait(&smolvm, Duration::from_secs(2)));
    assert!(matches!(error, SmolvmError::NotReady { .. }), "{text}");
    assert!(text.contains("no answer within 0.1 s"), "{text}");
}

#[test]
fn a_machine_that_ended_is_not_waited_for() {
    for (scenario, expected) in [
        ("exec_() { become stopped; fail broken; }", "the machine is stopped: broken"),
        ("exec_() { rm \"$HOME/machine\"; fail broken; }", "there is no such machine: broken"),
    ] {
        let double = Double::new(scenario);
        let (error, text) = failure(wait(&double.with_machine("running"), LONG));
        assert!(matches!(error, SmolvmError::NotReady { .. }), "{text}");
        assert!(text.contains(expected), "{text}");
        assert_eq!(double.read("calls").matches("machine exec").count(), 1);
    }
}
