//! Secrets that are renewed while a bottle runs.

use std::{
    fs,
    os::unix::fs::symlink,
    process::Stdio,
    sync::{Arc, Mutex},
};

use anyhow::{Result, ensure};
use bot_bottle_testkit::{Answer, CodexLogin, Needle, SeenRequest, eventually, random_secret, search_tree};

use crate::{fixture::Home, stepping::Stepping};

/// The service has been sent this secret by a request for this step.
fn was_sent(home: &Home, step: &str, value: &str) -> bool {
    let path = format!("/{step}");
    let credential = format!("Bearer {value}");
    home.upstream
        .requests()
        .iter()
        .any(|request| request.path == path && request.header("authorization") == Some(&credential))
}

fn renewals(home: &Home) -> Result<usize> {
    Ok(home.receipts()?.iter().filter(|line| line["renewal"] == "renewed").count())
}

#[test]
fn a_file_that_is_replaced_gives_the_next_request_its_new_value() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    let values = [random_secret("first_"), random_secret("second_")];
    home.replace("token", &values[0])?;
    home.secrets("  API_TOKEN: {file: ~/token}\n")?;
    let bottle = Stepping::start(&home, &["one", "two"])?;
    bottle.step("one")?;
    ensure!(was_sent(&home, "one", &values[0]), "{:?}", home.sent());
    home.replace("token", &format!("{}\n", values[1]))?;
    eventually("it is renewed", || Ok(renewals(&home)? > 0))?;
    bottle.step("two")?;
    ensure!(was_sent(&home, "two", &values[1]), "{:?}", home.sent());
    let printed = bottle.finish()?;
    let needles: Vec<_> = values.iter().map(|value| Needle::new("a secret", value)).collect();
    let found = search_tree(&home.path(".bot-bottle/state"), &[], &needles);
    ensure!(
        found.is_empty() && !values.iter().any(|value| printed.contains(value.as_str())),
        "{found:?} {printed}"
    );
    Ok(())
}

/// Nine hours of a clock that the test moves.
#[test]
fn a_command_is_asked_again_each_hour() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    home.replace("clock", "0")?;
    home.secrets("  API_TOKEN: {command: [sh, -c, \"echo x >> asked; cat token\"], renew_every: 1h}\n")?;
    let values: Vec<String> = (0..9).map(|hour| random_secret(&format!("hour{hour}_"))).collect();
    home.replace("token", &values[0])?;
    let steps: Vec<String> = (0..9).map(|hour| format!("hour{hour}")).collect();
    let bottle = Stepping::start(&home, &steps.iter().map(String::as_str).collect::<Vec<_>>())?;
    for hour in 0..9 {
        if hour > 0 {
            home.replace("token", &values[hour])?;
            home.replace("clock", &(hour * 3600 + 30).to_string())?;
            eventually(&format!("renewal {hour}"), || Ok(renewals(&home)? >= hour))?;
        }
        bottle.step(&steps[hour])?;
        ensure!(was_sent(&home, &steps[hour], &values[hour]), "hour {hour}: {:?}", home.sent());
    }
    bottle.finish()?;
    let asked = fs::read_to_string(home.path("asked"))?.lines().count();
    ensure!(asked == 9, "at the start and eight times more: {asked}");
    Ok(())
}

/// The service takes only the token that the operator's program would give now.
#[test]
fn a_refused_credential_is_renewed_and_the_request_sent_again() -> Result<()> {
    let valid = Arc::new(Mutex::new(random_secret("first_")));
    let known = Arc::clone(&valid);
    let service = move |request: &SeenRequest| {
        let expected = format!("Bearer {}", known.lock().expect("no panic"));
        let is_valid = request.header("authorization") == Some(&expected);
        let status = if is_valid { 200 } else { 401 };
        Answer::new(status, "text/plain", "as it was asked for")
    };
    let Some(home) = Home::with(service)? else { return Ok(()) };
    home.replace("token", &valid.lock().expect("no panic").clone())?;
    home.secrets("  API_TOKEN: {command: [sh, -c, \"echo x >> asked; cat token\"]}\n")?;
    let bottle = Stepping::start(&home, &["one", "two", "three"])?;
    ensure!(bottle.step("one")? == "200");
    let second = random_secret("second_");
    home.replace("token", &second)?;
    valid.lock().expect("no panic").clone_from(&second);
    ensure!(bottle.step("two")? == "200", "the agent does not see that it was refused");
    ensure!(was_sent(&home, "two", &second), "{:?}", home.sent());
    // Nothing gives a valid one now: the refusal is the service's own.
    *valid.lock().expect("no panic") = random_secret("third_");
    ensure!(bottle.step("three")? == "401");
    bottle.finish()?;
    let asked = fs::read_to_string(home.path("asked"))?.lines().count();
    ensure!((2..=3).contains(&asked), "{asked}: not more than once a minute");
    Ok(())
}

#[test]
fn a_command_that_fails_later_leaves_the_value_and_is_told() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    home.replace("clock", "0")?;
    home.secrets("  API_TOKEN: {command: [sh, -c, \"echo x >> asked; cat token && ! test -e broken\"], renew_every: 1h}\n")?;
    let value = random_secret("value_");
    home.replace("token", &value)?;
    let bottle = Stepping::start(&home, &["one"])?;
    home.replace("broken", "")?;
    home.replace("clock", "3700")?;
    eventually("it is asked again", || Ok(fs::read_to_string(home.path("asked"))?.lines().count() > 1))?;
    bottle.step("one")?;
    ensure!(was_sent(&home, "one", &value), "{:?}", home.sent());
    let printed = bottle.finish()?;
    let expected = "the command `sh` gives no other value";
    ensure!(printed.contains(expected) && printed.contains("the one in use stays"), "{printed}");
    ensure!(printed.matches(expected).count() == 1 && !printed.contains(&value), "{printed}");
    Ok(())
}

/// A command that hangs holds up neither the agent nor the end of its bottle, and ends with it.
#[test]
fn a_command_that_hangs_later_ends_with_the_bottle() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    home.replace("clock", "0")?;
    let script = "echo $$ > pid; test -e hang && exec sleep 1000; cat token";
    home.secrets(&format!("  API_TOKEN: {{command: [sh, -c, \"{script}\"], renew_every: 1h}}\n"))?;
    home.replace("token", &random_secret("value_"))?;
    let bottle = Stepping::start(&home, &["one"])?;
    let first = fs::read_to_string(home.path("pid"))?;
    home.replace("hang", "")?;
    home.replace("clock", "3700")?;
    let pid = || fs::read_to_string(home.path("pid"));
    eventually("it is asked again", || Ok(!["", &first].contains(&pid()?.as_str())))?;
    let pid = pid()?;
    let state = || fs::read_to_string(format!("/proc/{}/stat", pid.trim())).ok();
    ensure!(state().is_some(), "it hangs");
    bottle.step("one")?;
    bottle.finish()?;
    ensure!(state().is_none(), "it runs on without its bottle");
    Ok(())
}

/// A program that stands for Codex, in whose place the agent's links lie.
#[test]
fn the_dummy_of_a_login_moves_along_and_follows_no_link() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    let login = CodexLogin::new(now, now + 7200);
    // The bottle runs `codex exec …`: a shell of that name runs the file `exec` of its workspace.
    let (bin, project) = (home.path("bin"), home.path("project"));
    fs::create_dir_all(&bin)?;
    fs::create_dir_all(&project)?;
    fs::copy("/bin/bash", bin.join("codex"))?;
    fs::copy("/bin/true", bin.join("codex-code-mode-host"))?;
    fs::write(
        project.join("exec"),
        "cp ~/.codex/auth.json ~/before; echo untouched > ~/target\n\
         rm ~/.codex/auth.json; ln -s ~/target ~/.codex/auth.json; touch ~/ready\n\
         until test -e ~/next; do sleep 0.05; done\n\
         cp ~/.codex/auth.json ~/after; mv ~/.codex ~/elsewhere; ln -s ~/elsewhere ~/.codex; touch ~/ready2\n\
         until test -e ~/end; do sleep 0.05; done\n",
    )?;
    // The host's own file is a link, as tools that keep dot files make it, in a folder that a variable names.
    fs::create_dir_all(home.path("codex-home"))?;
    fs::write(home.path("real-login"), login.file())?;
    symlink(home.path("real-login"), home.path("codex-home/auth.json"))?;
    fs::create_dir_all(home.path(".bot-bottle/agents"))?;
    fs::write(home.path(".bot-bottle/agents/worker.md"), "---\nbottle: login\n---\nWork.\n")?;
    fs::write(
        home.path(".bot-bottle/bottles/login.md"),
        "---\nagent_provider: {template: codex, forward_host_credentials: true}\n---\n",
    )?;
    home.secrets("  UNUSED: {file: ~/none}\n")?;
    let mut start = home.bot_bottle(&["start", "worker", "--headless", "--yes", "--cwd", "--prompt", "go"]);
    start.current_dir(&project);
    start.env("PATH", format!("{}:/usr/bin:/bin", bin.display())).env("CODEX_HOME", home.path("codex-home"));
    let child = start.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let bottle = Stepping::of(&home, child, "test -e ~/ready")?;

    let renewed = login.renewed(now, now + 9000);
    fs::write(home.path("real-login"), renewed.file())?;
    eventually("the dummy moves along", || Ok(bottle.exec("test ! -L ~/.codex/auth.json").is_ok()))?;
    ensure!(bottle.exec("cat ~/target")? == "untouched\n", "a link of the agent's was followed");
    let owner = bottle
        .exec("[ $(stat -c '%a %u' ~/.codex/auth.json | tr ' ' :) = 600:$(id -u) ] && echo the agent")?;
    ensure!(owner == "the agent\n");
    bottle.exec("touch ~/next; until test -e ~/ready2; do sleep 0.05; done; ! cmp -s ~/before ~/after")?;
    let before_link = bottle.exec("cat ~/elsewhere/auth.json")?;
    fs::write(home.path("real-login"), login.renewed(now, now + 10_000).file())?;
    eventually("the login is renewed", || Ok(renewals(&home)? > 1))?;
    ensure!(bottle.exec("cat ~/elsewhere/auth.json")? == before_link, "a link to a folder was followed");
    let printed = bottle.finish()?;
    ensure!(printed.contains("the agent's login was not renewed"), "{printed}");
    let needles = [login.needles(), renewed.needles()].concat();
    let found = search_tree(&home.path(".bot-bottle/state"), &[], &needles);
    ensure!(found.is_empty(), "{found:?}");
    Ok(())
}
