//! Each client asks, is answered, and can read a refusal: with each version of HTTP, with and without a body.

use anyhow::{Context, Result, ensure};
use bot_bottle_testkit::{Answer, FakeUpstream, SeenRequest, random_hex};

use crate::{
    bottle::{LIMITED, OPEN, Operator, has, workspace, writes},
    table::{Client, Trust, Version},
};

/// More than the window of an HTTP/2 stream, so that a refusal comes while the client still sends.
const LARGE_BODY: usize = 3_000_000;

const SMALL_BODY: &str = "{\"a\":1}";

/// What is asked: the host, the path, the file that is sent, and whether it is refused.
const ASKED: [(&str, &str, &str, bool); 7] = [
    (OPEN, "/open", "", false),
    (OPEN, "/open", "small", false),
    (OPEN, "/open", "large", false),
    (LIMITED, "/open", "", false),
    (LIMITED, "/closed", "", true),
    (LIMITED, "/closed", "small", true),
    (LIMITED, "/closed", "large", true),
];

pub(crate) fn work_and_are_refused(client: &Client) -> Result<()> {
    if !has(client.name, client.needs, client.folder) {
        return Ok(());
    }
    let answer = format!("the upstream says {}", random_hex(16));
    let told = answer.clone();
    let handler = move |_: &SeenRequest| Answer::new(200, "text/plain", told.clone());
    let upstream = FakeUpstream::builder().host(OPEN, handler.clone()).host(LIMITED, handler).start()?;
    let operator = Operator::new(&upstream)?;

    let mut steps = vec![prepare(client), asks_with_trust_alone(client)];
    for version in client.versions {
        for (host, path, body, _) in ASKED {
            steps.push(format!("bash request.sh {} https://{host}{path} {body}", version.number()));
        }
    }
    let printed = operator.run(client.folder.and_then(workspace).as_deref(), &steps)?;
    let (prepared, printed) = printed.split_first().context("the first step is run")?;
    ensure!(prepared.ends_with("exit 0\n"), "{prepared}");
    let (alone, printed) = printed.split_first().context("the second step is run")?;
    ensure!(alone.contains(&answer), "{:?} alone:\n{alone}", client.trust);
    for (version, printed) in client.versions.iter().zip(printed.chunks(ASKED.len())) {
        for ((host, path, body, is_refused), printed) in ASKED.iter().zip(printed) {
            let expected = if *is_refused { "\"no_match\"" } else { &answer };
            let spoken = if client.prints_version { version.spoken() } else { "" };
            ensure!(
                printed.contains(expected) && printed.contains(spoken),
                "{spoken} {host}{path} {body}: no {expected} in\n{printed}"
            );
        }
    }

    let seen = upstream.requests();
    ensure!(seen.iter().all(|request| request.path == "/open" && request.encrypted), "{seen:?}");
    let bodies: Vec<_> =
        seen.iter().filter(|request| request.method == "POST").map(|request| &request.body[..]).collect();
    let large = "x".repeat(LARGE_BODY);
    ensure!(
        bodies == [SMALL_BODY.as_bytes(), large.as_bytes()].repeat(client.versions.len()),
        "other bodies arrived than were sent: {:?}",
        bodies.iter().map(|body| body.len()).collect::<Vec<_>>()
    );
    Ok(())
}

/// Commands that write the client, what makes it send a request, and what it sends.
fn prepare(client: &Client) -> String {
    let mut commands = vec![
        "set -e".to_owned(),
        writes("request.sh", client.request),
        format!("printf '%s' '{SMALL_BODY}' > small; head -c {LARGE_BODY} /dev/zero | tr '\\0' x > large"),
    ];
    commands.extend(client.file.map(|(name, text)| writes(name, text)));
    commands.push(client.prepare.to_owned());
    commands.join("\n")
}

/// Asks with an environment that has nothing but what the table says is needed.
fn asks_with_trust_alone(client: &Client) -> String {
    let variable = match client.trust {
        Trust::System => String::new(),
        Trust::Variable(name) => format!("{name}=\"${name}\""),
    };
    let version = client.versions[0].number();
    format!("env -i HOME=\"$HOME\" PATH=\"$PATH\" {variable} bash request.sh {version} https://{OPEN}/open")
}

impl Version {
    fn number(self) -> &'static str {
        match self {
            Self::Http1 => "1.1",
            Self::Http2 => "2",
        }
    }

    /// As clients print it.
    fn spoken(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}
