//! A connection to an engine, for the synchronous client and for [`crate::attach`].

use std::{io, time::Duration};

use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker, errors::Error as BollardError};
use http::{HeaderValue, Uri, uri::PathAndQuery};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::timeout,
};

use crate::{ApiVersion, EngineAddress, EngineError, EngineKind, error::innermost};

/// The oldest API that is spoken: docker 20.10, and podman since 4.0.
pub(crate) const OLDEST_API: ApiVersion = ApiVersion { major: 1, minor: 41 };

/// How long a call may take that only looks or changes a record.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(60);

/// How long an engine may take to say its version.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Most bytes of the head of that answer.
const MAX_HEAD_BYTES: u64 = 16 * 1024;

/// For bollard's own time limit, which covers a whole request with its body: the limits are this crate's.
const NO_LIMIT: Duration = Duration::from_secs(u64::MAX);

/// An engine that has answered, and the API that is spoken with it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) docker: Docker,
    /// The newest API that both sides know; each request says it.
    pub(crate) api: ApiVersion,
    /// Whose engine it is.
    pub(crate) kind: EngineKind,
}

impl Connection {
    pub(crate) async fn open(address: &EngineAddress) -> Result<Self, EngineError> {
        let head = match timeout(CONNECT_LIMIT, ping(address)).await {
            Ok(Ok(head)) => head,
            Ok(Err(error)) => return Err(unusable(address, &error)),
            Err(_) => {
                let action = format!("connecting to {address}");
                return Err(EngineError::TimedOut { action, limit: CONNECT_LIMIT });
            }
        };
        let Pong { newest, kind } = Pong::parse(&head)
            .map_err(|why| EngineError::NotAnEngine { address: address.clone(), why: why.to_owned() })?;
        let docker = Docker::connect_with_unix(address.as_str(), NO_LIMIT.as_secs(), API_DEFAULT_VERSION)
            .map_err(|error| EngineError::NotAnEngine { address: address.clone(), why: innermost(&error) })?;
        if newest < OLDEST_API {
            return Err(EngineError::TooOld { address: address.clone(), found: newest });
        }
        let own =
            ApiVersion { major: API_DEFAULT_VERSION.major_version, minor: API_DEFAULT_VERSION.minor_version };
        let api = newest.min(own);
        let docker = docker.with_request_modifier(move |request| prepare(request, api));
        Ok(Self { docker, api, kind })
    }
}

fn unusable(address: &EngineAddress, error: &io::Error) -> EngineError {
    let address = address.clone();
    match error.kind() {
        io::ErrorKind::NotFound => EngineError::NoSocket(address),
        io::ErrorKind::PermissionDenied => EngineError::PermissionDenied(address),
        io::ErrorKind::ConnectionRefused => EngineError::ConnectionRefused(address),
        _ => EngineError::NotAnEngine { address, why: error.to_string() },
    }
}

/// The head of the engine's answer to `/_ping`. That answer names the newest API in every engine, and is at once
/// there; for `/version` podman runs several programs and takes a second.
async fn ping(address: &EngineAddress) -> io::Result<String> {
    let mut stream = UnixStream::connect(address.path()).await?;
    // HTTP/1.0, as its answer ends with the connection (RFC 1945).
    stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.take(MAX_HEAD_BYTES).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// What an engine says of itself in the answer to `/_ping`.
#[derive(Debug, PartialEq, Eq)]
struct Pong {
    /// The newest API that it knows.
    newest: ApiVersion,
    kind: EngineKind,
}

impl Pong {
    fn parse(answer: &str) -> Result<Self, &'static str> {
        let mut lines = answer.lines();
        let mut status = lines.next().unwrap_or_default().split(' ');
        if !status.next().is_some_and(|protocol| protocol.starts_with("HTTP/1.")) {
            return Err("it does not speak HTTP");
        }
        if status.next() != Some("200") {
            return Err("it does not know `/_ping`");
        }
        let headers = lines.take_while(|line| !line.is_empty()).filter_map(|line| line.split_once(':'));
        let (mut newest, mut kind) = (None, EngineKind::Docker);
        for (name, value) in headers {
            if name.eq_ignore_ascii_case("api-version") {
                newest = ApiVersion::parse(value.trim());
            } else if name.eq_ignore_ascii_case("libpod-api-version") {
                kind = EngineKind::Podman;
            }
        }
        let newest = newest.ok_or("it names no API version")?;
        Ok(Self { newest, kind })
    }
}

/// Mends two things of bollard 0.21's requests. Their paths have no API version, so that the engine would answer
/// in its newest, which may have changed. The credentials for a registry are in the standard alphabet of
/// base64, and the engine wants the one for URLs (RFC 4648, section 5).
fn prepare(mut request: BollardRequest, api: ApiVersion) -> BollardRequest {
    if let Some(value) = request.headers_mut().get_mut("x-registry-auth") {
        let in_url_alphabet = value.to_str().map(|text| text.replace('+', "-").replace('/', "_"));
        if let Some(mended) = in_url_alphabet.ok().and_then(|text| HeaderValue::from_str(&text).ok()) {
            *value = mended;
        }
    }
    let mut parts = request.uri().clone().into_parts();
    let path = parts.path_and_query.as_ref().map_or("/", PathAndQuery::as_str);
    if let Ok(versioned) = PathAndQuery::try_from(format!("/v{api}{path}")) {
        parts.path_and_query = Some(versioned);
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    request
}

/// What bollard's calls return.
pub(crate) type BollardResult<T> = Result<T, BollardError>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_is_known_by_the_head_of_its_answer() {
        let newest = ApiVersion { major: 1, minor: 41 };
        for (kind, head) in [
            (EngineKind::Docker, "HTTP/1.0 200 OK\r\nApi-Version: 1.41\r\nServer: Docker/20.10\r\n\r\nOK"),
            (
                EngineKind::Podman,
                "HTTP/1.0 200 OK\r\nApi-Version: 1.41\r\nLibpod-Api-Version: 4.3.1\r\n\r\nOK",
            ),
            // What is in the body says nothing.
            (EngineKind::Docker, "HTTP/1.0 200 OK\r\napi-version: 1.41\r\n\r\nLibpod-Api-Version: 4.3.1"),
        ] {
            assert_eq!(Pong::parse(head), Ok(Pong { newest, kind }), "{head}");
        }
        for head in
            ["", "SSH-2.0-OpenSSH_9.2", "HTTP/1.1 404 Not Found\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n1.41"]
        {
            Pong::parse(head).expect_err(head);
        }
    }
}
