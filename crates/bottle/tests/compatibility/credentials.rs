//! Each shape of a credential, for clients that have a placeholder where they want a value: it arrives in that place at
//! the host of its route, and at another host nothing does.

use anyhow::{Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use bot_bottle_testkit::{Answer, FakeUpstream, SeenRequest, random_secret};

use crate::{
    bottle::{Operator, has, workspace, writes},
    packages::git_server,
    table::Need,
};

/// A host whose route has no credential.
const OTHER: &str = "other.test";

struct Shape {
    host: &'static str,
    auth: &'static str,
    /// What a client sends in a bottle: a header, or none, and the query.
    header: &'static str,
    query: &'static str,
    /// What arrives at a host whose route has no credential.
    query_elsewhere: &'static str,
}

const SHAPES: [Shape; 4] = [
    Shape {
        host: "bearer.test",
        auth: "{scheme: Bearer, token_ref: TOKEN}",
        header: "Authorization: Bearer egress-placeholder",
        query: "a=%2C",
        query_elsewhere: "a=%2C",
    },
    Shape {
        host: "basic.test",
        auth: "{scheme: Basic, username: x-access-token, token_ref: TOKEN}\n      git: {fetch: true}",
        // `x-access-token:egress-placeholder`
        header: "Authorization: Basic eC1hY2Nlc3MtdG9rZW46ZWdyZXNzLXBsYWNlaG9sZGVy",
        query: "a=%2C",
        query_elsewhere: "a=%2C",
    },
    Shape {
        host: "header.test",
        auth: "{header: x-api-key, token_ref: TOKEN}",
        header: "X-Api-Key: egress-placeholder",
        query: "a=%2C",
        query_elsewhere: "a=%2C",
    },
    Shape {
        host: "query.test",
        auth: "{query: key, token_ref: TOKEN}",
        header: "",
        query: "a=%2C&key=egress-placeholder&b=%2F",
        query_elsewhere: "a=%2C&b=%2F",
    },
];

/// A client: its name, what it needs, and commands of bash that ask `$2` with the header `$1`, if that is not empty, and
/// print what the response says was removed.
const CLIENTS: [(&str, &[Need], Option<&str>, &str); 4] = [
    ("curl", &[Need::Program("curl")], None, r#"curl -sS -D - ${1:+-H "$1"} "$2""#),
    (
        "python: urllib",
        &[Need::Program("python3")],
        None,
        r#"python3 -c '
import sys, urllib.request
header, url = sys.argv[1:]
asked = urllib.request.Request(url, headers=dict([header.split(": ", 1)]) if header else {})
response = urllib.request.urlopen(asked)
print(response.headers, response.read().decode())' "$1" "$2""#,
    ),
    (
        "python: requests",
        &[Need::Program("python3")],
        Some("python"),
        r#"python3 -c '
import sys, requests
header, url = sys.argv[1:]
response = requests.get(url, headers=dict([header.split(": ", 1)]) if header else {})
for name, value in response.headers.items(): print(name + ": " + value)
print(response.text)' "$1" "$2""#,
    ),
    (
        "node: fetch",
        &[Need::Program("node")],
        None,
        r#"node --input-type=module -e '
const [header, url] = process.argv.slice(1);
const response = await fetch(url, {headers: header ? [header.split(": ")] : []});
response.headers.forEach((value, name) => console.log(name + ": " + value));
console.log(await response.text());' -- "$1" "$2""#,
    ),
];

pub(crate) fn take_the_place_of_placeholders() -> Result<()> {
    let python = workspace("python");
    let clients: Vec<_> =
        CLIENTS.iter().filter(|(name, needs, folder, _)| has(name, needs, *folder)).collect();
    if clients.is_empty() || !has("git", &[Need::Program("git")], None) {
        return Ok(());
    }
    let token = random_secret("token_");
    let basic = format!("Basic {}", STANDARD.encode(format!("x-access-token:{token}")));
    let folder = tempfile::tempdir()?;
    let git = git_server("from the repository", folder.path())?;
    let wanted = basic.clone();
    let handler = std::sync::Arc::new(move |request: &SeenRequest| {
        if request.path == "/x" {
            return Answer::new(200, "text/plain", "arrived");
        }
        match request.header("authorization") {
            Some(sent) if sent == wanted => git(request),
            _ => {
                Answer::new(401, "text/plain", "who are you?").with("www-authenticate", "Basic realm=\"git\"")
            }
        }
    });
    let mut builder = FakeUpstream::builder();
    for host in SHAPES.iter().map(|shape| shape.host).chain([OTHER]) {
        let handler = std::sync::Arc::clone(&handler);
        builder = builder.host(host, move |request: &SeenRequest| handler(request));
    }
    let upstream = builder.start()?;
    let mut routes: Vec<_> =
        SHAPES.iter().map(|shape| format!("{}\n      auth: {}", shape.host, shape.auth)).collect();
    routes.push(format!("{OTHER}\n      git: {{fetch: true}}"));
    let routes: Vec<&str> = routes.iter().map(String::as_str).collect();
    let operator = Operator::with_routes(&upstream, &routes, &token)?;

    let mut steps: Vec<_> = clients
        .iter()
        .enumerate()
        .map(|(number, (_, _, _, commands))| writes(&format!("client-{number}.sh"), commands))
        .collect();
    let prepared = steps.len();
    for number in 0..clients.len() {
        for Shape { host, header, query, .. } in &SHAPES {
            for host in [host, OTHER] {
                steps.push(format!("bash client-{number}.sh '{header}' 'https://{host}/x?{query}'"));
            }
        }
    }
    for host in ["basic.test", OTHER] {
        steps.push(format!(
            "GIT_TERMINAL_PROMPT=0 git clone -q https://x-access-token:egress-placeholder@{host}/repository.git from-{host} \
             && cat from-{host}/content.txt"
        ));
    }
    let printed = operator.run(python.as_deref(), &steps)?;
    let printed = &printed[prepared..];
    ensure!(printed.iter().all(|printed| !printed.contains(&token)), "the credential came back");
    let asked = clients.iter().flat_map(|(name, ..)| SHAPES.iter().map(move |shape| (name, shape)));
    let seen: Vec<_> = upstream.requests().into_iter().filter(|request| request.path == "/x").collect();
    ensure!(seen.len() == clients.len() * SHAPES.len(), "no other host is asked: {seen:?}");
    for (((name, shape), printed), seen) in asked.zip(printed.chunks(2)).zip(&seen) {
        arrives(shape, &token, &basic, seen)
            .map_err(|error| anyhow::anyhow!("{name}: {error}\n{printed:?}"))?;
        let [here, elsewhere] = printed else { anyhow::bail!("{name}: {printed:?}") };
        ensure!(here.contains("arrived") && !here.contains("bot-bottle-removed"), "{name}: {here}");
        ensure!(
            elsewhere.contains("placeholder_sent") && !elsewhere.contains("arrived"),
            "{name}: {elsewhere}"
        );
    }
    let [here, elsewhere] = &printed[printed.len() - 2..] else { anyhow::bail!("{printed:?}") };
    ensure!(here.contains("from the repository") && here.ends_with("exit 0\n"), "git: {here}");
    ensure!(
        !elsewhere.contains("from the repository") && !elsewhere.ends_with("exit 0\n"),
        "git: {elsewhere}"
    );
    Ok(())
}

/// The credential is in its place, once, and nothing of the placeholder is left.
fn arrives(shape: &Shape, token: &str, basic: &str, seen: &SeenRequest) -> Result<()> {
    let (header, query) = match shape.host {
        "bearer.test" => (Some(("authorization", format!("Bearer {token}"))), shape.query.to_owned()),
        "basic.test" => (Some(("authorization", basic.to_owned())), shape.query.to_owned()),
        "header.test" => (Some(("x-api-key", token.to_owned())), shape.query.to_owned()),
        _ => (None, format!("{}&key={token}", shape.query_elsewhere)),
    };
    ensure!(seen.host == shape.host && seen.encrypted, "{seen:?}");
    ensure!(seen.query.as_deref() == Some(&query), "{query} is wanted: {seen:?}");
    for name in ["authorization", "x-api-key"] {
        let expected = header.iter().filter(|(wanted, _)| *wanted == name).map(|(_, value)| value.as_str());
        let found = seen.headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        ensure!(found.eq(expected), "{name}: {seen:?}");
    }
    Ok(())
}
