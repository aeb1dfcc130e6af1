//! Why a program could not be installed.

use std::{borrow::Cow, io, path::PathBuf};

use bot_bottle_core::error::{Hint, IoError};
use thiserror::Error;

use super::unpack::UnpackError;

/// Why a program could not be installed.
#[derive(Debug, Error)]
pub(crate) enum InstallError {
    /// No registry is configured.
    #[error("no npm registry is known")]
    NoRegistry,
    /// The configured registry is not a URL.
    #[error("`{url}` is not the URL of a registry: {why}")]
    RegistryUrl {
        /// As written.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No certificate authority could be loaded.
    #[error("the certificate authorities cannot be read: {0}")]
    Certificates(String),
    /// No answer.
    #[error("{url} cannot be reached: {source}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// The failure.
        source: Box<ureq::Error>,
    },
    /// An answer that is not the package.
    #[error("{url} was answered with status {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The answer.
        status: u16,
    },
    /// The archive is truncated.
    #[error("reading {from} broke off after {received} bytes: {source}")]
    BrokenOff {
        /// URL or file.
        from: String,
        /// Bytes that came.
        received: u64,
        /// The failure.
        source: io::Error,
    },
    /// The archive is larger than the limit.
    #[error("{from} has more than {limit} bytes")]
    TooLarge {
        /// URL or file.
        from: String,
        /// Bytes.
        limit: u64,
    },
    /// The pinned integrity cannot be checked.
    #[error("`{0}` is not a SHA-512 integrity")]
    Pin(String),
    /// The archive is not the pinned one.
    #[error("{from} is not the archive that this version of bot-bottle pins: it has {found}, not {expected}")]
    Integrity {
        /// URL or file.
        from: String,
        /// The pinned integrity.
        expected: String,
        /// The integrity of what came.
        found: String,
    },
    /// The archive is the right one, but cannot be unpacked.
    #[error("{from} cannot be unpacked: {source}")]
    Archive {
        /// URL or file.
        from: String,
        /// The failure.
        source: UnpackError,
    },
    /// The archive does not have the program.
    #[error("the package {package} has no {}", .executable.display())]
    NoProgram {
        /// The package.
        package: String,
        /// Where the program should be.
        executable: PathBuf,
    },
    /// Another installation of the same provider is running.
    #[error("another installation is filling {}", .folder.display())]
    Busy {
        /// The provider's folder.
        folder: PathBuf,
    },
    /// A file or folder of the host.
    #[error(transparent)]
    File(#[from] IoError),
}

impl Hint for InstallError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        let hint = match self {
            Self::NoRegistry => {
                "give it with `--registry URL`, set NPM_CONFIG_REGISTRY or write `registry=URL` into ~/.npmrc; \
                 or download the package elsewhere and give it with `--archive FILE`"
            }
            Self::RegistryUrl { .. } => "write it as https://HOST/ or https://HOST/PATH/",
            Self::Certificates(_) => {
                "install your system's ca-certificates, or set SSL_CERT_FILE to a PEM file"
            }
            Self::Unreachable { .. } => {
                "check the network and HTTPS_PROXY; for a private certificate authority set NODE_EXTRA_CA_CERTS; \
                 or download the package elsewhere and give it with `--archive FILE`"
            }
            Self::Status { status: 401 | 403, .. } => {
                "the registry wants a login: `npm login` writes one into ~/.npmrc"
            }
            Self::Status { .. } => {
                "the registry may not have this package; give another with `--registry URL`, or the archive with \
                 `--archive FILE`"
            }
            Self::BrokenOff { .. } => "try again; nothing was left behind",
            Self::Integrity { .. } => {
                "nothing was installed; download it again, from another registry if this goes on"
            }
            Self::Busy { .. } => "wait until it has finished",
            Self::File(error) if error.is_out_of_space() => {
                "free some space (a program takes up to half a gigabyte), or move the folder with BOT_BOTTLE_HOME"
            }
            Self::File(_) => "check that the path exists and may be written",
            Self::TooLarge { .. } | Self::Pin(_) | Self::Archive { .. } | Self::NoProgram { .. } => {
                "this is a fault of bot-bottle or of the package; please report it"
            }
        };
        Some(hint.into())
    }
}
