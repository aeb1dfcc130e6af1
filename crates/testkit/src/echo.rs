//! An upstream that echoes requests.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::upstream::{Answer, AnswerBody, Handler, SeenRequest, WebSocketSession};

/// Answers at these paths, and at all others with 404:
///
/// - `/echo`: method, path, query, headers and body of the request, as JSON
/// - `/body`: the body of the request, as it is after decoding
/// - `/status?code=N`: an empty answer with this status
/// - `/sse?events=N&pause=MILLISECONDS`: server-sent events
/// - `/big?bytes=N`: so many bytes
/// - `/broken?bytes=N`: twice as many bytes promised as sent
/// - `/gzip`: `/echo`, compressed
/// - `/headers?name=value`: the query as headers of the answer
/// - `/socket`: a WebSocket that sends each message back
#[derive(Debug, Clone, Copy, Default)]
pub struct Echo;

struct EchoSocket;

impl Handler for Echo {
    fn answer(&self, request: &SeenRequest) -> Answer {
        let number = |name| request.query_value(name).and_then(|value| value.parse::<u64>().ok());
        match request.path.as_str() {
            "/echo" => Answer::json(200, &description(request)),
            "/body" => Answer::new(200, "application/octet-stream", request.body.clone()),
            "/status" => {
                let code = number("code").and_then(|code| u16::try_from(code).ok()).unwrap_or(200);
                Answer::new(code, "text/plain", "")
            }
            "/sse" => {
                let events: Vec<Value> = (0..number("events").unwrap_or(3))
                    .map(|index| json!({"type": "tick", "index": index}))
                    .collect();
                Answer::events(&events, Duration::from_millis(number("pause").unwrap_or(50)))
            }
            "/big" => with_body(AnswerBody::Filler(number("bytes").unwrap_or(1 << 20))),
            "/broken" => {
                let bytes = number("bytes").unwrap_or(1000);
                let sent = Bytes::from(vec![b'x'; usize::try_from(bytes).unwrap_or(1000)]);
                with_body(AnswerBody::BrokenOff { sent, promised: bytes * 2 })
            }
            "/gzip" => {
                let mut compressed = Vec::new();
                let text = description(request).to_string();
                let encoder =
                    flate2::bufread::GzEncoder::new(text.as_bytes(), flate2::Compression::default());
                std::io::copy(&mut { encoder }, &mut compressed).expect("memory can be written");
                Answer::new(200, "application/json", compressed).with("content-encoding", "gzip")
            }
            "/headers" => headers(request),
            "/socket" => Answer::web_socket(EchoSocket),
            _ => Answer::json(404, &json!({"error": "not found"})),
        }
    }
}

impl WebSocketSession for EchoSocket {
    fn message(&mut self, text: &str) -> Vec<String> {
        vec![text.to_owned()]
    }
}

fn with_body(body: AnswerBody) -> Answer {
    Answer { body, ..Answer::new(200, "application/octet-stream", "") }
}

fn headers(request: &SeenRequest) -> Answer {
    let mut answer = Answer::new(200, "text/plain", "");
    for (name, value) in
        request.query.iter().flat_map(|query| query.split('&')).filter_map(|pair| pair.split_once('='))
    {
        if let (Ok(name), Ok(value)) = (name.parse::<http::HeaderName>(), value.parse()) {
            answer.headers.append(name, value);
        }
    }
    answer
}

/// A header that occurs several times is an array.
fn description(request: &SeenRequest) -> Value {
    let mut headers = Map::new();
    for name in request.headers.keys() {
        let values: Vec<Value> = request
            .headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into())
            .collect();
        let value = if values.len() == 1 { values[0].clone() } else { values.into() };
        headers.insert(name.to_string(), value);
    }
    json!({
        "method": request.method,
        "host": request.host,
        "path": request.path,
        "query": request.query,
        "version": format!("{:?}", request.version),
        "encrypted": request.encrypted,
        "headers": headers,
        "body": String::from_utf8_lossy(&request.body),
    })
}
