//! What the agent made is on the machine's disks, and comes out of there.

use anyhow::{Result, ensure};

use crate::fixture::{Home, described, eventually};

#[test]
fn work_comes_out_when_the_bottle_has_ended() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    let mut bottle =
        home.start("mkdir -p a/b; echo deep > a/b/c; ln -s /etc/passwd link; echo done; sleep 600")?;
    let identity = bottle.identity.clone();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut bottle.output, &mut line)?;
    let active = home.succeeds(&mut home.command(&["list", "active"]))?;
    ensure!(active.contains(&identity), "{active}");
    let refused = home.command(&["diff", &identity]).output()?;
    let message = described(&refused);
    ensure!(refused.status.code() == Some(1) && message.contains("runs"), "{message}");
    ensure!(message.contains("bot-bottle exec"), "it says what to do: {message}");
    home.succeeds(&mut home.command(&["stop", &identity]))?;
    bottle.launcher.wait()?;

    let shown = home.succeeds(&mut home.command(&["diff", &identity]))?;
    ensure!(shown.contains("a/b/c") && shown.contains("link"), "{shown}");
    let copied = home.project().join("copied");
    let from = format!("{identity}:.");
    home.succeeds(&mut home.command(&["cp", &from, &copied.to_string_lossy()]))?;
    ensure!(std::fs::read_to_string(copied.join("a/b/c"))? == "deep\n");
    let machines = home.machines()?;
    ensure!(machines.len() == 1 && machines[0].state.is_at_rest(), "it is off again: {machines:?}");
    home.succeeds(&mut home.command(&["cleanup", "--yes", "--force"]))?;
    home.is_empty()
}

#[test]
fn what_the_agent_made_of_its_workspace_hides_nothing_else() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    let mut bottle = home.start(
        "echo made > work; echo kept > ~/kept; cd ~; mv workspace w; ln -s /etc workspace; sleep 600",
    )?;
    let identity = bottle.identity.clone();
    eventually("the workspace is a link", || {
        let looked =
            home.command(&["exec", &identity, "--", "test", "-L", "/home/agent/workspace"]).output()?;
        Ok(looked.status.success())
    })?;
    home.succeeds(&mut home.command(&["stop", &identity]))?;
    bottle.launcher.wait()?;
    let copied = home.project().join("copied");
    let from = format!("{identity}:/home/agent/kept");
    home.succeeds(&mut home.command(&["cp", &from, &copied.to_string_lossy()]))?;
    ensure!(std::fs::read_to_string(&copied)? == "kept\n");
    home.succeeds(&mut home.command(&["cleanup", "--yes", "--force"]))?;
    home.is_empty()
}
