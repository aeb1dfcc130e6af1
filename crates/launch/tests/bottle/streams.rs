//! What goes in and out: arguments, environment, streams, codes.

use std::{
    io::{Read, Write},
    process::Stdio,
};

use anyhow::{Context, ensure};
use libtest_mimic::Trial;

use crate::fixture::{Fixture, User, trial};

pub(crate) fn trials(user: User) -> Vec<Trial> {
    vec![
        trial(user, "a_command_runs_as_the_agent", runs_as_the_agent),
        trial(user, "streams_and_exit_codes_pass_through", pass_through),
        trial(user, "large_output_arrives_whole", large_output),
        trial(user, "a_signal_is_an_exit_code", signals),
        trial(user, "a_missing_command_is_an_error", missing_command),
    ]
}

fn runs_as_the_agent(user: User) -> anyhow::Result<()> {
    let fixture = Fixture::shell(
        user,
        "id -u; id -g; pwd; echo $HOME; hostname; whoami; ls -A ~; umask; env | grep -c SECRET",
    );
    let output = fixture.output();
    let text = String::from_utf8(output.stdout)?;
    ensure!(
        text == "1000\n1000\n/home/agent/workspace\n/home/agent\nbottle\nagent\nworkspace\n0022\n0\n",
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn pass_through(user: User) -> anyhow::Result<()> {
    let fixture = Fixture::shell(user, "cat; echo to-error >&2; exit 7");
    let mut child =
        fixture.launcher().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("piped")?.write_all(b"from the operator")?;
    let output = child.wait_with_output()?;
    ensure!(output.stdout == b"from the operator", "{output:?}");
    ensure!(output.stderr == b"to-error\n", "{output:?}");
    ensure!(output.status.code() == Some(7), "{output:?}");
    ensure!(!fixture.run().exists(), "nothing is left");
    Ok(())
}

fn large_output(user: User) -> anyhow::Result<()> {
    let fixture = Fixture::shell(user, "head -c 30000000 /dev/zero");
    let mut child = fixture.launcher().stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut output = Vec::new();
    child.stdout.take().context("piped")?.read_to_end(&mut output)?;
    ensure!(output.len() == 30_000_000, "{}", output.len());
    ensure!(child.wait()?.success());
    Ok(())
}

fn signals(user: User) -> anyhow::Result<()> {
    let output = Fixture::shell(user, "kill -TERM $$").output();
    ensure!(output.status.code() == Some(128 + 15), "{output:?}");
    Ok(())
}

fn missing_command(user: User) -> anyhow::Result<()> {
    let fixture = Fixture::new(user, &["no-such-program"]);
    let output = fixture.output();
    let text = String::from_utf8(output.stderr)?;
    ensure!(
        text.starts_with(
            "error: `no-such-program` could not be run in the bottle: running the program: No such"
        ),
        "{text}"
    );
    ensure!(!fixture.run().exists(), "nothing is left");
    Ok(())
}
