//! The steps of a launch, driven through a backend that records them.

use std::{
    fs,
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    fixture::{Fixture, User, eventually, trial},
    recording::Recording,
};

pub(crate) fn trials(user: User) -> Vec<Trial> {
    vec![
        trial(user, "steps_happen_in_their_order", order),
        trial(user, "a_failure_at_any_call_undoes_what_was_begun", failures),
        trial(user, "exec_and_signals_go_to_the_right_session", sessions),
    ]
}

fn recorded(user: User, fails: Option<&str>, agent_ends: Option<u8>) -> Fixture {
    let mut fixture = Fixture::new(user, &["agent", "argument"]);
    fixture.order.recording = Some(Recording {
        calls: fixture.order.home.join("calls"),
        owned: fixture.order.home.join("bot-bottle-owned"),
        fails: fails.map(str::to_owned),
        agent_ends,
    });
    fixture
}

fn calls(fixture: &Fixture) -> Vec<String> {
    let text = fs::read_to_string(fixture.order.home.join("calls")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Every call of a launch whose agent ends by itself, in their order.
const CALLS: [&str; 11] = [
    "check",
    "start gateway",
    "start sandbox",
    "listeners",
    "hand over [] Bound([BoundSocket { kind: Proxy, address: 127.0.0.1:3128 }])",
    "ready",
    "initialise",
    "exec 0 [\"agent\", \"argument\"]",
    "kill",
    "drop sandbox",
    "drop gateway",
];

fn order(user: User) -> anyhow::Result<()> {
    let fixture = recorded(user, None, Some(3));
    let output = fixture.output();
    ensure!(output.status.code() == Some(3), "{output:?}");
    ensure!(calls(&fixture) == CALLS, "{:#?}", calls(&fixture));
    ensure!(fixture.events().contains("Note(\"a note\")"), "{}", fixture.events());
    ensure!(!fixture.order.home.join("bot-bottle-owned").exists(), "what it owned is released");
    fixture.expect_nothing_on_disk()
}

fn failures(user: User) -> anyhow::Result<()> {
    for (number, failing) in CALLS.iter().enumerate().take_while(|(_, call)| **call != "kill") {
        let fixture = recorded(user, Some(failing), Some(3));
        let output = fixture.output();
        let text = String::from_utf8(output.stderr)?;
        ensure!(output.status.code() == Some(70), "{failing}: {text}");
        ensure!(text.starts_with("error: "), "{failing}: {text}");
        let mut expected = CALLS[..=number].to_vec();
        // A gateway that takes nothing any more is asked why.
        if failing.starts_with("hand over") {
            expected.push("ready");
        }
        let (gateway, sandbox) = (number >= 2, number >= 3);
        expected.extend(sandbox.then_some("drop sandbox"));
        expected.extend(gateway.then_some("drop gateway"));
        ensure!(calls(&fixture) == expected, "{failing}: {:#?}", calls(&fixture));
        ensure!(!fixture.order.home.join("bot-bottle-owned").exists(), "{failing}: it is released");
        fixture.expect_nothing_on_disk().with_context(|| (*failing).to_owned())?;
    }
    Ok(())
}

fn sessions(user: User) -> anyhow::Result<()> {
    let fixture = recorded(user, None, None);
    let mut launcher = fixture.launcher().stdin(Stdio::null()).spawn()?;
    eventually("the agent is started", || calls(&fixture).iter().any(|call| call.starts_with("exec 0")))?;
    let home = fixture.order.home.to_string_lossy().into_owned();
    let mut clients = Vec::new();
    for (session, name) in [(1, "first"), (2, "second")] {
        let mut client = fixture.part(&["exec-order", &home, "test-aaaaa", "pipes", name]);
        clients.push(client.stdin(Stdio::null()).spawn()?);
        let started = format!("exec {session} [{name:?}]");
        eventually("the command is started", || calls(&fixture).contains(&started))?;
    }
    for (client, (session, signal)) in clients.iter_mut().zip([(1, Signal::TERM), (2, Signal::INT)]) {
        kill_process(Pid::from_raw(client.id().cast_signed()).context("a process")?, signal)?;
        let code = client.wait()?.code();
        ensure!(code == Some(128 + signal.as_raw()), "session {session}: {code:?}");
    }
    let stop: &mut Command = &mut fixture.part(&["stop-order", &home, "test-aaaaa"]);
    ensure!(stop.status()?.success());
    ensure!(launcher.wait()?.code() == Some(128 + 15));
    let sent: Vec<String> = calls(&fixture).into_iter().filter(|call| call.starts_with("signal")).collect();
    ensure!(sent == ["signal 1 15", "signal 2 2", "signal 0 15"], "{sent:?}");
    fixture.expect_nothing_on_disk()
}
