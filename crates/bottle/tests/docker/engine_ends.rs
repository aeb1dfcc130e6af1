//! An engine that ends under a running bottle takes it along, and takes nothing of the work away.

use std::io::Read;

use anyhow::{Context, Result, ensure};
use bot_bottle_testkit::PrivateEngine;

use crate::fixture::Home;

fn engine_ends(end: impl FnOnce(&mut PrivateEngine)) -> Result<()> {
    let Some(mut engine) = PrivateEngine::start() else { return Ok(()) };
    let home = Home::on(engine.host().map_err(anyhow::Error::msg)?, engine.engine())?;
    let mut bottle = home.start(&[], "echo made > work; echo written; sleep 600")?;
    let mut line = [0; 8];
    bottle.launcher.stdout.as_mut().context("piped")?.read_exact(&mut line)?;
    ensure!(line == *b"written\n");

    end(&mut engine);
    let status = bottle.launcher.wait()?;
    let mut message = String::new();
    bottle.launcher.stderr.as_mut().context("piped")?.read_to_string(&mut message)?;
    ensure!(status.code() == Some(1), "{status:?}: {message}");
    let errors = message.lines().filter(|line| line.starts_with("error")).count();
    ensure!(errors == 1 && message.contains("was ended"), "{errors} errors: {message}");
    ensure!(message.contains("engine"), "it says what may be the reason: {message}");

    engine.start_again();
    home.containers_end(&bottle.identity)?;
    let copied = home.project().join("copied");
    let from = format!("{}:work", bottle.identity);
    home.succeeds(&mut home.command(&["cp", &from, &copied.to_string_lossy()]))?;
    ensure!(std::fs::read_to_string(&copied)? == "made\n", "the work is there");
    let identity = bottle.identity.clone();
    drop(bottle);
    home.clean_up()?;
    let left = home.objects(&identity)?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

#[test]
fn a_bottle_whose_engine_is_killed_ends_with_one_error_and_keeps_its_work() -> Result<()> {
    engine_ends(PrivateEngine::kill)
}

#[test]
fn a_bottle_whose_engine_is_restarted_ends_with_one_error_and_keeps_its_work() -> Result<()> {
    engine_ends(PrivateEngine::stop)
}
