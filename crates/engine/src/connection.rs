//! A connection to an engine, for the synchronous client and for [`crate::attach`].

use std::{io, os::unix::net::UnixStream, time::Duration};

use bollard::{
    API_DEFAULT_VERSION, BollardRequest, Docker, errors::Error as BollardError, models::SystemVersion,
};
use http::{HeaderValue, Uri, uri::PathAndQuery};
use tokio::time::timeout;

use crate::{
    ApiVersion, EngineAddress, EngineError,
    error::{innermost, io_kind},
};

/// The oldest API that is spoken: docker 20.10, and podman since 4.0.
pub(crate) const OLDEST_API: ApiVersion = ApiVersion { major: 1, minor: 41 };

/// How long a call may take that only looks or changes a record.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(60);

/// How long an engine may take to say its version.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// For bollard's own time limit, which covers a whole request with its body: the limits are this crate's.
const NO_LIMIT: Duration = Duration::from_secs(u64::MAX);

/// An engine that has answered, and the API that is spoken with it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) docker: Docker,
    /// The newest API that both sides know; each request says it.
    pub(crate) api: ApiVersion,
    /// What the engine said of itself.
    pub(crate) version: SystemVersion,
}

impl Connection {
    pub(crate) async fn open(address: &EngineAddress) -> Result<Self, EngineError> {
        // hyper's error for a socket that cannot be connected to says less than the system's.
        UnixStream::connect(address.path()).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => EngineError::NoSocket(address.clone()),
            io::ErrorKind::PermissionDenied => EngineError::PermissionDenied(address.clone()),
            io::ErrorKind::ConnectionRefused => EngineError::ConnectionRefused(address.clone()),
            _ => not_an_engine(address, &error),
        })?;
        let docker = Docker::connect_with_unix(address.as_str(), NO_LIMIT.as_secs(), API_DEFAULT_VERSION)
            .map_err(|error| not_an_engine(address, &error))?;
        let version = match timeout(CONNECT_LIMIT, docker.version()).await {
            Ok(Ok(version)) => version,
            Ok(Err(error)) => return Err(not_an_engine(address, &error)),
            Err(_) => {
                let action = format!("connecting to {address}");
                return Err(EngineError::TimedOut { action, limit: CONNECT_LIMIT });
            }
        };
        let newest = version.api_version.as_deref().and_then(ApiVersion::parse).ok_or_else(|| {
            EngineError::NotAnEngine { address: address.clone(), why: "it names no API version".to_owned() }
        })?;
        if newest < OLDEST_API {
            return Err(EngineError::TooOld { address: address.clone(), found: newest });
        }
        let own =
            ApiVersion { major: API_DEFAULT_VERSION.major_version, minor: API_DEFAULT_VERSION.minor_version };
        let api = newest.min(own);
        let docker = docker.with_request_modifier(move |request| prepare(request, api));
        Ok(Self { docker, api, version })
    }
}

fn not_an_engine(address: &EngineAddress, error: &(dyn std::error::Error + 'static)) -> EngineError {
    if io_kind(error) == Some(io::ErrorKind::PermissionDenied) {
        return EngineError::PermissionDenied(address.clone());
    }
    EngineError::NotAnEngine { address: address.clone(), why: innermost(error) }
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
