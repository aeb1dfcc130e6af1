//! Where credentials are, and where they are not.

use std::fs;

use anyhow::{Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use bot_bottle_testkit::{ConnectForwarder, Echo, FakeUpstream, random_secret};

use crate::fixture::{Home, eventually};

#[test]
fn the_gateway_injects_what_the_engine_never_shows() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    secret_is_injected(&home)
}

/// A route with a credential that is renewed, and everything that the engine and the run's folder show.
pub(crate) fn secret_is_injected(home: &Home) -> Result<()> {
    let upstream = FakeUpstream::builder().host("api.test", Echo).start()?;
    let (authority, token) = (home.project().join("authority.pem"), home.path("token"));
    fs::write(&authority, upstream.certificate())?;
    let secrets = [random_secret("first_"), random_secret("second_")];
    fs::write(&token, &secrets[0])?;
    home.write(
        "settings.yml",
        format!(
            "egress:\n  extra_ca: [{}]\n  resolve: {{api.test: \"{}\"}}\nsecrets:\n  API_TOKEN: {{file: {}}}\n",
            authority.display(),
            upstream.address(),
            token.display()
        ),
    )?;
    home.write(
        "bottles/web.md",
        "---\negress:\n  routes:\n    - host: api.test\n      auth: {scheme: Bearer, token_ref: API_TOKEN}\n---\n",
    )?;
    // By the gateway's proxy, which speaks TLS with the upstream: that listens on the loopback of the host alone.
    let script = "while :; do printf 'GET https://api.test/echo HTTP/1.1\\r\\nHost: api.test\\r\\nConnection: \
                  close\\r\\n\\r\\n' | nc -w 20 127.0.0.1 3128 | head -n 1; sleep 0.5; done";
    let bottle = home.spawn(home.run(&["--bottle", "web"], script), b"HTTP/1.1 200")?;
    let was_sent = |secret: &str| {
        let value = format!("Bearer {secret}");
        upstream.requests().iter().any(|request| request.header("authorization") == Some(&value))
    };
    ensure!(was_sent(&secrets[0]), "{:?}", upstream.requests());
    fs::write(&token, &secrets[1])?;
    eventually("the new value is sent", || Ok(was_sent(&secrets[1])))?;

    let label = format!("bot-bottle.run={}", bottle.identity);
    let containers = home.engine.containers(&label)?;
    ensure!(containers.len() == 2, "{containers:?}");
    for container in containers {
        let shown = home.engine.inspect_container(&container.id)?.to_string();
        ensure!(!secrets.iter().any(|secret| shown.contains(secret)), "{}: {shown}", container.name);
        ensure!(shown.contains("\"Type\":\"none\""), "its output is kept by the engine: {shown}");
    }
    let run = home.path("state").join(&bottle.identity);
    // They come over the link, which may take a moment longer than the answer.
    eventually("the receipts are on the host", || {
        let text = fs::read_to_string(run.join("receipts.jsonl"))?;
        Ok(text.contains("api.test") && text.contains("\"renewal\":\"renewed\""))
    })?;
    for name in ["receipts.jsonl", "gateway.log", "sandbox.log", "plan.json", "gateway.json"] {
        let text = fs::read_to_string(run.join(name)).unwrap_or_default();
        ensure!(!secrets.iter().any(|secret| text.contains(secret)), "{name}: {text}");
    }
    drop(bottle);
    home.clean_up()
}

/// The gateway's container has a loopback of its own: a proxy on that of the host is reached over the link.
#[test]
fn a_proxy_on_the_loopback_of_the_host_is_reached_with_a_password_that_the_engine_never_shows() -> Result<()>
{
    let Some(home) = Home::new()? else { return Ok(()) };
    let upstream = FakeUpstream::builder().host("api.test", Echo).start()?;
    let authority = home.project().join("authority.pem");
    fs::write(&authority, upstream.certificate())?;
    let password = random_secret("proxy_");
    let login = STANDARD.encode(format!("ada:{password}"));
    let proxy = ConnectForwarder::with_login(upstream.address(), &format!("Basic {login}"))?;
    home.write(
        "settings.yml",
        format!(
            "egress:\n  extra_ca: [{}]\n  upstream_proxy: {{url: \"{}\", username: ada, password_ref: PROXY_PASSWORD}}\n",
            authority.display(),
            proxy.url()
        ),
    )?;
    home.write("bottles/web.md", "---\negress: {routes: [{host: api.test}]}\n---\n")?;
    let script = "printf 'GET https://api.test/echo HTTP/1.1\\r\\nHost: api.test\\r\\nConnection: close\\r\\n\\r\\n' \
                  | nc -w 20 127.0.0.1 3128 | head -n 1; env; sleep 600";
    let mut command = home.run(&["--bottle", "web"], script);
    command.env("PROXY_PASSWORD", &password);
    let bottle = home.spawn(command, b"HTTP/1.1 200")?;
    let asked = proxy.asked();
    ensure!(asked.len() == 1 && asked[0].starts_with("CONNECT api.test:443 "), "{asked:?}");
    let run = home.path("state").join(&bottle.identity);
    let mut shown = String::new();
    for container in home.engine.containers(&format!("bot-bottle.run={}", bottle.identity))? {
        shown += &home.engine.inspect_container(&container.id)?.to_string();
    }
    for name in ["receipts.jsonl", "gateway.log", "sandbox.log", "plan.json", "gateway.json"] {
        shown += &fs::read_to_string(run.join(name)).unwrap_or_default();
    }
    ensure!(!shown.contains(&password) && !shown.contains(&login), "{shown}");
    drop(bottle);
    home.clean_up()
}
