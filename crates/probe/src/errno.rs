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

/// What an error means, with the name that manual pages use; or what the system says of it.
#[must_use]
pub(crate) fn name(error: &io::Error) -> String {
    match error.raw_os_error().and_then(known) {
        Some(name) => name.to_owned(),
        None => error.to_string(),
    }
}

/// Whether the kernel said no: by permission, by a read-only file system, or by having no such call or family.
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

/// What a system call that must be refused by permission has shown. An error that is no refusal means that
/// the call would have been allowed with better arguments.
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

/// What opening a file that must not be there, or not be for the bottle, has shown.
#[must_use]
pub(crate) fn by_absence<T>(result: Result<T, impl Into<io::Error>>, reached: &str) -> Observation {
    match result.map_err(Into::into) {
        Ok(_) => Observation::reached(reached),
        Err(error) => Observation::refused(name(&error)),
    }
}
