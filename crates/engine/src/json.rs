//! Answers as the engine writes them. bollard's types drop what they do not know, and fail for values that they
//! do not know, such as podman's state `stopped`.

use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
};

use serde_json::Value;

use crate::{Engine, EngineError, connection::CALL_LIMIT, error::Purpose};

/// Most bytes of an answer.
const MAX_ANSWER: u64 = 16 * 1024 * 1024;

/// The version of podman's own API that is spoken: every podman that speaks docker's API 1.41 knows it.
const PODMAN_API: &str = "4.0.0";

impl Engine {
    /// The answer to a GET. `path` is without the version, and its query is encoded.
    pub(crate) fn get(&self, action: &str, path: &str) -> Result<Value, EngineError> {
        let (status, body) = self.ask(action, "GET", &format!("/v{}{path}", self.connection().api))?;
        let body = serde_json::from_str(&body)
            .map_err(|error| EngineError::Unexpected { action: action.to_owned(), why: error.to_string() });
        if status == 200 {
            return body;
        }
        Err(EngineError::refused(action.to_owned(), Purpose::Other, status, message(&body?)))
    }

    /// A POST without a body to podman's own API, which the compatible one lacks something of.
    pub(crate) fn post_to_podman(&self, action: &str, path: &str) -> Result<(), EngineError> {
        let (status, body) = self.ask(action, "POST", &format!("/v{PODMAN_API}/libpod{path}"))?;
        // 304: it is so already.
        if matches!(status, 200..=299 | 304) {
            return Ok(());
        }
        let body = serde_json::from_str(&body).unwrap_or_default();
        Err(EngineError::refused(action.to_owned(), Purpose::Other, status, message(&body)))
    }

    /// Status and body of an answer.
    fn ask(&self, action: &str, method: &str, path: &str) -> Result<(u16, String), EngineError> {
        let answer = self.exchange(method, path).map_err(|error| match error.kind() {
            // What a read gives after the socket's time limit, socket(7).
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                EngineError::TimedOut { action: action.to_owned(), limit: CALL_LIMIT }
            }
            _ => EngineError::Gone { action: action.to_owned(), why: error.to_string() },
        })?;
        let unexpected =
            |why: &str| EngineError::Unexpected { action: action.to_owned(), why: why.to_owned() };
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| EngineError::Gone {
            action: action.to_owned(),
            why: "its answer breaks off".to_owned(),
        })?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
        let status = status.ok_or_else(|| unexpected("it has no status"))?;
        Ok((status, body.to_owned()))
    }

    /// Head and body. HTTP/1.0, as its answer ends with the connection and is never chunked (RFC 1945).
    fn exchange(&self, method: &str, path: &str) -> io::Result<String> {
        let stream = UnixStream::connect(self.address().path())?;
        stream.set_read_timeout(Some(CALL_LIMIT))?;
        stream.set_write_timeout(Some(CALL_LIMIT))?;
        let request = format!("{method} {path} HTTP/1.0\r\nContent-Length: 0\r\n\r\n");
        (&stream).write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.take(MAX_ANSWER).read_to_string(&mut answer)?;
        Ok(answer)
    }
}

/// What a refusal says.
fn message(body: &Value) -> String {
    body["message"].as_str().unwrap_or_default().to_owned()
}

/// A value of a query, encoded (RFC 3986, section 2.1).
pub(crate) fn encode(value: &str) -> String {
    value.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded += &format!("%{byte:02X}");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_queries_are_encoded() {
        assert_eq!(encode(r#"{"a-b_c.d~":"ä &"}"#), "%7B%22a-b_c.d~%22%3A%22%C3%A4%20%26%22%7D");
    }
}
