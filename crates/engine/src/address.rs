//! Where the engine listens.

use std::{
    borrow::Cow,
    fmt,
    path::{Path, PathBuf},
};

use bot_bottle_core::error::Hint;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Where docker listens unless it is told otherwise, dockerd(8).
const DOCKER_SOCKET: &str = "/var/run/docker.sock";

/// The unix socket of an engine of this host, as an absolute path. Written as `unix:///path`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EngineAddress(String);

/// The variables from which docker's own programs derive the address, and folders where sockets may be.
#[derive(Debug, Clone, Copy, Default)]
pub struct EngineEnvironment<'a> {
    /// `DOCKER_HOST`
    pub docker_host: Option<&'a str>,
    /// `DOCKER_CONTEXT`
    pub docker_context: Option<&'a str>,
    /// `XDG_RUNTIME_DIR`
    pub runtime_directory: Option<&'a Path>,
    /// The user's home.
    pub home: Option<&'a Path>,
}

/// Why an address cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AddressError {
    /// An engine of another host, or another way to reach one.
    #[error("`{0}` is not a unix socket: engines of other hosts are not supported yet")]
    Remote(String),
    /// `DOCKER_CONTEXT` names a context.
    #[error("the docker context `{0}` is not used: contexts are not supported yet")]
    Context(String),
    /// Something that is no address.
    #[error("`{0}` is not the address of a container engine")]
    Malformed(String),
}

impl Hint for AddressError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::Remote(_) | Self::Malformed(_) => {
                "set DOCKER_HOST to the socket of an engine of this host, such as \
                 unix:///var/run/docker.sock, or unset it"
                    .into()
            }
            Self::Context(name) => format!(
                "unset DOCKER_CONTEXT and set DOCKER_HOST to a unix socket; `docker context inspect {name}` \
                 shows the address of the context"
            )
            .into(),
        })
    }
}

impl EngineAddress {
    /// Reads `unix:///path` or an absolute path.
    ///
    /// # Errors
    /// For every other kind of address.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let path = text.strip_prefix("unix://").unwrap_or(text);
        if path.starts_with('/') && !path.ends_with('/') && !path.contains('\0') {
            return Ok(Self(path.to_owned()));
        }
        match text.split_once("://") {
            Some(("unix", _)) | None => Err(AddressError::Malformed(text.to_owned())),
            Some(_) => Err(AddressError::Remote(text.to_owned())),
        }
    }

    /// The address that docker's own programs would use, then those of rootless engines. `DOCKER_HOST` wins over
    /// `DOCKER_CONTEXT`, as it does for `docker`. Where no socket `exists`, it is the default one of docker, so
    /// that connecting says that no engine runs.
    ///
    /// # Errors
    /// When a variable names an engine that is not of this host.
    pub fn find(
        environment: &EngineEnvironment<'_>,
        exists: impl Fn(&Path) -> bool,
    ) -> Result<Self, AddressError> {
        if let Some(host) = environment.docker_host.filter(|host| !host.is_empty()) {
            return Self::parse(host);
        }
        // `default` is the name of the context that is the environment itself.
        if let Some(context) =
            environment.docker_context.filter(|context| !matches!(*context, "" | "default"))
        {
            return Err(AddressError::Context(context.to_owned()));
        }
        let of = |folder: Option<&Path>, rest: &str| folder.map(|folder| folder.join(rest));
        let candidates = [
            Some(PathBuf::from(DOCKER_SOCKET)),
            of(environment.runtime_directory, "podman/podman.sock"),
            of(environment.runtime_directory, "docker.sock"),
            of(environment.home, ".docker/run/docker.sock"),
        ];
        let found = candidates.into_iter().flatten().find(|path| exists(path));
        match found.as_deref().map(Path::to_str) {
            Some(Some(path)) => Self::parse(path),
            Some(None) => Err(AddressError::Malformed(found.unwrap_or_default().display().to_string())),
            None => Ok(Self(DOCKER_SOCKET.to_owned())),
        }
    }

    /// The socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        Path::new(&self.0)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EngineAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "unix://{}", self.0)
    }
}

impl TryFrom<String> for EngineAddress {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        Self::parse(&text)
    }
}

impl From<EngineAddress> for String {
    fn from(address: EngineAddress) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unix_sockets_are_addresses() {
        for (text, path) in [("unix:///run/x.sock", "/run/x.sock"), ("/run/x.sock", "/run/x.sock")] {
            let address = EngineAddress::parse(text).expect("an address");
            assert_eq!(address.path(), Path::new(path), "{text}");
            let json = serde_json::to_string(&address).expect("JSON");
            assert_eq!(json, format!("\"unix://{path}\""));
            assert_eq!(serde_json::from_str::<EngineAddress>(&json).expect("read back"), address);
        }
        for text in [
            "tcp://10.0.0.1:2375",
            "http://localhost:2375",
            "https://localhost:2376",
            "ssh://user@host",
            "npipe:////./pipe/docker_engine",
            "fd://",
        ] {
            let error = EngineAddress::parse(text).expect_err("another host");
            assert_eq!(error, AddressError::Remote(text.to_owned()));
            assert!(error.hint().is_some_and(|hint| hint.contains("unix:///var/run/docker.sock")));
        }
        for text in ["", "docker.sock", "unix://", "unix://relative", "unix:///", "localhost:2375"] {
            assert_eq!(EngineAddress::parse(text), Err(AddressError::Malformed(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn the_environment_comes_before_the_default_sockets() {
        let environment = EngineEnvironment {
            runtime_directory: Some(Path::new("/run/user/7")),
            home: Some(Path::new("/home/u")),
            ..EngineEnvironment::default()
        };
        let find = |environment: &EngineEnvironment<'_>, existing: &[&str]| {
            EngineAddress::find(environment, |path| existing.iter().any(|other| path == Path::new(other)))
                .map(|address| address.as_str().to_owned())
        };
        let podman = "/run/user/7/podman/podman.sock";
        let rootless = "/run/user/7/docker.sock";
        let desktop = "/home/u/.docker/run/docker.sock";
        for (existing, expected) in [
            (&[DOCKER_SOCKET, podman][..], DOCKER_SOCKET),
            (&[rootless, podman], podman),
            (&[desktop, rootless], rootless),
            (&[desktop], desktop),
            (&[], DOCKER_SOCKET),
        ] {
            assert_eq!(find(&environment, existing).as_deref(), Ok(expected), "{existing:?}");
        }
        let with =
            |host, context| EngineEnvironment { docker_host: host, docker_context: context, ..environment };
        let named = Some("unix:///x.sock");
        assert_eq!(find(&with(named, None), &[DOCKER_SOCKET]).as_deref(), Ok("/x.sock"));
        assert_eq!(find(&with(named, Some("far")), &[DOCKER_SOCKET]).as_deref(), Ok("/x.sock"));
        assert_eq!(find(&with(Some(""), Some("default")), &[]).as_deref(), Ok(DOCKER_SOCKET));
        assert_eq!(
            find(&with(None, Some("far")), &[DOCKER_SOCKET]),
            Err(AddressError::Context("far".to_owned()))
        );
        assert!(find(&with(Some("tcp://far:2375"), None), &[DOCKER_SOCKET]).is_err());
    }
}
