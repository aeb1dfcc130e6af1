//! Errors of system calls in words, with the names that manual pages use.

use std::io;

use crate::outcome::Observation;

macro_rules! names {
    ($($name:ident = $words:literal),+ $(,)?) => {
        fn known(code: i32) -> Option<&'static str> {
            match code { $(libc::$name => Some(concat!($words, " (", stringify!($name), ")")),)+ _ => None }
        }
    };
}

names! {
    EACCES = "permission denied",
    EADDRNOTAVAIL = "no such address",
    EAFNOSUPPORT = "no such kind of socket",
    EBADF = "bad descriptor",
    EBUSY = "busy",
    ECONNREFUSED = "nobody listens",
    ECONNRESET = "connection reset",
    EEXIST = "exists already",
    EFAULT = "bad address",
    EHOSTUNREACH = "no way to the host",
    EINVAL = "invalid argument",
    ELOOP = "too many links",
    ENETUNREACH = "no way to the network",
    ENODEV = "no such device",
    ENOENT = "not there",
    ENOSYS = "no such call",
    ENOTDIR = "not a folder",
    ENOTTY = "not a terminal",
    ENXIO = "no such device",
    EPERM = "not permitted",
    EPIPE = "closed",
    EPROTONOSUPPORT = "no such protocol",
    EROFS = "read-only",
    ESOCKTNOSUPPORT = "no such type of socket",
    ESRCH = "no such process",
    ETIMEDOUT = "timed out",
    EXDEV = "another file system",
}

/// The name and meaning of an error as in manual pages, or the system's text for an unknown one.
#[must_use]
pub(crate) fn name(error: &io::Error) -> String {
    match error.raw_os_error().and_then(known) {
        Some(name) => name.to_owned(),
        None => error.to_string(),
    }
}

/// Whether the error is a refusal: missing permission, a read-only file system, an unknown call or socket
/// family.
#[must_use]
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EPERM
                | libc::EACCES
                | libc::EROFS
                | libc::ENOSYS
                | libc::EAFNOSUPPORT
                | libc::EPROTONOSUPPORT
                | libc::ESOCKTNOSUPPORT
        )
    )
}

/// Judges a system call that must be refused by permission. Any other error counts as reached: the call would
/// have been allowed with valid arguments.
#[must_use]
pub(crate) fn by_permission<T>(result: Result<T, impl Into<io::Error>>, reached: &str) -> Observation {
    match result.map_err(Into::into) {
        Ok(_) => Observation::reached(reached),
        Err(error) if is_refusal(&error) => Observation::refused(name(&error)),
        Err(error) => {
            Observation::reached(format!("no permission was missing; the call said {}", name(&error)))
        }
    }
}

/// Judges the opening of a file that must be absent or inaccessible.
#[must_use]
pub(crate) fn by_absence<T>(result: Result<T, impl Into<io::Error>>, reached: &str) -> Observation {
    match result.map_err(Into::into) {
        Ok(_) => Observation::reached(reached),
        Err(error) => Observation::refused(name(&error)),
    }
}
