//! What a bottle in a machine is: its user, its one door, its streams.

use std::{fs::Permissions, os::unix::fs::PermissionsExt, process::Stdio};

use anyhow::{Result, ensure};
use bot_bottle_testkit::{Echo, FakeUpstream, random_secret};

use crate::fixture::{Home, described};

#[test]
fn a_machine_reaches_its_gateway_and_nothing_else() -> Result<()> {
    let Some(home) = Home::with_distribution()? else { return Ok(()) };
    reaches_its_gateway_alone(&home)
}

#[test]
fn a_machine_of_a_smolvm_without_interceptor_reaches_the_same() -> Result<()> {
    let Some(mut home) = Home::with_distribution()? else { return Ok(()) };
    // The same program under the number of an older one, so that it is driven as that is.
    let (older, real) = (home.guest.folder().join("older-smolvm"), home.guest.program());
    let script = format!(
        "#!/bin/sh\n[ \"$*\" = --version ] && exec echo smolvm 1.31.5\ncase \" $* \" in *\" \
         --egress-interceptor\"*) exit 2; esac\nexec {} \"$@\"\n",
        real.display()
    );
    std::fs::write(&older, script)?;
    std::fs::set_permissions(&older, Permissions::from_mode(0o755))?;
    home.smolvm = older;
    reaches_its_gateway_alone(&home)
}

#[test]
fn two_machines_at_once_are_two_bottles() -> Result<()> {
    let Some(home) = Home::with_distribution()? else { return Ok(()) };
    let upstream = FakeUpstream::builder().host("api.test", Echo).start()?;
    let authority = home.project().join("authority.pem");
    std::fs::write(&authority, upstream.certificate())?;
    let (authority, address) = (authority.display(), upstream.address());
    let settings = format!("egress:\n  extra_ca: [{authority}]\n  resolve: {{api.test: \"{address}\"}}\n");
    home.write("settings.yml", settings)?;
    home.write(
        "bottles/small.md",
        "---\nlimits: {memory: 384MiB, cpus: 1, disk: 1GiB}\negress:\n  routes:\n    - host: api.test\n      auth: \
         {scheme: Bearer, token_ref: API_TOKEN}\n---\n",
    )?;
    let secrets = [random_secret("token_"), random_secret("token_")];
    let mut launchers = Vec::new();
    for (number, secret) in secrets.iter().enumerate() {
        let script =
            format!("for i in 1 2 3 4 5; do curl -sS -m 60 https://api.test/{number}; sleep 2; done");
        let mut command = home.run(&[], &script);
        command.env("API_TOKEN", secret).stdout(Stdio::piped()).stderr(Stdio::piped());
        launchers.push(command.spawn()?);
    }
    for launcher in launchers {
        let output = launcher.wait_with_output()?;
        ensure!(output.status.success(), "{}", described(&output));
    }
    let seen = upstream.requests();
    for (number, secret) in secrets.iter().enumerate() {
        let path = format!("/{number}");
        let own: Vec<_> = seen.iter().filter(|request| request.path == path).collect();
        let injected = format!("Bearer {secret}");
        ensure!(own.len() == 5, "{seen:?}");
        ensure!(own.iter().all(|request| request.header("authorization") == Some(&injected)), "{own:?}");
    }
    home.command(&["cleanup", "--yes", "--force"]).output()?;
    home.is_empty()
}

/// One machine for all of it: each takes half a minute.
fn reaches_its_gateway_alone(home: &Home) -> Result<()> {
    let upstream = FakeUpstream::builder().host("api.test", Echo).start()?;
    let authority = home.project().join("authority.pem");
    std::fs::write(&authority, upstream.certificate())?;
    let (secret, address) = (random_secret("token_"), upstream.address());
    let settings =
        format!("egress:\n  extra_ca: [{}]\n  resolve: {{api.test: \"{address}\"}}\n", authority.display());
    home.write("settings.yml", settings)?;
    home.write(
        "bottles/small.md",
        "---\nlimits: {memory: 512MiB, cpus: 1, disk: 1GiB}\negress:\n  routes:\n    - host: api.test\n      \
         auth: {scheme: Bearer, token_ref: API_TOKEN}\n---\n",
    )?;
    std::fs::write(home.project().join("given"), "from the host\n")?;
    // A program of the image that would be root's wherever it gains anything.
    let setuid = home.image().join("usr/bin/setuid-id");
    std::fs::copy(home.image().join("usr/bin/id"), &setuid)?;
    std::fs::set_permissions(&setuid, Permissions::from_mode(0o4755))?;
    // Each line of the answer begins with what was asked.
    let script = "ask() { name=$1; shift; echo \"$name: $(\"$@\" 2>&1 | tr '\\n' ' ')\"; }
        proxy=$https_proxy$HTTPS_PROXY
        ask user id -u
        ask file cat given
        ask capabilities grep -E 'Cap(Prm|Eff|Bnd|Amb)' /proc/self/status
        ask confined grep -E 'NoNewPrivs|Seccomp:' /proc/self/status
        ask by-proxy curl -sS -m 60 https://api.test/echo?by-proxy
        unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY all_proxy
        ask by-name curl -sS -m 60 https://api.test/echo?by-name
        ask other-name curl -sS -m 60 http://other.test/
        ask other-question getent ahosts secret.other.test
        ask address curl -sS -m 60 http://192.0.2.7/
        ask host curl -sS -m 60 http://PORT/
        ask setuid /usr/bin/setuid-id -u
        ask off sh -c 'echo o > /proc/sysrq-trigger'
        ask environment sh -c 'env; cat /proc/*/environ 2>/dev/null | tr \"\\0\" \" \"'
        ask size sh -c 'head -c 3000000 /dev/zero | wc -c'
        exit 7";
    let script = script.replace("PORT", &address.to_string());
    let mut command = home.run(&["--cwd"], &script);
    let output = command.env("API_TOKEN", &secret).output()?;
    let text = described(&output);
    ensure!(output.status.code() == Some(7), "the exit code is the program's: {text}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let answer = |asked: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(&format!("{asked}: ")));
        line.map(str::trim).unwrap_or_default().to_owned()
    };
    ensure!(answer("user") == "1000" && answer("file") == "from the host", "{text}");
    ensure!(!answer("capabilities").is_empty(), "{text}");
    ensure!(
        answer("capabilities")
            .split_whitespace()
            .all(|word| word.ends_with(':') || word.bytes().all(|b| b == b'0')),
        "{text}"
    );
    ensure!(
        answer("confined").contains("NoNewPrivs:\t1") && answer("confined").contains("Seccomp:\t2"),
        "{text}"
    );
    for way in ["by-proxy", "by-name"] {
        ensure!(!answer(way).is_empty() && !answer(way).contains("reason"), "{way} is answered: {text}");
    }
    let seen = upstream.requests();
    ensure!(seen.len() == 2, "nothing else arrives: {seen:?}");
    let injected = format!("Bearer {secret}");
    let has_credential = seen.iter().all(|request| request.header("authorization") == Some(&injected));
    ensure!(has_credential, "the credential is injected: {seen:?}");
    ensure!(answer("other-name").contains("Could not resolve host"), "{text}");
    ensure!(answer("other-question").is_empty(), "{text}");
    ensure!(answer("address").contains("address_literal"), "{text}");
    ensure!(answer("host").contains("Failed to connect"), "{text}");
    ensure!(answer("setuid") == "1000" && answer("off").contains("denied"), "{text}");
    ensure!(answer("size") == "3000000", "{text}");
    // The upstream echoes what it was sent; nothing else has it.
    let mut others = text.lines().filter(|line| !line.starts_with("by-"));
    ensure!(others.all(|line| !line.contains(&secret)), "the credential is on the host alone");
    let [identity] = &home.identities()[..] else { anyhow::bail!("{text}") };
    let run = home.path("state").join(identity);
    let receipts = std::fs::read_to_string(run.join("receipts.jsonl"))?;
    ensure!(receipts.contains("address_literal") && receipts.contains("other.test"), "{receipts}");
    home.succeeds(&mut home.command(&["cleanup", "--yes", "--force"]))?;
    home.is_empty()
}
