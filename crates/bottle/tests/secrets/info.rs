//! `info` says how an agent logs in and what its provider opens, and by what a run is trusted.

use std::{fs, time::SystemTime};

use anyhow::{Result, ensure};
use bot_bottle_testkit::{CodexLogin, random_secret};

use crate::{fixture::Home, stepping::Stepping};

#[test]
fn the_login_and_the_routes_of_a_provider_are_shown() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    fs::create_dir_all(home.path(".bot-bottle/agents"))?;
    fs::write(home.path(".bot-bottle/agents/worker.md"), "---\nbottle: login\n---\nWork.\n")?;
    let info = |provider: &str| -> Result<String> {
        let bottle = format!("---\nagent_provider: {{{provider}}}\n---\n");
        fs::write(home.path(".bot-bottle/bottles/login.md"), bottle)?;
        let output = home.bot_bottle(&["info", "worker"]).output()?;
        ensure!(output.status.success(), "{output:?}");
        Ok(String::from_utf8(output.stdout)?)
    };
    for (provider, shown) in [
        ("template: claude, auth_token: MY_TOKEN", &["by the token in MY_TOKEN", "api.anthropic.com"][..]),
        ("template: codex, api_key: MY_KEY", &["by the API key in MY_KEY", "api.openai.com"]),
        ("template: claude", &["not at all", "api.anthropic.com"]),
        (
            "template: claude, auth_token: MY_TOKEN, extra_routes: [new.example.org, api.anthropic.com/v2]",
            &["new.example.org", "[3 matches]"],
        ),
        ("template: codex, forward_host_credentials: true", &["by the host's own login", "no such file"]),
    ] {
        let text = info(provider)?;
        ensure!(shown.iter().all(|part| text.contains(part)), "{provider}: {text}");
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let login = CodexLogin::new(now, now + 7200);
    fs::create_dir_all(home.path(".codex"))?;
    fs::write(home.path(".codex/auth.json"), login.file())?;
    let text = info("template: codex, forward_host_credentials: true")?;
    ensure!(text.contains("chatgpt.com") && !text.contains(&login.access_token), "{text}");
    Ok(())
}

#[test]
fn the_certificate_authority_of_a_run_is_shown_while_it_runs() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    home.replace("token", &random_secret("token_"))?;
    home.secrets("  API_TOKEN: {file: ~/token}\n")?;
    let bottle = Stepping::start(&home, &["one"])?;
    let hash =
        bottle.exec("sed '/-----/d' /etc/bot-bottle/ca.pem | base64 -d | sha256sum | cut -d ' ' -f 1")?;
    let pairs: Vec<String> =
        hash.trim().as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair).to_uppercase()).collect();
    let output = home.bot_bottle(&["info", &bottle.identity]).output()?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(
        text.contains(&pairs.join(":")) && text.contains("running") && text.contains("api.test"),
        "{text}"
    );
    let identity = bottle.identity.clone();
    bottle.step("one")?;
    bottle.finish()?;
    let output = home.bot_bottle(&["info", &identity]).output()?;
    let text = String::from_utf8([output.stdout, output.stderr].concat())?;
    ensure!(text.contains(&identity) && !text.contains(&pairs.join(":")), "{text}");
    Ok(())
}
