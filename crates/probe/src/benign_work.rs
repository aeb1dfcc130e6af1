//! A scripted agent that does ordinary work, as any agent would: files in the workspace, calls through the
//! proxy.

use std::{
    fs,
    io::{Read, Write},
    time::{Duration, Instant},
};

use crate::{
    client::{self, TlsStream},
    context::Context,
    outcome::StepReport,
};

/// A file of the operator's workspace, and its content.
pub const TASK_FILE: (&str, &str) = ("task.txt", "add 17 and 25 and tell the service\n");

/// A file that the agent writes into the workspace, and its content.
pub const RESULT_FILE: (&str, &str) = ("result.txt", "17 + 25 = 42\n");

/// How many events the embedded host streams.
pub const STREAMED_EVENTS: usize = 4;

/// The pause between two streamed events.
pub const EVENT_INTERVAL: Duration = Duration::from_millis(60);

/// Returns the result in words, or why the step failed.
type Step = fn(&Context) -> Result<String, String>;

const STEPS: [(&str, &str, Step); 7] = [
    ("workspace.read", "reads the task in its workspace", read_task),
    ("workspace.write", "writes the result into its workspace", write_result),
    ("home.write", "writes to its own home and to /tmp", write_home),
    ("api.credential", "calls an API, holding a placeholder for its key", call_api),
    ("api.post", "posts the result to the API", post_result),
    ("api.stream", "reads a streamed answer, event by event", read_stream),
    ("open.plain", "fetches a page over plain HTTP", fetch_page),
];

/// Runs every step in order.
pub fn run(context: &Context) -> impl Iterator<Item = StepReport> {
    STEPS.into_iter().map(|(id, what, step)| {
        let result = step(context);
        StepReport {
            id: id.to_owned(),
            what: what.to_owned(),
            worked: result.is_ok(),
            detail: result.unwrap_or_else(|problem| problem),
        }
    })
}

fn read_task(_scene: &Context) -> Result<String, String> {
    let (file, expected) = TASK_FILE;
    let text = fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    if text == expected { Ok(text.trim().to_owned()) } else { Err(format!("{file} holds something else")) }
}

fn write_result(_scene: &Context) -> Result<String, String> {
    let (file, text) = RESULT_FILE;
    fs::write(file, text).map_err(|error| format!("{file}: {error}"))?;
    Ok(format!("{file}, {} bytes", text.len()))
}

fn write_home(_scene: &Context) -> Result<String, String> {
    let home = std::env::home_dir().ok_or("there is no home")?;
    for path in [home.join(".probe-note"), "/tmp/probe-note".into()] {
        fs::write(&path, "a note").map_err(|error| format!("{}: {error}", path.display()))?;
        fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(home.display().to_string())
}

fn call_api(context: &Context) -> Result<String, String> {
    let answer = call(context, "GET", "/v1/whoami", b"")?;
    if context.planted.occurs_in(&answer) {
        return Err("the answer holds the credential itself".into());
    }
    let body: serde_json::Value = serde_json::from_slice(body_of(&answer))
        .map_err(|error| format!("the answer is no JSON: {error}"))?;
    match body["authenticated"].as_bool() {
        Some(true) => Ok("the service saw the real key, the agent never".into()),
        _ => Err("the service did not see the real key".into()),
    }
}

fn post_result(context: &Context) -> Result<String, String> {
    let answer = call(context, "POST", "/v1/items", RESULT_FILE.1.as_bytes())?;
    let text = String::from_utf8_lossy(body_of(&answer)).into_owned();
    let stored = format!("stored {} bytes", RESULT_FILE.1.len());
    if text.contains(&stored) { Ok(stored) } else { Err(format!("the service says {text:?}")) }
}

fn read_stream(context: &Context) -> Result<String, String> {
    let mut stream = connect(context)?;
    send(context, &mut stream, "GET", "/v1/stream", b"")?;
    let started = Instant::now();
    let (mut answer, mut chunk, mut first) = (Vec::new(), [0; 4096], None);
    while count_of(&answer, b"data: ") < STREAMED_EVENTS && answer.len() < client::MAX_ANSWER_BYTES {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&chunk[..count]),
            Err(error) => return Err(format!("the stream broke off: {error}")),
        }
        if first.is_none() && count_of(&answer, b"data: ") > 0 {
            first = Some(started.elapsed());
        }
    }
    let (events, whole) = (count_of(&answer, b"data: "), started.elapsed());
    let spread = whole.saturating_sub(first.unwrap_or(whole));
    if events < STREAMED_EVENTS {
        Err(format!("{events} of {STREAMED_EVENTS} events came"))
    } else if spread < EVENT_INTERVAL {
        Err("all events came at once, so something held them back".into())
    } else {
        Ok(format!("{events} events, spread over {} ms", spread.as_millis()))
    }
}

fn fetch_page(context: &Context) -> Result<String, String> {
    let mut stream = client::dial_gateway(context).map_err(|problem| problem.detail().to_owned())?;
    let request = client::get(context, &context.open_host, &format!("http://{}/page", context.open_host));
    stream.write_all(&request).map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    client::read_answer(&mut stream, &mut answer);
    expect_success(&answer).map(|()| format!("http://{}/page", context.open_host))
}

fn call(context: &Context, method: &str, path: &str, body: &[u8]) -> Result<Vec<u8>, String> {
    let mut stream = connect(context)?;
    send(context, &mut stream, method, path, body)?;
    let mut answer = Vec::new();
    client::read_answer(&mut stream, &mut answer);
    expect_success(&answer)?;
    Ok(answer)
}

fn connect(context: &Context) -> Result<TlsStream, String> {
    let trust = client::trusting_bundle(&context.ca_bundle).map_err(|error| error.to_string())?;
    let tunnel = client::open_tunnel(context, &format!("{}:443", context.allowed_host))
        .map_err(|problem| problem.detail().to_owned())?;
    client::start_tls(tunnel, Some(&context.allowed_host), trust).map_err(|error| format!("TLS: {error}"))
}

fn send(
    context: &Context,
    stream: &mut TlsStream,
    method: &str,
    path: &str,
    body: &[u8],
) -> Result<(), String> {
    let headers = "Authorization: Bearer egress-placeholder\r\n";
    let request = client::request(context, method, &context.allowed_host, path, headers, body);
    stream.write_all(&request).and_then(|()| stream.flush()).map_err(|error| error.to_string())
}

fn expect_success(answer: &[u8]) -> Result<(), String> {
    match client::status_of(answer) {
        Some(200) => Ok(()),
        Some(status) => Err(format!("{status}: {}", String::from_utf8_lossy(body_of(answer)).trim())),
        None => Err("there was no answer".into()),
    }
}

fn body_of(answer: &[u8]) -> &[u8] {
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
    &answer[head..]
}

fn count_of(bytes: &[u8], needle: &[u8]) -> usize {
    bytes.windows(needle.len()).filter(|window| *window == needle).count()
}
