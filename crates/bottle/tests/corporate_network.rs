//! A network that is left through a proxy alone, with a real native bottle.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use anyhow::{Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use bot_bottle_testkit::{
    ConnectForwarder, Echo, FakeUpstream, Needle, find_program, has_user_namespaces, random_secret, require,
    search_tree,
};
use tempfile::TempDir;

/// An operator's home.
struct Home(TempDir);

impl Home {
    fn new() -> Result<Self> {
        let home = Self(tempfile::tempdir()?);
        fs::create_dir_all(home.path(".bot-bottle/bottles"))?;
        Ok(home)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs a command with these variables.
    fn command(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Output> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bot-bottle"));
        command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.0.path());
        command.envs(variables.iter().copied()).current_dir(self.0.path()).stdin(Stdio::null());
        Ok(command.output()?)
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_bottle_goes_out_through_a_proxy_whose_password_nobody_sees() -> Result<()> {
    if !require("userns", has_user_namespaces()) || !require("curl", find_program("curl").is_some()) {
        return Ok(());
    }
    let upstream = FakeUpstream::builder().host("api.test", Echo).start()?;
    let password = random_secret("proxy_");
    let login = STANDARD.encode(format!("CORP\\ada:{password}"));
    let proxy = ConnectForwarder::with_login(upstream.address(), &format!("Basic {login}"))?;
    let home = Home::new()?;
    fs::write(home.path("authority.pem"), upstream.certificate())?;
    fs::write(home.path(".bot-bottle/bottles/api.md"), "---\negress: {routes: [{host: api.test}]}\n---\n")?;
    let settings = |secrets: &str| {
        let text = format!(
            "egress:\n  extra_ca: [~/authority.pem]\n  upstream_proxy: {{url: \"{}\", username: 'CORP\\ada', \
             password_ref: PROXY_PASSWORD}}\n{secrets}",
            proxy.url()
        );
        fs::write(home.path(".bot-bottle/settings.yml"), text)
    };
    settings("")?;
    let script = "env; curl -sS -m 60 https://api.test/ | head -c 0; curl -sS -m 60 http://api.test/x";
    let run = ["run", "--backend", "native", "--bottle", "api"];
    let script = [&run[..], &["--", "sh", "-c", script]].concat();
    let unset = home.command(&script, &[])?;
    let message = String::from_utf8_lossy(&unset.stderr).into_owned();
    ensure!(unset.status.code() == Some(1) && message.contains("PROXY_PASSWORD"), "{unset:?}");

    let shown = home.command(&[&run[..], &["--dry-run", "--", "true"]].concat(), &[])?;
    ensure!(stdout(&shown).contains(&format!("reached through the proxy {}", proxy.url())), "{shown:?}");

    let mut printed = String::new();
    let logging = ("BOT_BOTTLE_LOG", "trace");
    for (secrets, variables) in [
        ("", &[("PROXY_PASSWORD", password.as_str()), logging][..]),
        ("secrets: {PROXY_PASSWORD: {file: ~/password}}\n", &[logging]),
    ] {
        settings(secrets)?;
        if variables.len() == 1 {
            fs::write(home.path("password"), &*password)?;
        }
        let before = proxy.asked().len();
        let output = home.command(&script, variables)?;
        ensure!(output.status.success(), "{output:?}");
        printed += &String::from_utf8_lossy(&[output.stdout, output.stderr].concat());
        let asked = proxy.asked().split_off(before);
        let targets: Vec<_> = asked.iter().filter_map(|head| head.split(' ').nth(1)).collect();
        ensure!(targets == ["api.test:443", "api.test:80"], "{asked:?}");
        ensure!(asked.iter().all(|head| head.contains(&login)), "{asked:?}");
    }
    ensure!(upstream.connections() == 4, "{} connections", upstream.connections());
    ensure!(!printed.contains(password.as_str()) && !printed.contains(&login), "{printed}");
    let needles = [Needle::new("the password", &password), Needle::new("the login", &login)];
    let found = search_tree(&home.path(".bot-bottle"), &[], &needles);
    ensure!(found.is_empty(), "{found:?}");

    // The operator reads why in the log, the agent that it is nothing of its own.
    let wrong = random_secret("wrong_");
    settings("")?;
    let failing = [&run[..], &["--", "sh", "-c", "curl -sS -m 60 https://api.test/"]].concat();
    let output = home.command(&failing, &[("PROXY_PASSWORD", &wrong)])?;
    ensure!(stdout(&output).contains("proxy_failed") && !stdout(&output).contains("407"), "{output:?}");
    ensure!(upstream.connections() == 4, "nothing came through");
    Ok(())
}

#[test]
fn the_proxy_of_the_host_is_proposed_and_never_used_unasked() -> Result<()> {
    let variables = [
        ("HTTPS_PROXY", "http://CORP%5Cada:open-sesame@proxy.corp.example:3128"),
        ("NO_PROXY", "localhost,127.0.0.1,.corp.example,10.0.0.0/8"),
    ];
    let keys = "upstream_proxy: {url: \"http://proxy.corp.example:3128\", username: \"CORP\\\\ada\", password_ref: \
                UPSTREAM_PROXY_PASSWORD}";
    let exceptions = "no_proxy: [\"*.corp.example\"]";
    let home = Home::new()?;
    let silent = home.command(&["doctor"], &[])?;
    ensure!(!stdout(&silent).contains("upstream proxy"), "{silent:?}");
    let doctor = home.command(&["doctor"], &variables)?;
    let told = stdout(&doctor);
    for part in ["HTTPS_PROXY names http://proxy.corp.example:3128", keys, exceptions, "connect directly"] {
        ensure!(told.contains(part), "{part}: {told}");
    }
    let other =
        home.command(&["doctor"], &[("ALL_PROXY", "socks5://me:open-sesame@proxy.corp.example:1080")])?;
    ensure!(stdout(&other).contains("ALL_PROXY names a proxy that gateways cannot use"), "{other:?}");

    let init = home.command(&["init", "--provider", "claude"], &variables)?;
    ensure!(init.status.success() && stdout(&init).contains("UPSTREAM_PROXY_PASSWORD"), "{init:?}");
    let settings = home.path(".bot-bottle/settings.yml");
    let written = fs::read_to_string(&settings)?;
    ensure!(written.contains(keys) && written.contains(exceptions), "{written}");
    let doctor_after = home.command(&["doctor"], &variables)?;
    let good = "gateways connect through http://proxy.corp.example:3128";
    ensure!(stdout(&doctor_after).contains(good), "{doctor_after:?}");

    // A file that is there is left alone.
    fs::write(&settings, "backend: native\n")?;
    let again = home.command(&["init", "--provider", "claude", "--force"], &variables)?;
    ensure!(stdout(&again).contains(keys) && stdout(&again).contains("below `egress:`"), "{again:?}");
    ensure!(fs::read_to_string(&settings)? == "backend: native\n", "it was written over");
    for output in [doctor, other, init, doctor_after, again] {
        let shown = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        ensure!(!shown.contains("sesame"), "{shown}");
    }
    ensure!(!written.contains("sesame"), "{written}");
    Ok(())
}
