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

impl Engine {
    /// The answer to a GET. `path` is without the version, and its query is encoded.
    pub(crate) fn get(&self, action: &str, path: &str) -> Result<Value, EngineError> {
        let answer = self.get_text(path).map_err(|error| match error.kind() {
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
        let body: Value = serde_json::from_str(body).map_err(|error| unexpected(&error.to_string()))?;
        if status == 200 {
            return Ok(body);
        }
        let message = body["message"].as_str().unwrap_or_default().to_owned();
        Err(EngineError::refused(action.to_owned(), Purpose::Other, status, message))
    }

    /// Head and body. HTTP/1.0, as its answer ends with the connection and is never chunked (RFC 1945).
    fn get_text(&self, path: &str) -> io::Result<String> {
        let stream = UnixStream::connect(self.address().path())?;
        stream.set_read_timeout(Some(CALL_LIMIT))?;
        stream.set_write_timeout(Some(CALL_LIMIT))?;
        let request = format!("GET /v{}{path} HTTP/1.0\r\n\r\n", self.connection().api);
        (&stream).write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.take(MAX_ANSWER).read_to_string(&mut answer)?;
        Ok(answer)
    }
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
