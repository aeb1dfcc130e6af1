//! What goes in and out: arguments, environment, streams, codes.

use std::{
    fs,
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
        trial(user, "every_byte_arrives_as_it_is_both_ways", every_byte),
        trial(user, "input_that_nobody_reads_holds_nothing_up", unread_input),
        trial(user, "a_closed_output_is_a_broken_pipe", closed_output),
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

fn every_byte(user: User) -> anyhow::Result<()> {
    let fixture = Fixture::shell(user, "tee /dev/stderr");
    let mut child =
        fixture.launcher().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // A prime number, so that no buffer's size divides it.
    let sent: Vec<u8> = (0..7_000_003_u32).map(|number| ((number % 251) ^ (number >> 13)) as u8).collect();
    let mut stdin = child.stdin.take().context("piped")?;
    let copy = sent.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&copy));
    let output = child.wait_with_output()?;
    ensure!(writer.join().is_ok_and(|written| written.is_ok()), "all of it was taken");
    ensure!(output.status.success(), "{:?}", output.status);
    ensure!(output.stdout == sent, "{} of {} bytes, or others", output.stdout.len(), sent.len());
    ensure!(output.stderr == sent, "{} of {} bytes, or others", output.stderr.len(), sent.len());
    Ok(())
}

fn unread_input(user: User) -> anyhow::Result<()> {
    let fixture = Fixture::shell(user, "head -c 1; exit 3");
    let mut launcher = fixture.launcher();
    // More than any buffer on the way holds.
    let mut child =
        launcher.stdin(fs::File::open("/dev/zero")?).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    ensure!(child.wait()?.code() == Some(3));
    Ok(())
}

fn closed_output(user: User) -> anyhow::Result<()> {
    let fixture = Fixture::new(user, &["yes"]);
    let mut child = fixture.launcher().stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut first = [0; 2];
    child.stdout.take().context("piped")?.read_exact(&mut first)?;
    ensure!(&first == b"y\n");
    // SIGPIPE, as it would have been outside.
    ensure!(child.wait()?.code() == Some(128 + 13));
    ensure!(!fixture.run().exists(), "nothing is left");
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
